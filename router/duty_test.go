package router

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/sender"
)

// The loop that does the monitor's work: duty.go.

// serves waits until the loop has the duty.
func serves(t testing.TB, r *Router) {
	t.Helper()
	m := r.cur.Load().mon
	eventually(t, "the loop serves", func() bool { return m.duty.at.Load() == dutyLoops })
}

// numbered has a pipe's messages counted, and checked for order, by a handler.
func numbered(t testing.TB, r *Router, each func(i int)) (s *sender.Sender, got *atomic.Int64) {
	t.Helper()
	s, rcv := pipe(t, r)
	must(t, s.Start())
	got = new(atomic.Int64)
	rcv.Handle(func(m Message) {
		i := int(got.Load())
		if want := fmt.Sprint(i); string(m.Data) != want || m.Seq != uint64(i+1) {
			t.Errorf("message %q, number %d, instead of %s", m.Data, m.Seq, want)
		}
		got.Add(1)
		if each != nil {
			each(i)
		}
	}, nil)
	return s, got
}

func send(t testing.TB, s *sender.Sender, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		must(t, s.Send(background, []byte(fmt.Sprint(i))))
	}
}

// A message that comes while the loop has the duty needs no ping.
func TestLoopServes(t *testing.T) {
	guard(t)
	r := begin(t)
	s, got := numbered(t, r, nil)
	i := 0
	eventually(t, "twenty messages without a ping", func() bool {
		serves(t, r)
		pings, turns := r.Stats().Pings, r.Stats().Turns
		for end := i + 20; i < end; i++ {
			send(t, s, i, i+1)
			eventually(t, "the message", func() bool { return got.Load() == int64(i+1) })
		}
		return r.Stats().Pings == pings && r.Stats().Turns > turns
	})
	must(t, s.Stop())
	halt(t, r)
}

// While a handler takes long, the ring is emptied all the same, and afterwards
// the loop serves again.
func TestMonitorWorksWhileAHandlerTakesLong(t *testing.T) {
	guard(t)
	r := begin(t)
	in, out := make(chan bool), make(chan bool)
	s, got := numbered(t, r, func(i int) {
		if i%100 == 0 {
			in <- true
			<-out
		}
	})
	for from := 0; from < 300; from += 100 {
		serves(t, r)
		send(t, s, from, from+1)
		within(t, "handler", in)
		send(t, s, from+1, from+100)
		eventually(t, "the rest is copied", func() bool { return r.Stats().Copied == uint64(from+100) })
		if n := got.Load(); n != int64(from+1) {
			t.Errorf("%d messages behind a handler that has not returned from number %d", n, from)
		}
		out <- true
		eventually(t, "the rest is routed", func() bool { return got.Load() == int64(from+100) })
	}
	must(t, s.Stop())
	halt(t, r)
}

// Under a flood that the monitor's goroutine has got, for whatever reason, the
// loop serves again although the ring is never empty.
func TestLoopServesAgainInAFlood(t *testing.T) {
	guard(t)
	r := begin(t, WithInbox(1))
	m := r.cur.Load().mon
	var keep atomic.Bool
	s, got := numbered(t, r, func(int) {
		if keep.Load() {
			eventually(t, "the monitor's goroutine takes the duty", func() bool { return m.duty.at.Load() == dutyMonitors })
			keep.Store(false)
		}
	})
	var done atomic.Bool
	var flood sync.WaitGroup
	sent := 0
	flood.Go(func() {
		for ; !done.Load(); sent++ {
			if err := s.Send(background, []byte(fmt.Sprint(sent))); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 5 {
		keep.Store(true)
		eventually(t, "a handler has lost the duty", func() bool { return !keep.Load() })
		serves(t, r)
	}
	done.Store(true)
	flood.Wait()
	eventually(t, "all is routed", func() bool { return got.Load() == int64(sent) })
	must(t, s.Stop())
	halt(t, r)
}

// The duty changes hands at any time: nothing is lost, doubled, or out of order.
func TestDutyChangesHands(t *testing.T) {
	guard(t)
	const each = 10000
	r := begin(t)
	n := r.cur.Load()
	var done atomic.Bool
	var others, senders sync.WaitGroup
	others.Go(func() {
		for ; !done.Load(); time.Sleep(10 * time.Microsecond) {
			n.mon.rouse()
		}
	})
	others.Go(func() {
		for !done.Load() {
			ctx, cancel := context.WithCancel(background) // who routes himself
			cancel()
			r.RouteUntil(ctx, func() bool { return false })
			p, err := n.shared.Pingee(func() {}) // another pingee comes and goes
			must(t, err)
			p.Ping()
			time.Sleep(100 * time.Microsecond)
			must(t, p.Close())
			time.Sleep(time.Millisecond)
		}
	})
	var got [3]*atomic.Int64
	for i := range got {
		var s *sender.Sender
		s, got[i] = numbered(t, r, nil)
		senders.Go(func() {
			for j := range each {
				if err := s.Send(background, []byte(fmt.Sprint(j))); err != nil {
					t.Error(err)
				}
				if j%64 == 0 {
					runtime.Gosched()
				}
			}
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
	senders.Wait()
	for i := range got {
		eventually(t, "all is routed", func() bool { return got[i].Load() == each })
	}
	done.Store(true)
	others.Wait()
	halt(t, r)
}

// The monitor puts a batch and lends just when the loop has seen the inbox empty:
// that batch is routed before what the loop then polls.
func TestLentBehindTheLastLook(t *testing.T) {
	guard(t)
	var r *Router
	var s *sender.Sender
	var armed, met atomic.Bool
	testHookRouted = func() {
		if !armed.Load() {
			return // r may not be there yet
		}
		if m := r.cur.Load().mon; m.duty.at.Load() == dutyMonitors && armed.Swap(false) {
			for i := 2; i < 2+handOvers; i++ { // a batch each
				send(t, s, i, i+1)
				eventually(t, "it is put", func() bool { return r.Stats().Queued == int64(i-1) })
			}
			eventually(t, "the monitor has lent", func() bool { return m.duty.at.Load() == dutyFree })
			send(t, s, 2+handOvers, 3+handOvers)
			met.Store(true)
		}
	}
	defer func() { testHookRouted = nil }()
	r = begin(t)
	in, out := make(chan bool), make(chan bool)
	s, got := numbered(t, r, func(i int) {
		if i == 0 {
			in <- true
			<-out
		}
	})
	serves(t, r)
	must(t, s.SendBatch(background, [][]byte{[]byte("0"), []byte("1")}))
	within(t, "handler", in)
	m := r.cur.Load().mon
	eventually(t, "the monitor's goroutine takes the duty", func() bool { return m.duty.at.Load() == dutyMonitors })
	armed.Store(true)
	out <- true
	eventually(t, "all is routed", func() bool { return got.Load() == 3+handOvers })
	if !met.Load() {
		t.Error("the hook was not met")
	}
	must(t, s.Stop())
	halt(t, r)
}

// A loop with two routers serves neither, and one again when the other has gone.
func TestLoopOfTwoServesNeither(t *testing.T) {
	guard(t)
	l := NewGoLoop()
	a := begin(t, WithEventLoop(l))
	serves(t, a)
	b := begin(t, WithEventLoop(l))
	sa, gotA := numbered(t, a, nil)
	sb, gotB := numbered(t, b, nil)
	for i := range 10 {
		send(t, sa, i, i+1)
		send(t, sb, i, i+1)
		eventually(t, "the messages of both", func() bool { return gotA.Load() == int64(i+1) && gotB.Load() == int64(i+1) })
	}
	for _, r := range []*Router{a, b} {
		if at := r.cur.Load().mon.duty.at.Load(); at == dutyLoops {
			t.Error("a loop with two routers serves one")
		}
	}
	must(t, sb.Stop())
	halt(t, b)
	i := 10
	eventually(t, "the loop serves the one that is left", func() bool {
		send(t, sa, i, i+1)
		i++
		return a.cur.Load().mon.duty.at.Load() == dutyLoops
	})
	eventually(t, "all is routed", func() bool { return gotA.Load() == int64(i) })
	must(t, sa.Stop())
	halt(t, a)
	must(t, l.Close())
	within(t, "loop ends", l.Done())
}

// What the router does with its processor between messages can be chosen; each
// way delivers.
func TestWithWaiting(t *testing.T) {
	for name, opts := range map[string][]Option{
		"default":          nil,
		"low latency":      {WithWaiting(ring.LowLatency)},
		"thrift":           {WithWaiting(ring.Thrift)},
		"thrift, resuming": {WithWaiting(ring.Thrift), WithResume()},
	} {
		t.Run(name, func(t *testing.T) {
			guard(t)
			if len(opts) == 2 {
				opts = append(opts, WithPath(t.TempDir()+"/segment"))
			}
			r := begin(t, opts...)
			s, got := numbered(t, r, nil)
			for i := range 20 {
				send(t, s, i, i+1)
				eventually(t, "the message", func() bool { return got.Load() == int64(i+1) })
			}
			must(t, s.Stop())
			halt(t, r)
		})
	}
	t.Run("foreign loop", func(t *testing.T) {
		n := &run{opts: &options{loop: PostLoop(func(func()) {})}}
		before := runtime.GOMAXPROCS(2)
		defer runtime.GOMAXPROCS(before)
		if w := n.waiting(); w != ring.Thrift {
			t.Errorf("beside a foreign loop on two processors: %v", w)
		}
		n.opts.loop = nil
		if w := n.waiting(); w != ring.Adaptive {
			t.Errorf("on its own loop: %v", w)
		}
	})
}
