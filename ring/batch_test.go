package ring_test

import (
	"context"
	"testing"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBatch(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
		for round := range uint64(200) { // over several laps
			var msgs [][]byte
			for i := range 1 + round%9 {
				msgs = append(msgs, message(int(round*37+i*i*51)%700, round+i))
			}
			if round%2 == 0 {
				require.NoError(t, p.TryBatch(msgs, func(i int) uint64 { return round*100 + uint64(i) }))
			} else {
				require.NoError(t, p.SendBatch(context.Background(), msgs, nil))
			}
			ringtest.MustCheck(t, r)
			got := ringtest.Poll(t, c, 100)
			require.Len(t, got, len(msgs))
			for i, m := range got {
				require.Equal(t, msgs[i], m.Data)
				require.Equal(t, got[0].Position, m.Position, "one record")
				if round%2 == 0 {
					require.Equal(t, round*100+uint64(i), m.Meta)
				} else {
					require.Zero(t, m.Meta)
				}
			}
			require.Equal(t, round+1, c.Stats().Records)
		}
	})
}

func TestBatchErrors(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	require.NoError(t, p.TryBatch(nil, nil))
	require.NoError(t, p.TryBatch([][]byte{}, nil))
	most := make([][]byte, 128) // granules of the largest frame
	assert.ErrorIs(t, p.TryBatch(append(most, nil), nil), ring.ErrTooLarge)
	assert.ErrorIs(t, p.SendBatch(context.Background(), append(most, nil), nil), ring.ErrTooLarge)
	assert.ErrorIs(t, p.TryBatch([][]byte{nil, make([]byte, r.MaxFrame())}, nil), ring.ErrTooLarge)
	assert.ErrorIs(t, p.TryBatch([][]byte{make([]byte, r.MaxFrame()+1)}, nil), ring.ErrTooLarge)
	assert.ErrorIs(t, p.TryBatch([][]byte{nil, nil}, func(i int) uint64 { return uint64(i) << ring.MetaBits }), ring.ErrMeta)
	assert.Empty(t, ringtest.Poll(t, c, 10))
	assert.Zero(t, r.Head(), "a refused batch left something")
	require.NoError(t, p.TryBatch(most, nil))
	assert.Len(t, ringtest.Poll(t, c, 1000), 128)
}

// All or nothing: a batch that does not fit leaves nothing behind.
func TestBatchFull(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	for range 1022 {
		require.NoError(t, p.TrySend(nil, 0))
	}
	require.ErrorIs(t, p.TryBatch([][]byte{{1}, {2}, {3}}, nil), ring.ErrFull)
	require.Len(t, ringtest.Poll(t, c, 2000), 1022)
	require.NoError(t, p.TryBatch([][]byte{{1}, {2}, {3}}, nil))
	got := ringtest.Poll(t, c, 10)
	require.Len(t, got, 3)
	assert.EqualValues(t, 1024, got[0].Position)
}

// A batch is invisible until it is there as a whole, also to a consumer that
// polls all the time.
func TestBatchAtOnce(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	ctx := ringtest.Context(t)
	const batches, size = 2000, 7
	sent := make(chan error, 1)
	go func() {
		msgs := make([][]byte, size)
		for range batches {
			if err := p.SendBatch(ctx, msgs, func(i int) uint64 { return uint64(i) }); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for got := 0; got < batches; {
		require.NoError(t, c.Wait(ctx))
		n, err := c.Poll(size, func(f ring.Frame) ring.Action { return ring.Continue })
		require.NoError(t, err)
		require.Contains(t, []int{0, size}, n, "a batch in parts") // 0: a pad was there
		got += n / size
	}
	require.NoError(t, <-sent)
}
