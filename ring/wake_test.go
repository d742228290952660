package ring_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// withoutTimeLimits makes the sleeps that a wake should end endless for a
// test, so that a lost wake is a standstill.
func withoutTimeLimits(t *testing.T) {
	t.Helper()
	t.Cleanup(ring.SetNaps(time.Hour))
	t.Cleanup(ring.SetFirstAsk(time.Hour))
}

// asleep starts a consumer that waits, and returns when it sleeps in the mode
// (1: nothing there, 2: behind a claim). What Wait returned comes through the
// channel. Without time limits only: on one processor the test may run only in
// between short sleeps.
func asleep(t *testing.T, r *ring.Ring, c *ring.Consumer, mode int) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	ctx := ringtest.Context(t)
	go func() { done <- c.Wait(ctx) }()
	ringtest.Until(t, "the consumer sleeps", func() bool { return r.SleepMode() == mode })
	return done
}

// inEachMode runs a test on each kind of segment, in each mode of waiting.
func inEachMode(t *testing.T, test func(t *testing.T, kind shm.Kind, how ring.Waiting)) {
	t.Helper()
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		for name, how := range modes {
			t.Run(name, func(t *testing.T) { test(t, kind, how) })
		}
	})
}

// Everything that gives the consumer something to do wakes it.
func TestWhatWakes(t *testing.T) {
	withoutTimeLimits(t)
	inEachMode(t, func(t *testing.T, kind shm.Kind, how ring.Waiting) {
		for name, test := range map[string]struct {
			start uint64
			act   func(t *testing.T, r *ring.Ring, p *ring.Producer)
		}{
			"commit": {0, func(t *testing.T, _ *ring.Ring, p *ring.Producer) { require.NoError(t, p.TrySend(nil, 0)) }},
			"batch": {0, func(t *testing.T, _ *ring.Ring, p *ring.Producer) {
				require.NoError(t, p.TryBatch([][]byte{nil, nil}, nil))
			}},
			"pad and commit": {1023, func(t *testing.T, _ *ring.Ring, p *ring.Producer) {
				require.NoError(t, p.TrySend(make([]byte, 100), 0))
			}},
			"commit of claim": {0, func(t *testing.T, _ *ring.Ring, p *ring.Producer) {
				claimAnd(t, p, func(c ring.Claim) { require.NoError(t, c.Commit()) })
			}},
			"abort": {0, func(t *testing.T, _ *ring.Ring, p *ring.Producer) {
				claimAnd(t, p, ring.Claim.Abort)
				require.NoError(t, p.TrySend(nil, 0))
			}},
			"commit in mid ring": {1 << 29, func(t *testing.T, _ *ring.Ring, p *ring.Producer) { require.NoError(t, p.TrySend(nil, 0)) }},
		} {
			t.Run(name, func(t *testing.T) {
				r := ringtest.New(t, kind, ringtest.Tiny)
				r.StartAt(test.start)
				p, c := ringtest.Producer(t, r), ringtest.Consume(t, r, ring.WithWaiting(how))
				done := asleep(t, r, c, 1)
				test.act(t, r, p)
				require.NoError(t, <-done)
				require.NotEmpty(t, ringtest.Poll(t, c, 9))
			})
		}
	})
}

func claimAnd(t *testing.T, p *ring.Producer, end func(ring.Claim)) {
	t.Helper()
	claim, err := p.TryClaim(10, 0)
	require.NoError(t, err)
	end(claim)
}

// Behind a claim the consumer is woken by its end, however it ends, and by the
// commit of another one behind it only afterwards.
func TestWakeBehindClaim(t *testing.T) {
	withoutTimeLimits(t)
	for _, abort := range []bool{false, true} {
		r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
		a := ringtest.Attach(t, r)
		p, q := a.NewProducer(), a.NewProducer()
		c := ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift))
		for range 300 {
			claim, err := p.TryClaim(10, 1)
			require.NoError(t, err)
			require.NoError(t, q.TrySend(nil, 2))
			done := asleep(t, r, c, 2)
			want := 2
			if abort {
				claim.Abort()
				want = 1
			} else {
				require.NoError(t, claim.Commit())
			}
			require.NoError(t, <-done)
			require.Len(t, ringtest.Poll(t, c, 9), want)
		}
	}
}

// A sweep wakes the consumer that sleeps behind the dead holder's claim.
func TestSweepWakes(t *testing.T) {
	withoutTimeLimits(t)
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift))
	claim, err := p.TryClaim(10, 0)
	require.NoError(t, err)
	pos := claim.Position()
	done := asleep(t, r, c, 2)
	// From now on the claim belongs to a slot that another one takes.
	r.SetWord(pos, ring.MakeHeader(ring.Busy, r.TagAt(pos), 1, 1))
	ringtest.Attach(t, r)
	require.NoError(t, p.TrySend(nil, 7))
	require.NoError(t, <-done)
	got := ringtest.Poll(t, c, 9)
	require.Len(t, got, 1)
	assert.EqualValues(t, 7, got[0].Meta)
}

// Interrupt and the end of a context end a Wait without any time limit's help,
// whatever instant they hit.
func TestInterruptRounds(t *testing.T) {
	withoutTimeLimits(t)
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	p := ringtest.Producer(t, r)
	for _, how := range []ring.Waiting{ring.Adaptive, ring.LowLatency, ring.Thrift} {
		for _, behindClaim := range []bool{false, true} {
			c := ringtest.Consume(t, r, ring.WithWaiting(how))
			var claim ring.Claim
			if behindClaim {
				var err error
				claim, err = p.TryClaim(1, 0)
				require.NoError(t, err)
			}
			const rounds = 3000
			waited := make(chan error)
			go func() {
				for range rounds {
					waited <- c.Wait(context.Background())
				}
			}()
			for range rounds {
				c.Interrupt()
				select {
				case err := <-waited:
					require.ErrorIs(t, err, ring.ErrInterrupted)
				case <-time.After(ringtest.Patience):
					require.FailNow(t, "an interrupt was lost")
				}
			}
			claim.Abort()
			require.Empty(t, ringtest.Poll(t, c, 1))
			require.NoError(t, c.Close())
		}
	}
}

// Who is called back by a Wait may interrupt it.
func TestInterruptFromWithin(t *testing.T) {
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	claim, err := ringtest.Producer(t, r).TryClaim(1, 0)
	require.NoError(t, err)
	defer claim.Abort()
	var c *ring.Consumer
	c = ringtest.Consume(t, r, ring.WithOnStall(func(ring.StallEvent) { c.Interrupt() }), ring.WithOnSkip(func(ring.SkipEvent) { c.Interrupt() }))
	wait := func() error {
		done := make(chan error, 1)
		go func() { done <- c.Wait(context.Background()) }()
		select {
		case err := <-done:
			return err
		case <-time.After(ringtest.Patience):
			require.FailNow(t, "it waits for itself")
			return nil
		}
	}
	require.ErrorIs(t, wait(), ring.ErrInterrupted)
	// From now on the claim is of nobody who lives.
	pos := claim.Position()
	r.SetWord(pos, ring.MakeHeader(ring.Busy, r.TagAt(pos), 7, 1))
	require.NoError(t, wait(), "it was skipped")
	require.ErrorIs(t, wait(), ring.ErrInterrupted)
}

func TestContextRounds(t *testing.T) {
	withoutTimeLimits(t)
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	c := ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift))
	const rounds = 2000
	cancels := make(chan context.CancelFunc)
	waited := make(chan error)
	go func() {
		for range rounds {
			ctx, cancel := context.WithCancel(context.Background())
			cancels <- cancel
			waited <- c.Wait(ctx)
		}
	}()
	for range rounds {
		(<-cancels)()
		select {
		case err := <-waited:
			require.ErrorIs(t, err, context.Canceled)
		case <-time.After(ringtest.Patience):
			require.FailNow(t, "the end of the context was not noticed")
		}
	}
}

// Both sides of a ping-pong in thrift sleep at each turn. No wake may be missing: the
// sleeps have no time limit.
func TestPingPong(t *testing.T) {
	withoutTimeLimits(t)
	inEachMode(t, func(t *testing.T, kind shm.Kind, how ring.Waiting) {
		rounds := uint64(10000)
		if kind == shm.Memfd {
			rounds = 20000
		}
		switch how { // where processors are busy with others, who watches holds up who answers
		case ring.Adaptive:
			rounds /= 10
		case ring.LowLatency:
			rounds = 100
		}
		there, back := ringtest.New(t, kind, ringtest.Tiny), ringtest.New(t, kind, ringtest.Tiny)
		echoed := make(chan error, 1)
		ctx, cancel := context.WithTimeout(context.Background(), 2*ringtest.Patience)
		defer cancel()
		in := ringtest.Consume(t, there, ring.WithWaiting(how))
		out := ringtest.Producer(t, back)
		go func() { echoed <- echo(ctx, in, out, rounds) }()
		p, c := ringtest.Producer(t, there), ringtest.Consume(t, back, ring.WithWaiting(how))
		for i := range rounds {
			require.NoError(t, p.TrySend(nil, i))
			require.NoError(t, c.Wait(ctx), "standstill in round %d", i)
			got := ringtest.Poll(t, c, 2)
			require.Len(t, got, 1)
			require.Equal(t, i, got[0].Meta)
		}
		require.NoError(t, <-echoed)
		// How often depends on how the scheduler runs the two.
		if how == ring.Thrift {
			assert.Positive(t, c.Stats().Sleeps, "the sides did not sleep")
		}
	})
}

func echo(ctx context.Context, in *ring.Consumer, out *ring.Producer, rounds uint64) error {
	for n := uint64(0); n < rounds; {
		if err := in.Wait(ctx); err != nil {
			return err
		}
		var sendErr error
		m, err := in.Poll(10, func(f ring.Frame) ring.Action {
			sendErr = out.TrySend(f.Data, f.Meta)
			return ring.Continue
		})
		if err != nil || sendErr != nil {
			return err
		}
		n += uint64(m)
	}
	return nil
}

// Many producers, a consumer that sleeps whenever it can, and a new consumer
// every now and then, whose episodes must not be taken for the old ones.
func TestManyWakers(t *testing.T) {
	for name, how := range modes {
		t.Run(name, func(t *testing.T) { manyWakers(t, how) })
	}
}

func manyWakers(t *testing.T, how ring.Waiting) {
	withoutTimeLimits(t)
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	ctx := ringtest.Context(t)
	const senders = 3
	each := 4000
	if how != ring.Thrift {
		each = 400
	}
	acks := make([]chan struct{}, senders)
	sent := make(chan error, senders)
	for i := range senders {
		acks[i] = make(chan struct{}, 1)
		p := ringtest.Producer(t, r)
		go func() {
			for n := range uint64(each) {
				if err := p.Send(ctx, nil, uint64(i)); err != nil {
					sent <- err
					return
				}
				if n%2 == 0 { // each sends a pair, then waits for its arrival
					continue
				}
				select {
				case <-acks[i]:
				case <-ctx.Done():
					sent <- ctx.Err()
					return
				}
			}
			sent <- nil
		}()
	}
	got := make([]int, senders)
	for total := 0; total < senders*each; {
		c, err := r.Consume(ring.WithWaiting(how))
		require.NoError(t, err)
		for polls := 0; polls < 50 && total < senders*each; polls++ {
			require.NoError(t, c.Wait(ctx), "standstill after %v", got)
			n, err := c.Poll(5, func(f ring.Frame) ring.Action {
				if got[f.Meta]++; got[f.Meta]%2 == 0 {
					acks[f.Meta] <- struct{}{}
				}
				return ring.Continue
			})
			require.NoError(t, err)
			total += n
		}
		require.NoError(t, c.Close())
	}
	for range senders {
		require.NoError(t, <-sent)
	}
}

// A producer that missed many gigabytes of traffic knows no position near the
// sleeper's, and wakes it all the same.
func TestWakeFromFarBehind(t *testing.T) {
	withoutTimeLimits(t)
	for _, jump := range []uint64{1 << 27, 1 << 28, 1<<28 - 1024, 1<<28 + 1<<27, 1 << 33} {
		r := ringtest.New(t, shm.Heap, ringtest.Tiny)
		p := ringtest.Producer(t, r)
		require.NoError(t, p.TrySend(nil, 0))
		r.StartAt(jump)
		c := ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift))
		done := asleep(t, r, c, 1)
		require.NoError(t, p.TrySend(nil, 0))
		require.NoError(t, <-done, "%d", jump)
		require.Len(t, ringtest.Poll(t, c, 2), 1)
	}
}

// workSend sends args[0] messages, in pairs, each after word from the test.
func workSend(w *worker) error {
	a, err := w.ring.Attach()
	if err != nil {
		return err
	}
	p := a.NewProducer()
	n, err := strconv.Atoi(w.args[0])
	if err != nil {
		return err
	}
	for i := range n {
		if err := p.Send(context.Background(), message(100, uint64(i)), uint64(i)); err != nil {
			return err
		}
	}
	w.say("sent")
	_, err = w.wait()
	return err
}

// A sleeping consumer is woken from another process.
func TestProcessWakes(t *testing.T) {
	withoutTimeLimits(t)
	onFiles(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		c := ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift))
		const n = 20000
		w := start(t, r, "send", strconv.Itoa(n))
		for i, m := range ringtest.Receive(t, c, n) {
			require.EqualValues(t, i, m.Meta)
			require.Equal(t, message(100, uint64(i)), m.Data)
		}
		require.Equal(t, "sent", w.hear())
	})
}
