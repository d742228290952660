package ring_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// metas polls and returns the metas seen; answer maps a meta to the handler's
// answer, Continue if it is not there.
func metas(t *testing.T, c *ring.Consumer, limit int, answer map[uint64]ring.Action) (seen []uint64, n int) {
	t.Helper()
	n, err := c.Poll(limit, func(f ring.Frame) ring.Action {
		seen = append(seen, f.Meta)
		return answer[f.Meta]
	})
	require.NoError(t, err)
	return seen, n
}

// sendNumbered sends messages with metas 0, 1, … n-1: the ones in batch as one
// record, from the meta that is its first.
func sendNumbered(t *testing.T, p *ring.Producer, n, batchAt, batchLen int) {
	t.Helper()
	for i := 0; i < n; i++ {
		if i == batchAt {
			require.NoError(t, p.TryBatch(make([][]byte, batchLen), func(j int) uint64 { return uint64(batchAt + j) }))
			i += batchLen - 1
			continue
		}
		require.NoError(t, p.TrySend(nil, uint64(i)))
	}
}

// Every way a Poll can end, at each place in single records and in a batch:
// messages 2, 3, 4 are one record.
func TestPollEnds(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		for stop := range uint64(7) {
			for _, how := range []ring.Action{ring.Break, ring.Leave, ring.Continue} {
				r := ringtest.New(t, kind, ringtest.Tiny)
				p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
				sendNumbered(t, p, 7, 2, 3)

				limit, consumed := 100, stop+1
				switch how {
				case ring.Leave:
					consumed = stop
				case ring.Continue:
					limit = int(stop + 1)
				}
				seen, n := metas(t, c, limit, map[uint64]ring.Action{stop: how})
				require.Len(t, seen, int(stop+1))
				require.EqualValues(t, consumed, n)
				require.Equal(t, consumed, c.Stats().Messages)
				// What is not consumed is the next one, and is not released.
				position := consumed
				if consumed > 2 && consumed < 5 {
					position = 2
				}
				require.Equal(t, position, c.Position())
				require.Equal(t, position, r.Head())
				ringtest.MustCheck(t, r)
				if consumed < 7 {
					require.NoError(t, c.WaitUntil(context.Background(), 1), "what is left is ready")
				}

				rest, n := metas(t, c, 100, nil)
				require.EqualValues(t, 7-consumed, n)
				for i, m := range rest {
					require.Equal(t, consumed+uint64(i), m)
				}
				require.EqualValues(t, 7, c.Stats().Messages)
				require.EqualValues(t, 5, c.Stats().Records)
				require.EqualValues(t, 7, r.Head())
			}
		}
	})
}

func TestPollLimits(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	sendNumbered(t, p, 10, 4, 4)
	for _, limit := range []int{0, -1} {
		seen, n := metas(t, c, limit, nil)
		assert.Empty(t, seen)
		assert.Zero(t, n)
	}
	var all []uint64
	for i := 0; len(all) < 10; i++ {
		seen, n := metas(t, c, 1+i%3, nil)
		require.Equal(t, min(1+i%3, 10-len(all)), n)
		all = append(all, seen...)
	}
	assert.Equal(t, []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, all)
	seen, _ := metas(t, c, 1<<40, nil)
	assert.Empty(t, seen)
}

// Leave again and again: nothing is lost, nothing is released.
func TestLeaveTwice(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	sendNumbered(t, p, 4, 0, 3)
	for range 3 {
		seen, n := metas(t, c, 9, map[uint64]ring.Action{1: ring.Leave})
		if len(seen) == 2 {
			assert.Equal(t, 1, n)
			continue
		}
		assert.Equal(t, []uint64{1}, seen)
		assert.Zero(t, n)
	}
	seen, _ := metas(t, c, 9, nil)
	assert.Equal(t, []uint64{1, 2, 3}, seen)
}

func TestHandlerPanics(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		for at := range uint64(7) {
			r := ringtest.New(t, kind, ringtest.Tiny)
			p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
			sendNumbered(t, p, 7, 2, 3)
			require.PanicsWithValue(t, "handler", func() {
				c.Poll(100, func(f ring.Frame) ring.Action {
					if f.Meta == at {
						panic("handler")
					}
					return ring.Continue
				})
			})
			released := at + 1
			if released > 2 && released < 5 {
				released = 2
			}
			require.Equal(t, released, r.Head(), "what was delivered is released")
			rest, _ := metas(t, c, 100, nil)
			require.Len(t, rest, int(6-at), "the message of the panic is consumed")
			if len(rest) > 0 {
				require.Equal(t, at+1, rest[0])
			}
		}
	})
}

// Frames lie in the ring itself, are as long as the message, and cannot be
// appended to.
func TestFramesInPlace(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
		sizes := []int{0, 1, 63, 64, 65, 1000}
		for i, n := range sizes {
			require.NoError(t, p.TrySend(message(n, uint64(i)), 0))
		}
		batch := make([][]byte, len(sizes))
		for i, n := range sizes {
			batch[i] = message(n, uint64(i))
		}
		require.NoError(t, p.TryBatch(batch, nil))
		data := r.Segment().Bytes()[ring.TableAt+r.Granules()*16:]
		var i, granule int
		_, err := c.Poll(100, func(f ring.Frame) ring.Action {
			n := sizes[i%len(sizes)]
			assert.Len(t, f.Data, n)
			assert.Equal(t, n, cap(f.Data))
			if n > 0 {
				assert.Same(t, &data[granule*64], &f.Data[0], "aligned to a granule, in place")
			}
			granule += max(1, (n+63)/64)
			i++
			return ring.Continue
		})
		require.NoError(t, err)
		assert.Equal(t, 2*len(sizes), i)
	})
}

// A Poll of much gives space back before its end, but never that of the record
// in the handler's hands.
func TestReleaseWithinPoll(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	a := ringtest.Attach(t, r)
	p, c := a.NewProducer(), ringtest.Consume(t, r)
	for range 128 {
		require.NoError(t, p.TrySend(make([]byte, 8*64), 0))
	}
	q := a.NewProducer()
	during := 0
	_, err := c.Poll(128, func(f ring.Frame) ring.Action {
		assert.LessOrEqual(t, r.Head(), f.Position)
		if q.TrySend(nil, 1) == nil {
			during++
		}
		return ring.Continue
	})
	require.NoError(t, err)
	assert.Positive(t, during, "no space came back before the end")
	assert.Len(t, ringtest.Poll(t, c, 1000), during)
}

func TestManualRelease(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		p, c := ringtest.Producer(t, r), ringtest.Consume(t, r, ring.WithManualRelease())
		for i := range 8 {
			require.NoError(t, p.TrySend(message(r.MaxFrame(), uint64(i)), 0))
		}
		require.Len(t, ringtest.Poll(t, c, 5), 5)
		assert.Zero(t, r.Head())
		assert.ErrorIs(t, p.TrySend(nil, 0), ring.ErrFull)
		assert.ErrorIs(t, c.Release(c.Position()+1), ring.ErrRelease)
		require.NoError(t, c.Release(2*128))
		assert.ErrorIs(t, c.Release(2*128-1), ring.ErrRelease)
		assert.EqualValues(t, 2*128, r.Head())
		require.NoError(t, p.TrySend(nil, 7))
		require.NoError(t, c.Close())
		assert.ErrorIs(t, c.Release(0), os.ErrClosed)

		again := ringtest.Consume(t, r)
		assert.ErrorIs(t, again.Release(0), ring.ErrNotManual)
		got := ringtest.Poll(t, again, 100)
		require.Len(t, got, 7, "what was not released comes again")
		assert.Equal(t, message(r.MaxFrame(), 2), got[0].Data)
		s, err := r.Stats()
		require.NoError(t, err)
		assert.EqualValues(t, 2, s.Consumers)
	})
}

func TestOneConsumer(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		a := ringtest.Attach(t, r)
		alive, err := a.ConsumerAlive()
		require.NoError(t, err)
		assert.False(t, alive)
		c, err := r.Consume()
		require.NoError(t, err)
		_, err = r.Consume()
		assert.ErrorIs(t, err, ring.ErrConsumerBusy)
		alive, err = a.ConsumerAlive()
		require.NoError(t, err)
		assert.True(t, alive)
		alive, err = c.SlotAlive(a.Slot())
		require.NoError(t, err)
		assert.True(t, alive)
		alive, err = c.SlotAlive(a.Slot() + 1)
		require.NoError(t, err)
		assert.False(t, alive)
		s, err := r.Stats()
		require.NoError(t, err)
		assert.Equal(t, os.Getpid(), s.PID)
		require.NoError(t, c.Close())
		assert.ErrorIs(t, c.Close(), os.ErrClosed)
		_, err = c.Poll(1, nil)
		assert.ErrorIs(t, err, os.ErrClosed)
		assert.ErrorIs(t, c.Wait(context.Background()), os.ErrClosed)
		assert.ErrorIs(t, c.WaitUntil(context.Background(), shm.Now()), os.ErrClosed)
		ringtest.Consume(t, r)
	})
}

func TestWaitUntil(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	assert.ErrorIs(t, c.WaitUntil(context.Background(), 1), os.ErrDeadlineExceeded, "long past")
	deadline := shm.Now() + int64(3*time.Millisecond)
	assert.ErrorIs(t, c.WaitUntil(context.Background(), deadline), os.ErrDeadlineExceeded)
	assert.GreaterOrEqual(t, shm.Now(), deadline)

	// Also behind a claim that is open.
	claim, err := p.TryClaim(1, 0)
	require.NoError(t, err)
	deadline = shm.Now() + int64(3*time.Millisecond)
	assert.ErrorIs(t, c.WaitUntil(context.Background(), deadline), os.ErrDeadlineExceeded)
	assert.GreaterOrEqual(t, shm.Now(), deadline)
	assert.Less(t, shm.Now(), deadline+int64(ringtest.Patience))
	require.NoError(t, claim.Commit())
	assert.NoError(t, c.WaitUntil(context.Background(), 1), "ready is ready")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.Len(t, ringtest.Poll(t, c, 2), 1)
	assert.ErrorIs(t, c.Wait(ctx), context.Canceled)
}

func TestInterruptIsKept(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	c.Interrupt()
	c.Interrupt()
	assert.ErrorIs(t, c.Wait(context.Background()), ring.ErrInterrupted)
	assert.ErrorIs(t, c.WaitUntil(context.Background(), 1), os.ErrDeadlineExceeded, "once")
	require.NoError(t, p.TrySend(nil, 0))
	c.Interrupt()
	assert.ErrorIs(t, c.Wait(context.Background()), ring.ErrInterrupted, "also when there is something")
	assert.NoError(t, c.Wait(context.Background()))
}
