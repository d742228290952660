package ring_test

import (
	"context"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fill sends messages until there is no room for any, and returns how many.
func fill(t *testing.T, p *ring.Producer) (n int) {
	t.Helper()
	for _, size := range []int{512, 0} {
		for {
			err := p.TrySend(make([]byte, size), 0)
			if err == ring.ErrFull {
				break
			}
			require.NoError(t, err)
			n++
		}
	}
	return n
}

// Who waits for room is woken when a quarter is free, not before, and all get
// through, also where the consumer only polls.
func TestRoomWakesAll(t *testing.T) {
	withoutTimeLimits(t)
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		a, c := ringtest.Attach(t, r), ringtest.Consume(t, r)
		ctx := ringtest.Context(t)
		for range 20 {
			n := fill(t, a.NewProducer())
			const waiters = 5
			var woken atomic.Int32
			sent := make(chan error, waiters)
			for i := range waiters {
				p := a.NewProducer()
				go func() {
					var err error
					if i%2 == 0 {
						err = p.Send(ctx, nil, 1)
					} else {
						var claim ring.Claim
						if claim, err = p.Claim(ctx, 10, 1); err == nil {
							err = claim.Commit()
						}
					}
					woken.Add(1)
					sent <- err
				}()
			}
			ringtest.Until(t, "somebody waits", func() bool { return r.RoomWaiters() == 1 })
			require.Len(t, ringtest.Poll(t, c, n), n)
			for got := 0; got < waiters; {
				require.NoError(t, ctx.Err(), "%d got through", got)
				got += len(ringtest.Poll(t, c, 1000))
			}
			for range waiters {
				require.NoError(t, <-sent)
			}
		}
	})
}

// First come, first served: each frame that waits finds room as soon as those
// before it have found theirs, and none earlier. Waiters are processes: in this
// one the runtime sends signals, and who is woken by one queues anew.
func TestProcessRoomIsGivenInOrder(t *testing.T) {
	withoutTimeLimits(t)
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	ctx := ringtest.Context(t)
	for range 8 {
		require.NoError(t, p.TrySend(make([]byte, r.MaxFrame()), 0))
	}
	var waiters []*child
	for i := range 6 {
		w := start(t, r, "queue", strconv.Itoa(i+1))
		ringtest.Until(t, "it waits", func() bool { return ringtest.Sleepers(t, w.cmd.Process.Pid) == 1 })
		waiters = append(waiters, w)
	}
	var got []uint64
	take := func(limit int) {
		_, err := c.Poll(limit, func(f ring.Frame) ring.Action {
			got = append(got, f.Meta)
			return ring.Continue
		})
		require.NoError(t, err)
	}
	take(1) // an eighth is not enough
	for i, w := range waiters {
		before := r.RoomEpisode()
		take(1)
		for r.RoomEpisode() == before {
			require.NoError(t, ctx.Err())
			take(0) // looks after the waiters, and consumes nothing
		}
		select {
		case _, more := <-w.lines:
			require.False(t, more)
		case <-ctx.Done():
			require.FailNow(t, "not woken", "%d", i)
		}
	}
	take(100)
	require.Equal(t, []uint64{0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6}, got)
}

// A signal that ends the sleep of one who waits for room is no reason to take the
// turn, which would shut out those who were woken.
func TestProcessSignalsTakeNoTurn(t *testing.T) {
	withoutTimeLimits(t)
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	fill(t, ringtest.Producer(t, r))
	c := ringtest.Consume(t, r)
	w := start(t, r, "queue", "1")
	ringtest.Until(t, "it waits", func() bool { return ringtest.Sleepers(t, w.cmd.Process.Pid) == 1 })
	flag := r.RoomWaiters()
	for range 100 {
		require.NoError(t, w.cmd.Process.Signal(syscall.SIGURG))
		require.Zero(t, r.TurnAt())
	}
	require.Equal(t, flag, r.RoomWaiters())
	for meta := uint64(0); meta != 1; {
		_, err := c.Poll(1, func(f ring.Frame) ring.Action { meta = f.Meta; return ring.Continue })
		require.NoError(t, err)
	}
}

// crowd has n attachments, of one producer each, asleep behind others, and
// returns what their waits come to.
func crowd(ctx context.Context, t *testing.T, r *ring.Ring, n int) chan error {
	t.Helper()
	errs := make(chan error, n)
	fill(t, ringtest.Producer(t, r))
	r.SetRoomWaiters(1)
	for i := range n {
		p := ringtest.Producer(t, r)
		go func() {
			if i%2 == 0 {
				errs <- p.Send(ctx, nil, 1)
			} else {
				errs <- p.WaitReleased(ctx, r.Granules())
			}
		}()
	}
	ringtest.Until(t, "all sleep", func() bool { return ringtest.Sleepers(t, os.Getpid()) == n })
	return errs
}

// Who learns that no consumer lives tells all that wait for room, also those in
// other processes, however long they sleep: it may have asked, or be the first
// whose sleep has ended.
func TestNewsOfADeathSpreads(t *testing.T) {
	for _, how := range []string{"asked", "slept"} {
		t.Run(how, func(t *testing.T) {
			t.Cleanup(ring.SetNaps(10 * time.Millisecond))
			t.Cleanup(ring.SetQueuedNap(time.Hour))
			r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
			c, a := ringtest.Consume(t, r), ringtest.Attach(t, r)
			ctx := ringtest.Context(t)
			const waiters = 6
			errs := crowd(ctx, t, r, waiters)
			require.NoError(t, c.Die())
			if how == "asked" {
				alive, err := a.ConsumerAlive()
				require.NoError(t, err)
				require.False(t, alive)
			} else {
				r.SetRoomWaiters(0)
				require.ErrorIs(t, a.NewProducer().Send(ctx, nil, 0), ring.ErrNoConsumer)
			}
			for range waiters {
				require.ErrorIs(t, <-errs, ring.ErrNoConsumer)
			}
		})
	}
}

// Who is woken for nothing while a consumer lives waits on.
func TestWokenForNothing(t *testing.T) {
	withoutTimeLimits(t)
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	c := ringtest.Consume(t, r)
	const waiters = 6
	ctx := ringtest.Context(t)
	errs := crowd(ctx, t, r, waiters)
	for range 20 {
		episode := r.RoomEpisode()
		require.NoError(t, r.Rouse())
		require.NotEqual(t, episode, r.RoomEpisode())
		ringtest.Until(t, "they sleep again", func() bool { return ringtest.Sleepers(t, os.Getpid()) == waiters })
		require.Empty(t, errs)
	}
	for got := 0; got < waiters; {
		drain(t, c)
		select {
		case err := <-errs:
			require.NoError(t, err)
			got++
		default:
			require.NoError(t, ctx.Err())
		}
	}
}

// An attachment that knows of no consumer does not have those that come later sleep
// for long behind others, and tells again when the next consumer has died.
func TestQueueWithoutAConsumer(t *testing.T) {
	t.Cleanup(ring.SetNaps(time.Millisecond))
	t.Cleanup(ring.SetQueuedNap(time.Hour))
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	a := ringtest.Attach(t, r)
	ctx := ringtest.Context(t)
	p := a.NewProducer()
	n := fill(t, p)
	for range 3 {
		require.ErrorIs(t, p.Send(ctx, nil, 0), ring.ErrNoConsumer)
		require.NotZero(t, r.RoomWaiters(), "the next one waits behind others")
	}
	c := ringtest.Consume(t, r)
	sent := make(chan error, 1)
	go func() { sent <- p.Send(ctx, nil, 0) }()
	require.Len(t, ringtest.Poll(t, c, n), n)
	require.NoError(t, <-sent)
	fill(t, p)
	r.SetRoomWaiters(1)
	go func() { sent <- p.WaitReleased(ctx, p.Position()) }()
	ringtest.Until(t, "it sleeps", func() bool { return ringtest.Sleepers(t, os.Getpid()) == 1 })
	require.NoError(t, c.Die())
	alive, err := ringtest.Attach(t, r).ConsumerAlive()
	require.NoError(t, err)
	require.False(t, alive)
	require.ErrorIs(t, <-sent, ring.ErrNoConsumer)
}

// workQueue waits for room. With "die" it is killed when it is woken, before it
// does anything; with "live" it sends a message of meta 9, with a number one as
// large as can be, of that meta.
func workQueue(w *worker) error {
	ring.SetNaps(time.Hour)
	a, err := w.ring.Attach()
	if err != nil {
		return err
	}
	p := a.NewProducer()
	if w.args[0] == "live" {
		return p.Send(context.Background(), nil, 9)
	}
	if meta, err := strconv.ParseUint(w.args[0], 10, 8); err == nil {
		return p.Send(context.Background(), make([]byte, w.ring.MaxFrame()), meta)
	}
	head := w.ring.Head()
	return p.AwaitRoom(context.Background(), 0, func() error {
		if w.ring.Head() != head {
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return ring.ErrFull
	})
}

// Who is woken is killed at once, one after another: the consumer does not rest
// until somebody has come who lives.
func TestProcessNobodyIsStranded(t *testing.T) {
	withoutTimeLimits(t)
	for _, waits := range []bool{true, false} {
		r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
		c := ringtest.Consume(t, r)
		fill(t, ringtest.Producer(t, r))
		for _, fate := range []string{"die", "die", "die", "live"} {
			w := start(t, r, "queue", fate)
			ringtest.Until(t, "it waits", func() bool { return ringtest.Sleepers(t, w.cmd.Process.Pid) == 1 })
		}
		ctx := ringtest.Context(t)
		for through := false; !through; {
			require.NoError(t, ctx.Err(), "the living are left asleep behind the dead")
			if waits {
				require.NoError(t, c.Wait(ctx), "the living are left asleep behind the dead")
			}
			_, err := c.Poll(1000, func(f ring.Frame) ring.Action {
				through = f.Meta == 9
				return ring.Continue
			})
			require.NoError(t, err)
		}
	}
}

// Every way of waiting for room waits, and goes through.
func TestWaysToWaitForRoom(t *testing.T) {
	withoutTimeLimits(t)
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	a, c := ringtest.Attach(t, r), ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift))
	ctx := ringtest.Context(t)
	for name, send := range map[string]func(p *ring.Producer) error{
		"Send": func(p *ring.Producer) error { return p.Send(ctx, []byte{9}, 9) },
		"Claim": func(p *ring.Producer) error {
			claim, err := p.Claim(ctx, 1, 9)
			if err != nil {
				return err
			}
			claim.Bytes()[0] = 9
			return claim.Commit()
		},
		"SendBatch": func(p *ring.Producer) error {
			return p.SendBatch(ctx, [][]byte{{9}}, func(int) uint64 { return 9 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := fill(t, a.NewProducer())
			sent := make(chan error, 1)
			go func() { sent <- send(a.NewProducer()) }()
			ringtest.Until(t, "it waits", func() bool { return r.RoomWaiters() == 1 })
			require.Len(t, ringtest.Receive(t, c, n), n)
			require.NoError(t, <-sent)
			got := ringtest.Receive(t, c, 1)
			assert.Equal(t, []byte{9}, got[0].Data)
			assert.EqualValues(t, 9, got[0].Meta)
		})
	}
}

func TestSendGivesUp(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		a := ringtest.Attach(t, r)
		p := a.NewProducer()
		n := fill(t, p)
		assert.ErrorIs(t, p.Send(ringtest.Context(t), nil, 0), ring.ErrNoConsumer)
		_, err := p.Claim(ringtest.Context(t), 1, 0)
		assert.ErrorIs(t, err, ring.ErrNoConsumer)
		assert.ErrorIs(t, p.WaitReleased(ringtest.Context(t), p.Position()), ring.ErrNoConsumer)

		c := ringtest.Consume(t, r)
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Millisecond)
		defer cancel()
		for _, size := range []int{0, r.MaxFrame()} {
			assert.ErrorIs(t, p.Send(ctx, make([]byte, size), 0), context.DeadlineExceeded)
		}
		s, err := r.Stats()
		require.NoError(t, err)
		assert.Equal(t, -1, s.Turn, "a turn is kept by nobody")
		assert.Len(t, ringtest.Poll(t, c, 1000), n, "nothing was sent")
		assert.NoError(t, p.Send(ctx, nil, 0), "with room no context is asked")
	})
}

// The end of a context ends the waiting at once, without the help of a time
// limit, whatever instant it hits.
func TestSendContextRounds(t *testing.T) {
	withoutTimeLimits(t)
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	p := ringtest.Producer(t, r)
	ringtest.Consume(t, r)
	fill(t, p)
	const rounds = 1000
	cancels := make(chan context.CancelFunc)
	sent := make(chan error)
	go func() {
		for i := range rounds {
			ctx, cancel := context.WithCancel(context.Background())
			cancels <- cancel
			if i%2 == 0 {
				sent <- p.Send(ctx, make([]byte, 8192*(i%4/2)), 0)
			} else {
				sent <- p.WaitReleased(ctx, p.Position())
			}
		}
	}()
	for range rounds {
		(<-cancels)()
		select {
		case err := <-sent:
			require.ErrorIs(t, err, context.Canceled)
		case <-time.After(ringtest.Patience):
			require.FailNow(t, "the end of the context was not noticed")
		}
	}
}

// Closing the attachment ends what waits in it, at the next look.
func TestCloseEndsWaiting(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	a, err := r.Attach()
	require.NoError(t, err)
	ringtest.Consume(t, r)
	p := a.NewProducer()
	fill(t, p)
	sent := make(chan error, 1)
	go func() { sent <- p.Send(ringtest.Context(t), nil, 0) }()
	ringtest.Until(t, "it waits", func() bool { return r.RoomWaiters() == 1 })
	require.NoError(t, a.Close())
	require.ErrorIs(t, <-sent, os.ErrClosed)
}

// A small message takes each place that becomes free, and a large frame waits:
// it takes the turn, the small ones find the ring full, and it is sent.
func TestLargeFrameDoesNotStarve(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		a, c := ringtest.Attach(t, r), ringtest.Consume(t, r)
		q := a.NewProducer()
		for range 5 {
			fill(t, q)
			ctx := ringtest.Context(t)
			sent := make(chan error, 1)
			go func() { sent <- a.NewProducer().Send(ctx, make([]byte, r.MaxFrame()), 1) }()
			ringtest.Until(t, "the large frame waits", func() bool { return r.RoomWaiters() == 1 })
			for done := false; !done; {
				select {
				case err := <-sent:
					require.NoError(t, err, "small messages took all the room")
					done = true
				default:
					_, err := c.Poll(1, func(ring.Frame) ring.Action { return ring.Continue })
					require.NoError(t, err)
					for err == nil {
						err = q.TrySend(nil, 0)
					}
					require.ErrorIs(t, err, ring.ErrFull)
				}
			}
		}
		drain(t, c)
	})
}

// drain takes what is left.
func drain(t *testing.T, c *ring.Consumer) {
	t.Helper()
	for {
		n, err := c.Poll(1000, func(ring.Frame) ring.Action { return ring.Continue })
		require.NoError(t, err)
		if n == 0 {
			return
		}
	}
}

// While somebody has the turn, the others leave a quarter of the ring to it.
func TestTurnKeepsAQuarter(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	a := ringtest.Attach(t, r)
	p := a.NewProducer()
	r.SetTurn(200 + 1)
	for range 768 {
		require.NoError(t, p.TrySend(nil, 0))
	}
	require.ErrorIs(t, p.TrySend(nil, 0), ring.ErrFull)
	r.SetTurn(0)
	require.NoError(t, p.TrySend(nil, 0))
	ringtest.MustCheck(t, r)
}

func TestWaitReleased(t *testing.T) {
	withoutTimeLimits(t)
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		a, c := ringtest.Attach(t, r), ringtest.Consume(t, r)
		p, q := a.NewProducer(), a.NewProducer()
		ctx := ringtest.Context(t)
		require.NoError(t, p.WaitReleased(ctx, p.Position()), "nothing was sent")
		for i := range 200 {
			require.NoError(t, p.TrySend(nil, 1))
			pos := p.Position()
			require.NoError(t, q.TrySend(nil, 2))
			done := make(chan error, 1)
			go func() { done <- a.NewProducer().WaitReleased(ctx, pos) }()
			if i%2 == 0 {
				ringtest.Until(t, "it waits", func() bool { return r.RoomWaiters() == 1 })
			}
			require.Len(t, ringtest.Poll(t, c, 1), 1)
			require.NoError(t, <-done)
			require.GreaterOrEqual(t, r.Head(), pos)
			require.Len(t, ringtest.Poll(t, c, 1), 1)
		}
	})
}

// Producers that always find the ring full, a consumer that always finds it
// empty: neither is left asleep.
func TestFullAndEmpty(t *testing.T) {
	withoutTimeLimits(t)
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		ctx := ringtest.Context(t)
		const senders, each = 3, 3000
		sent := make(chan error, senders)
		for i := range senders {
			p := ringtest.Producer(t, r)
			go func() {
				for n := range uint64(each) {
					size := 600
					if (n+uint64(i))%16 == 0 {
						size = r.MaxFrame()
					}
					if err := p.Send(ctx, make([]byte, size), n<<4|uint64(i)); err != nil {
						sent <- err
						return
					}
				}
				sent <- nil
			}()
		}
		c := ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift))
		next := make([]uint64, senders)
		for total := 0; total < senders*each; {
			require.NoError(t, c.Wait(ctx), "standstill after %v", next)
			n, err := c.Poll(200, func(f ring.Frame) ring.Action {
				i := f.Meta & 15
				assert.Equal(t, next[i], f.Meta>>4)
				next[i]++
				return ring.Continue
			})
			require.NoError(t, err)
			total += n
		}
		for range senders {
			require.NoError(t, <-sent)
		}
	})
}

// A consumer may be so slow that a quarter of the ring is not free for long. The
// flag that a lone sender finds is its own then: there is nobody behind whom it
// would have to sleep for long.
func TestSlowConsumer(t *testing.T) {
	t.Cleanup(ring.SetNaps(10 * time.Millisecond))
	t.Cleanup(ring.SetQueuedNap(time.Hour))
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	ctx := ringtest.Context(t)
	for range 5 {
		fill(t, p)
		sent := make(chan error, 1)
		go func() { sent <- p.Send(ctx, nil, 1) }()
		ringtest.Until(t, "it sleeps", func() bool { return ringtest.Sleepers(t, os.Getpid()) == 1 })
		require.Len(t, ringtest.Poll(t, c, 1), 1)
		require.NoError(t, <-sent, "only the end of its own sleep tells it of room")
		require.NotZero(t, r.RoomWaiters())
	}
}

// When its time is over a sender looks once more: there may be room for which
// nobody was woken. One that is called off does not.
func TestLastLook(t *testing.T) {
	withoutTimeLimits(t)
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	p := ringtest.Producer(t, r)
	ringtest.Consume(t, r)
	late := 0
	wait := func(ctx context.Context) error {
		return p.AwaitRoom(ctx, 0, func() error {
			if ctx.Err() == nil {
				return ring.ErrFull
			}
			late++
			return nil
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	require.NoError(t, wait(ctx))
	require.Equal(t, 1, late)
	ctx, cancel = context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- wait(ctx) }()
	ringtest.Until(t, "it sleeps", func() bool { return ringtest.Sleepers(t, os.Getpid()) == 1 })
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Equal(t, 1, late)
}

// Where nothing is free the consumer does not nap shortly for those who wait.
func TestRestsWhereNothingIsFree(t *testing.T) {
	withoutTimeLimits(t)
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	p := ringtest.Producer(t, r)
	c := ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift), ring.WithManualRelease())
	n := fill(t, p)
	ringtest.Poll(t, c, n)
	sent := make(chan error, 1)
	go func() { sent <- p.Send(ringtest.Context(t), nil, 1) }()
	ringtest.Until(t, "somebody waits", func() bool { return r.RoomWaiters() != 0 })
	done := asleep(t, r, c, 1)
	sleeps := r.SleepEpisode()
	time.Sleep(20 * time.Millisecond)
	require.Equal(t, sleeps, r.SleepEpisode(), "it wakes again and again")
	require.NoError(t, c.Release(c.Position()))
	require.NoError(t, <-sent)
	require.NoError(t, <-done)
	require.Len(t, ringtest.Poll(t, c, 9), 1)
}
