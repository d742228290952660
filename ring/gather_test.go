package ring_test

import (
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A stream that is three times as fast where its consumer stays away goes on with pauses, and
// comes to the frontier for seventeen messages at first, and once in 32 pauses.
func TestGatheringThatPays(t *testing.T) {
	var g ring.Gathering
	alone := 0
	for range 100_000 {
		n := uint64(1)
		if g.Now += 60; g.Reach(n) {
			n = uint64(ring.GatherTime.Nanoseconds()) / 20
			for g.Now += 1000; g.Reach(n); g.Now += 1000 {
			}
			continue
		}
		alone++
	}
	// The row is timed from what the last pause has brought on, and its last message begins a pause.
	assert.Greater(t, g.Pauses, int64(150_000))
	assert.InDelta(t, g.Pauses/32*15, alone, 32)
}

// What comes at the same pace whether it is looked at or not is left alone, but for trials that
// become rare: a paced stream, and a few who wait for their answers.
func TestGatheringThatDoesNotPay(t *testing.T) {
	for name, behind := range map[string]func(g *ring.Gathering) (n uint64){
		"paced":   func(*ring.Gathering) uint64 { return uint64(ring.GatherTime.Nanoseconds()) / 300 },
		"answers": func(*ring.Gathering) uint64 { return 4 },
		"a burst that ends": func(g *ring.Gathering) uint64 {
			g.Now += int64(time.Millisecond)
			return 500
		},
	} {
		t.Run(name, func(t *testing.T) {
			var g ring.Gathering
			for range 1_000_000 {
				if g.Now += 300; g.Reach(1) {
					n := behind(&g)
					g.Now += 10
					assert.False(t, g.Reach(n), "it goes on")
				}
			}
			// Rows of 17 messages: 1,023 between two trials, once ten have failed.
			assert.LessOrEqual(t, g.Pauses, int64(10+1_000_000/17/1023+1))
			assert.GreaterOrEqual(t, g.Pauses, int64(10))
		})
	}
}

// A stream that changes is tried again: after pauses that paid, one that does not ends them, and
// the next row is a reason to try.
func TestGatheringBeginsAgain(t *testing.T) {
	var g ring.Gathering
	row := func() {
		for !g.Reach(1) {
			g.Now += 60
		}
	}
	for range 20 {
		row()
		for range 5 {
			g.Now += 10
			require.True(t, g.Reach(1000))
		}
		g.Now += int64(time.Millisecond)
		require.False(t, g.Reach(10))
	}
	assert.EqualValues(t, 20*6, g.Pauses)
}

// No row: messages that come more slowly than in half a microsecond, and polls between which others
// did not come to the frontier.
func TestNoReasonToGather(t *testing.T) {
	for name, step := range map[string]func(g *ring.Gathering, i int) uint64{
		"slow": func(g *ring.Gathering, _ int) uint64 { g.Now += 501; return 1 },
		"between": func(g *ring.Gathering, i int) uint64 {
			g.Now += 10
			if i%10 == 0 {
				g.Messages += 256 // a Poll that ended by its limit
			}
			return 1
		},
	} {
		var g ring.Gathering
		for i := range 10_000 {
			n := step(&g, i)
			require.False(t, g.Reach(n), name)
		}
	}
}

// Who sends and polls in turn is not kept waiting at each Poll: staying away for a moment brings
// nothing there.
func TestGatherMoments(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	away := 0
	for range 10_000 {
		require.NoError(t, p.TrySend(nil, 0))
		if c.StaysAway() {
			away++
		}
		require.Len(t, ringtest.Poll(t, c, 9), 1)
	}
	assert.LessOrEqual(t, away, 10+10_000/1024)
	if !shm.CanSpin() {
		return
	}
	assert.Positive(t, away)
	for away = 0; !c.StaysAway(); away++ { // once it has come to know better
		require.NoError(t, p.TrySend(nil, 0))
		require.Len(t, ringtest.Poll(t, c, 9), 1)
	}
	for range 100 {
		require.NoError(t, p.TrySend(nil, 0))
		require.NoError(t, p.TrySend(nil, 0))
		require.True(t, c.StaysAway())
		require.Len(t, ringtest.Poll(t, c, 9), 2)
	}
	require.Empty(t, ringtest.Poll(t, c, 9))
	require.False(t, c.StaysAway(), "in front of nothing")
}

// Only an adaptive consumer lets messages gather.
func TestModesGather(t *testing.T) {
	t.Cleanup(ring.SetGatherPace(time.Hour))
	for name, how := range modes {
		r := ringtest.New(t, shm.Heap, ringtest.Tiny)
		p, c := ringtest.Producer(t, r), ringtest.Consume(t, r, ring.WithWaiting(how))
		take := func(ring.Frame) ring.Action { return ring.Continue }
		one := func() bool {
			err := p.TrySend(nil, 0)
			if n, err2 := c.Poll(9, take); n != 1 || err != nil || err2 != nil {
				t.Fatal(n, err, err2)
			}
			return c.Gathers()
		}
		if how == ring.Adaptive && shm.CanSpin() {
			for row := 0; !one(); row++ {
				require.Less(t, row, 17, "a row of visits is a reason to try")
			}
			continue
		}
		for range 1000 {
			require.False(t, one(), name)
		}
	}
}

// A pause delays what is there by its time, and is ended by an interrupt; both calls look for it.
func TestGatherPause(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	for range 3 {
		require.NoError(t, p.TrySend(nil, 0))
		for name, look := range map[string]func(){
			"Wait": func() { require.NoError(t, c.Wait(t.Context())) },
			"Poll": func() { ringtest.Poll(t, c, 0) },
		} {
			c.LetGather()
			before := shm.Now()
			look()
			assert.GreaterOrEqual(t, shm.Now()-before, ring.GatherTime.Nanoseconds(), name)
			assert.False(t, c.Gathers(), name)
		}
		require.Len(t, ringtest.Poll(t, c, 9), 1)
	}
	c.LetGather()
	c.Interrupt()
	assert.ErrorIs(t, c.Wait(t.Context()), ring.ErrInterrupted)
}
