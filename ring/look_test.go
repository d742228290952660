package ring_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// viewOf opens a second Ring on the segment, for looking only.
func viewOf(t *testing.T, r *ring.Ring) *ring.Ring {
	t.Helper()
	f, err := r.File()
	require.NoError(t, err)
	defer f.Close()
	own, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	require.NoError(t, err)
	defer own.Close()
	seg, err := shm.View(own)
	require.NoError(t, err)
	defer seg.Close()
	v, err := ring.Open(seg)
	require.NoError(t, err)
	t.Cleanup(func() { v.Close() })
	return v
}

func TestLookAtRecords(t *testing.T) {
	for _, kind := range []shm.Kind{shm.Memfd, shm.Named} {
		t.Run(kind.String(), func(t *testing.T) {
			r := ringtest.New(t, kind, ringtest.Tiny)
			v := viewOf(t, r)
			require.Equal(t, r.Created().UnixNano(), v.Created().UnixNano())
			_, err := v.RecordAt(0)
			require.ErrorIs(t, err, ring.ErrUnclaimed)

			p := ringtest.Producer(t, r)
			require.NoError(t, p.TrySend([]byte("one"), 1))
			require.NoError(t, p.TryBatch([][]byte{[]byte("two"), make([]byte, 100), nil}, func(i int) uint64 { return uint64(10 + i) }))
			c, err := p.TryClaim(64, 0)
			require.NoError(t, err)
			defer c.Abort()

			first, err := v.RecordAt(0)
			require.NoError(t, err)
			require.Equal(t, ring.RecordCommitted, first.State)
			require.EqualValues(t, 1, first.Granules)
			msgs, err := v.MessagesOf(first)
			require.NoError(t, err)
			require.Equal(t, []ring.RecordMessage{{Meta: 1, Data: []byte("one")}}, msgs)

			batch, err := v.RecordAt(1)
			require.NoError(t, err)
			require.EqualValues(t, 4, batch.Granules)
			msgs, err = v.MessagesOf(batch)
			require.NoError(t, err)
			require.Len(t, msgs, 3)
			require.Len(t, msgs[1].Data, 100)
			require.EqualValues(t, 12, msgs[2].Meta)

			open, err := v.RecordAt(5)
			require.NoError(t, err)
			require.Equal(t, ring.RecordBusy, open.State)
			msgs, err = v.MessagesOf(open)
			require.NoError(t, err)
			require.Empty(t, msgs)
			_, err = v.RecordAt(6)
			require.ErrorIs(t, err, ring.ErrUnclaimed)

			_, err = v.Attach()
			require.ErrorIs(t, err, shm.ErrReadOnly)
			held, err := v.SlotHeld(0)
			require.NoError(t, err)
			require.True(t, held)
			held, err = v.ConsumerHeld()
			require.NoError(t, err)
			require.False(t, held)

			cons := ringtest.Consume(t, r)
			held, err = v.ConsumerHeld()
			require.NoError(t, err)
			require.True(t, held)
			n, err := cons.Poll(10, func(ring.Frame) ring.Action { return ring.Continue })
			require.NoError(t, err)
			require.Equal(t, 4, n)
			_, err = v.RecordAt(0)
			require.ErrorIs(t, err, ring.ErrReleased)
			_, err = v.MessagesOf(batch)
			require.ErrorIs(t, err, ring.ErrReleased, "what is copied now may be torn")
			require.NoError(t, v.Check())
		})
	}
}

func TestLookPastDamage(t *testing.T) {
	r := ringtest.NewUnchecked(t, shm.Memfd, ringtest.Tiny)
	v := viewOf(t, r)
	p := ringtest.Producer(t, r)
	for range 3 {
		require.NoError(t, p.TrySend(make([]byte, 100), 0))
	}
	// The second record claims to reach beyond its lap.
	word := r.Segment().Word64(45056 + 2*16)
	whole := word.Load()
	word.Store(whole | 1<<63)
	defer word.Store(whole) // the attachment sweeps when it leaves
	_, err := v.RecordAt(2)
	require.ErrorIs(t, err, ring.ErrCorrupt)
	next, err := v.NextRecord(2)
	require.NoError(t, err)
	require.EqualValues(t, 4, next)
	_, err = v.RecordAt(next)
	require.NoError(t, err)
}

func TestHasMagic(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	require.True(t, ring.HasMagic(r.Segment().Bytes()))
	require.False(t, ring.HasMagic(r.Segment().Bytes()[:7]))
	require.False(t, ring.HasMagic(make([]byte, 8)))
}
