package ring_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/ring"
)

// A segment on huge pages is longer than the ring in it. Where there are none the
// same holds on small ones.
func TestHugePages(t *testing.T) {
	o := ring.Options{Capacity: ring.MinCapacity, UserSize: 1, HugePages: true}
	r, err := ring.New(o)
	require.NoError(t, err)
	defer r.Close()
	total, _, err := ring.SegmentSize(o)
	require.NoError(t, err)
	stats, err := r.Stats()
	require.NoError(t, err)
	page := int64(stats.PageSize)
	require.GreaterOrEqual(t, page, int64(os.Getpagesize()))
	require.Equal(t, (total+page-1)/page*page, r.Segment().Size())

	f, err := r.File()
	require.NoError(t, err)
	defer f.Close()
	other, err := ring.OpenFile(f)
	require.NoError(t, err)
	defer other.Close()
	off, size := other.User()
	require.Equal(t, total, off+size)

	a, err := other.Attach()
	require.NoError(t, err)
	defer a.Close()
	c, err := r.Consume()
	require.NoError(t, err)
	defer c.Close()
	p := a.NewProducer()
	for i := range 3 * ring.MinCapacity / 1024 { // three laps
		require.NoError(t, p.TrySend(make([]byte, 1024), uint64(i)))
		n, err := c.Poll(1, func(f ring.Frame) ring.Action {
			require.Equal(t, uint64(i), f.Meta)
			return ring.Continue
		})
		require.NoError(t, err)
		require.Equal(t, 1, n)
	}
}
