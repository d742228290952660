package stress

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender"
)

// The witness sees claims and locks as they are, by the protocol's tables alone.
func TestSegment(t *testing.T) {
	h, err := NewHost(Config{Capacity: 64 << 10})
	require.NoError(t, err)
	require.NoError(t, h.Start())
	defer func() { require.Empty(t, h.Stop()) }()
	f, err := h.main.segment()
	require.NoError(t, err)
	seg, err := openSegment(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	defer seg.close()
	require.EqualValues(t, 1024, seg.size)
	require.Equal(t, -1, seg.slotOf(os.Getpid()))

	s, pipe, err := h.main.(*here).router.Pipe()
	require.NoError(t, err)
	pipe.Handle(func(router.Message) {}, nil)
	require.NoError(t, s.Start())
	slot := seg.slotOf(os.Getpid())
	require.GreaterOrEqual(t, slot, 0)
	var claims [3]sender.Claim
	for i := range claims {
		claims[i], err = s.TryClaim(200)
		require.NoError(t, err)
	}
	pos, w, ok := seg.claimOf(slot)
	require.True(t, ok)
	require.EqualValues(t, 4, granulesOf(w))
	require.EqualValues(t, stateBusy, stateOf(seg.word(pos)))
	require.False(t, seg.unlooked(pos, w) && seg.head() == pos, "two claims are behind it")
	require.True(t, seg.unlooked(pos+4, w), "the consumer has not come there")
	_, _, ok = seg.claimOf(slot + 1)
	require.False(t, ok)
	require.NoError(t, claims[1].Commit())
	claims[0].Abort()
	second, _, ok := seg.claimOf(slot)
	require.True(t, ok)
	require.Equal(t, pos+8, second)
	claims[2].Abort()
	_, _, ok = seg.claimOf(slot)
	require.False(t, ok)
	require.NoError(t, s.Stop())
	held, err := seg.held(slot)
	require.NoError(t, err)
	require.False(t, held)

	// The slot's next holder is not taken for the last one.
	last := seg.instance(slot)
	s, pipe2, err := h.main.(*here).router.Pipe()
	require.NoError(t, err)
	require.NoError(t, s.Start())
	require.Equal(t, slot, seg.slotOf(os.Getpid()))
	held, err = seg.heldBy(slot, last)
	require.NoError(t, err)
	require.False(t, held)
	held, err = seg.heldBy(slot, seg.instance(slot))
	require.NoError(t, err)
	require.True(t, held)
	require.NoError(t, s.Stop())
	require.NoError(t, pipe2.Close())
	require.NoError(t, pipe.Close())
}

// A ring that begins far on is one that has come there.
func TestStartAt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "segment")
	for _, pos := range []uint64{0, 1021, 1<<32 - 7, (1<<30-1)<<10 - 3, 1<<43 + 5} {
		r, err := router.New(router.WithPath(path), router.WithResume(), router.WithCapacity(64<<10))
		require.NoError(t, err)
		require.NoError(t, r.Start())
		require.NoError(t, r.Stop())
		require.NoError(t, startAt(path, pos))
		require.NoError(t, r.Start())
		s, pipe, err := r.Pipe()
		require.NoError(t, err)
		require.NoError(t, s.Start())
		for i := range 700 {
			require.NoError(t, s.Send(t.Context(), make([]byte, i%500)))
			m, err := pipe.Recv(t.Context())
			require.NoError(t, err)
			require.Len(t, m.Data, i%500)
		}
		require.Greater(t, r.Stats().Ring.Head, pos+1024)
		require.Zero(t, r.Stats().Damages)
		require.NoError(t, s.Stop())
		require.NoError(t, pipe.Close())
		require.NoError(t, r.Stop())
		require.NoError(t, os.Remove(path))
	}
}
