package ring_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Many producers, on one attachment and on several, with every way of sending;
// consumers that take over from each other; somebody who checks all the time.
// Each producer's messages come in order, once, and whole.
func TestTraffic(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		ctx := ringtest.Context(t)
		random := ringtest.Random(t)
		const attachments, producers = 3, 3
		const each = 1000
		var all sync.WaitGroup
		id := uint32(0)
		for range attachments {
			a := ringtest.Attach(t, r)
			for range producers {
				id++ // two of the same number would look like duplicates
				id := id
				seed := random.Uint64()
				all.Go(func() {
					err := produce(ctx, a.NewProducer(), rand.New(rand.NewPCG(seed, 1)), id, each)
					assert.NoError(t, err)
				})
			}
		}
		var stop atomic.Bool
		checked := make(chan int, 1)
		go func() {
			n := 0
			for ; !stop.Load(); n++ {
				assert.NoError(t, r.Check())
				_, err := r.Stats()
				assert.NoError(t, err)
				_, err = r.Frontier()
				assert.NoError(t, err)
				runtime.Gosched()
			}
			checked <- n
		}()

		total := attachments * producers * each
		var got atomic.Int64
		last := map[uint32]uint64{} // guarded by the consumer's seat
		var lastRecord uint64       // likewise: position of the last record seen
		consume := func() {
			for got.Load() < int64(total) && ctx.Err() == nil {
				c, err := r.Consume()
				if errors.Is(err, ring.ErrConsumerBusy) {
					runtime.Gosched()
					continue
				}
				if !assert.NoError(t, err) {
					return
				}
				again := true // a successor gets a batch from its first message on
				for range 20 {
					if got.Load() == int64(total) {
						break
					}
					if !assert.NoError(t, c.Wait(ctx), "%d of %d", got.Load(), total) {
						break
					}
					_, err := c.Poll(1+int(got.Load()%50), func(f ring.Frame) ring.Action {
						id, number, err := ringtest.Verify(f.Data)
						assert.NoError(t, err)
						if again = again && f.Position == lastRecord && number <= last[id]; again {
							return ring.Continue
						}
						lastRecord = f.Position
						got.Add(1)
						assert.Equal(t, last[id]+1, number, "of producer %d", id)
						last[id] = number
						return ring.Continue
					})
					assert.NoError(t, err)
				}
				assert.NoError(t, c.Close())
			}
		}
		for range 3 {
			all.Go(consume)
		}
		all.Wait()
		stop.Store(true)
		assert.Positive(t, <-checked)
		require.EqualValues(t, total, got.Load())
		s, err := r.Stats()
		require.NoError(t, err)
		assert.GreaterOrEqual(t, s.Consumer.Messages, uint64(total))
		assert.Equal(t, -1, s.Turn)
	})
}

// produce sends n messages with the sender's number and their own, in any way.
func produce(ctx context.Context, p *ring.Producer, random *rand.Rand, id uint32, n int) error {
	size := func() int { return 16 + random.IntN(1<<(4+random.IntN(9))) }
	for number := uint64(1); number <= uint64(n); {
		switch random.IntN(10) {
		case 0:
			claim, err := p.Claim(ctx, size()+200, uint64(id))
			if err != nil {
				return err
			}
			used := claim.Bytes()[:len(claim.Bytes())-random.IntN(200)]
			ringtest.Fill(used, id, number)
			if err := claim.CommitN(len(used)); err != nil {
				return err
			}
			number++
		case 1:
			claim, err := p.Claim(ctx, size(), uint64(id))
			if err != nil {
				return err
			}
			clear(claim.Bytes())
			claim.Abort()
		case 2:
			var batch [][]byte
			for ; len(batch) < 6 && number <= uint64(n); number++ {
				b := make([]byte, min(size(), 1000))
				ringtest.Fill(b, id, number)
				batch = append(batch, b)
			}
			if err := p.SendBatch(ctx, batch, nil); err != nil {
				return err
			}
		default:
			b := make([]byte, size())
			ringtest.Fill(b, id, number)
			if err := p.Send(ctx, b, uint64(id)); err != nil {
				return err
			}
			number++
		}
	}
	return nil
}

// Claims that stay open for a while, in several goroutines, abort and commit
// in any order.
func TestOpenClaimsUnderTraffic(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	ctx := ringtest.Context(t)
	c := ringtest.Consume(t, r)
	const senders, each = 4, 500
	seeds := ringtest.Random(t)
	var committed atomic.Int64
	var all sync.WaitGroup
	for i := range senders {
		p := ringtest.Producer(t, r)
		seed := seeds.Uint64()
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, 2))
			for range each {
				var open []ring.Claim
				for range 1 + random.IntN(4) {
					claim, err := p.TryClaim(16+random.IntN(400), 0)
					if err == ring.ErrFull {
						break
					}
					if !assert.NoError(t, err) {
						return
					}
					ringtest.Fill(claim.Bytes(), uint32(i), 1)
					open = append(open, claim)
				}
				random.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
				for _, claim := range open {
					if random.IntN(3) == 0 {
						claim.Abort()
					} else if assert.NoError(t, claim.Commit()) {
						committed.Add(1)
					}
				}
				runtime.Gosched()
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done); c.Interrupt() }()
	var got int64
	take := func(f ring.Frame) ring.Action {
		_, _, err := ringtest.Verify(f.Data)
		assert.NoError(t, err)
		return ring.Continue
	}
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
			if err := c.Wait(ctx); err != nil {
				require.ErrorIs(t, err, ring.ErrInterrupted)
			}
		}
		n, err := c.Poll(100, take)
		require.NoError(t, err)
		got += int64(n)
	}
	for c.Position() != frontier(t, r) {
		n, err := c.Poll(100, take)
		require.NoError(t, err)
		got += int64(n)
	}
	require.Equal(t, committed.Load(), got)
}

func frontier(t *testing.T, r *ring.Ring) uint64 {
	t.Helper()
	pos, err := r.Frontier()
	require.NoError(t, err)
	return pos
}

// The message published through one ring happens before what its receiver does,
// also before the race detector on mapped memory: memory that the sender wrote
// and the receiver reads, beside the ring.
func TestHappensBefore(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
		ctx := ringtest.Context(t)
		const n = 1000
		beside := make([]int, n)
		sent := make(chan error, 1)
		go func() {
			var err error
			for i := 0; i < n && err == nil; i++ {
				beside[i] = i + 1
				err = p.Send(ctx, nil, uint64(i))
			}
			sent <- err
		}()
		for got := 0; got < n; {
			require.NoError(t, c.Wait(ctx))
			m, err := c.Poll(100, func(f ring.Frame) ring.Action {
				assert.EqualValues(t, f.Meta+1, beside[f.Meta])
				return ring.Continue
			})
			require.NoError(t, err)
			got += m
		}
		require.NoError(t, <-sent)
	})
}
