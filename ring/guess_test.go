package ring_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A send guesses which word it replaces when the last ones were alike. Where a lap ends, another sender
// has come, or something else was there, the guess is wrong, and the message takes its place all the same.
func TestSendGuesses(t *testing.T) {
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	c := ringtest.Consume(t, r)
	ps := []*ring.Producer{ringtest.Producer(t, r), ringtest.Producer(t, r)}
	random := rand.New(rand.NewPCG(1, 2))
	sent, got := make([]uint64, len(ps)), make([]uint64, len(ps))
	b := make([]byte, ring.Granule*4)
	right, wrong := 0, 0
	send := func(i, size int) {
		binary.LittleEndian.PutUint64(b, sent[i])
		guesses := ps[i].Guesses()
		if err := ps[i].TrySend(b[:size], uint64(i)); err != nil {
			require.ErrorIs(t, err, ring.ErrFull)
			return
		}
		sent[i]++
		switch {
		case guesses && ps[i].Guesses():
			right++
		case guesses:
			wrong++
		}
	}
	take := func(f ring.Frame) ring.Action {
		require.Equal(t, got[f.Meta], binary.LittleEndian.Uint64(f.Data))
		got[f.Meta]++
		return ring.Continue
	}
	for range 200_000 {
		switch random.IntN(50) {
		case 0:
			send(1, 8+random.IntN(len(b)-8))
		case 1:
			if claim, err := ps[0].TryClaim(ring.Granule*random.IntN(3), 0); err == nil {
				claim.Abort()
			}
		case 2:
			_, err := c.Poll(random.IntN(200), take)
			require.NoError(t, err)
		default:
			send(0, ring.Granule)
		}
	}
	_, err := c.Poll(ring.MinCapacity, take)
	require.NoError(t, err)
	require.NoError(t, r.Check())
	assert.Equal(t, sent, got)
	assert.Greater(t, right, 1000)
	assert.Greater(t, wrong, 100)
}

// Somebody has scribbled on the hint, and positions go back: what a send knows of the words there is no
// guess any more.
func TestNoGuessBehindDamage(t *testing.T) {
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	p := ringtest.Producer(t, r)
	for range 3 {
		require.NoError(t, p.TrySend(nil, 0))
	}
	require.True(t, p.Guesses())
	r.SetHint(1 << 40)
	require.NoError(t, p.TrySend(nil, 0))
	require.False(t, p.Guesses())
	require.EqualValues(t, 4, p.Position())
	r.SetHint(0)
}
