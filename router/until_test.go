package router

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/sender"
)

func expired() context.Context {
	ctx, cancel := context.WithCancel(background)
	cancel()
	return ctx
}

func TestRouteUntilLooksFirst(t *testing.T) {
	guard(t)
	r := begin(t, WithEventLoop(newStage().loop()))
	s, rcv := pipe(t, r)
	rcv.Handle(func(Message) { t.Error("routed something") }, nil)
	l := &local{s: s}
	must(t, l.Start())
	must(t, l.Send("x"))
	must(t, r.RouteUntil(expired(), func() bool { return true }))
	must(t, l.Stop())
}

func TestRouteUntilWithNoTimeLeft(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		r := begin(t, WithEventLoop(newStage().loop()), WithInbox(1))
		s, rcv := pipe(t, r)
		got := 0
		rcv.Handle(func(Message) { got++ }, nil)
		p := far(r, s)
		must(t, p.Start())
		want := 0
		for round := range 100 {
			n := 1 + round*round%300
			must(t, p.SendMany(n, 8))
			want += n
			if err := r.RouteUntil(expired(), func() bool { return got == want }); err != nil {
				t.Fatalf("round %d: %v after %d of %d messages", round, err, got, want)
			}
			wantIs(t, "nothing more", r.RouteUntil(expired(), func() bool { return false }), context.Canceled)
		}
		must(t, p.Stop())
	})
}

// The default loop is in the midst of routing at the same time.
func TestRouteUntilTakesOver(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		r := begin(t)
		s, rcv := pipe(t, r)
		got := 0 // no lock: the two take turns
		rcv.Handle(func(Message) { got++ }, nil)
		p := far(r, s)
		must(t, p.Start())
		want := 0
		for range 50 {
			must(t, p.SendMany(20, 8))
			want += 20
			must(t, r.RouteUntil(expired(), func() bool { return got == want }))
		}
		// And it gives back.
		ended := make(chan error, 1)
		rcv.Handle(func(Message) { got++ }, func(err error) { ended <- err })
		must(t, p.SendMany(20, 8))
		must(t, p.Stop())
		must(t, within(t, "end on the loop", ended))
		if got != want+20 {
			t.Errorf("%d of %d messages", got, want+20)
		}
		must(t, rcv.Close())
	})
}

func TestRouteUntilEndsUnderAFlood(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		r := begin(t, WithEventLoop(newStage().loop()))
		s, rcv := pipe(t, r)
		got := 0
		rcv.Handle(func(Message) { got++ }, nil)
		p := far(r, s)
		must(t, p.Start())
		var wg sync.WaitGroup
		if rp, ok := p.(*remote); ok {
			rp.tell(order{Op: "many", N: 1 << 40, Size: 64})
		} else {
			wg.Go(func() {
				for p.Send("flood") == nil {
				}
			})
		}
		must(t, r.RouteUntil(background, func() bool { return got > 1000 }))
		ctx, cancel := context.WithTimeout(background, 20*time.Millisecond)
		defer cancel()
		wantIs(t, "RouteUntil", r.RouteUntil(ctx, func() bool { return false }), context.DeadlineExceeded)
		must(t, r.Stop())
		wg.Wait()
		if l, ok := p.(*local); ok {
			must(t, l.Stop())
		}
	})
}

func TestRouteUntilNothingToWaitFor(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		r := begin(t, WithEventLoop(newStage().loop()))
		never := func() bool { return false }
		wantIs(t, "without pipes", r.RouteUntil(background, never), ErrNothingToWaitFor)
		s, rcv := pipe(t, r)
		got, ended := 0, false
		rcv.Handle(func(Message) { got++ }, func(error) { ended = true })
		p := far(r, s)
		must(t, p.Start())
		must(t, p.SendMany(100, 8))
		must(t, p.Stop())
		wantIs(t, "after the end", r.RouteUntil(background, never), ErrNothingToWaitFor)
		if got != 100 || !ended {
			t.Errorf("%d messages, ended %v", got, ended)
		}
		must(t, rcv.Close())
	})
}

func TestRouteUntilEndsWhenTheWorkerDies(t *testing.T) {
	guard(t)
	r := begin(t, WithEventLoop(newStage().loop()))
	s, rcv := pipe(t, r)
	got := 0
	rcv.Handle(func(Message) { got++ }, nil)
	p := launch(t, r, s)
	must(t, p.Start())
	must(t, p.SendMany(10, 8))
	p.exit(0)
	wantIs(t, "RouteUntil", r.RouteUntil(background, func() bool { return false }), ErrNothingToWaitFor)
	if got != 10 {
		t.Errorf("%d messages", got)
	}
	must(t, rcv.Close())
}

func TestRouteUntilInAHandler(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	l := &local{s: s}
	must(t, l.Start())
	errs := make(chan error, 1)
	rcv.Handle(func(Message) { errs <- r.RouteUntil(background, func() bool { return true }) }, nil)
	must(t, l.Send("on the loop"))
	wantIs(t, "RouteUntil in a handler", within(t, "handler", errs), ErrInHandler)
	must(t, l.Send("in RouteUntil"))
	must(t, r.RouteUntil(background, func() bool { return len(errs) == 1 }))
	wantIs(t, "RouteUntil in RouteUntil's handler", <-errs, ErrInHandler)
	// Another router's handler may.
	other := begin(t, WithEventLoop(newStage().loop()))
	rcv.Handle(func(Message) { errs <- other.RouteUntil(background, func() bool { return true }) }, nil)
	must(t, l.Send("x"))
	must(t, within(t, "handler", errs))
	must(t, l.Stop())
}

func TestRouteUntilTwiceAtATime(t *testing.T) {
	guard(t)
	r := begin(t)
	_, rcv := pipe(t, r) // so that there is something to wait for
	ctx, cancel := context.WithCancel(background)
	inside := make(chan bool, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		wantIs(t, "first", r.RouteUntil(ctx, func() bool {
			select {
			case inside <- true:
			default:
			}
			return false
		}), context.Canceled)
	})
	within(t, "the first is inside", inside)
	wantIs(t, "second", r.RouteUntil(background, func() bool { return true }), ErrRouting)
	cancel()
	wg.Wait()
	must(t, rcv.Close())
}

func TestRouteUntilStopped(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	rcv.Handle(func(Message) { must(t, r.Stop()) }, nil)
	l := &local{s: s}
	must(t, l.Start())
	must(t, l.Send("x"))
	wantIs(t, "RouteUntil", r.RouteUntil(background, func() bool { return false }), ErrNotRunning)
	within(t, "done", r.Done())
	must(t, l.Stop())
}

// A claim that its owner leaves open is in the way; what is behind it was
// committed, but cannot be had.
func TestRouteUntilBehindAnOpenClaim(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		r := begin(t, WithEventLoop(newStage().loop()))
		s1, rcv1 := pipe(t, r)
		s2, rcv2 := pipe(t, r)
		p, l := far(r, s1), &local{s: s2}
		must(t, p.Start())
		must(t, l.Start())
		got := 0
		rcv1.Handle(func(Message) { got++ }, nil)
		rcv2.Handle(func(Message) { got++ }, nil)
		must(t, p.Claim(100))
		must(t, l.Send("behind"))
		wantIs(t, "RouteUntil", r.RouteUntil(expired(), func() bool { return got > 0 }), context.Canceled)
		must(t, p.Commit())
		must(t, r.RouteUntil(expired(), func() bool { return got == 2 }))
		must(t, p.Stop())
		must(t, l.Stop())
	})
}

func TestRouteUntilFullReceiver(t *testing.T) {
	guard(t)
	r := begin(t, WithEventLoop(newStage().loop()), WithQueue(1))
	s, rcv := pipe(t, r)
	l := &local{s: s}
	must(t, l.Start())
	must(t, l.SendMany(3, 8))
	wantIs(t, "RouteUntil", r.RouteUntil(expired(), func() bool { return false }), context.Canceled)
	if r.Stats().StalledBy != rcv {
		t.Error("not stalled")
	}
	go rcv.Handle(func(Message) {}, nil)
	must(t, r.RouteUntil(background, func() bool { return r.cur.Load().count.routed.Load() == 3 }))
	must(t, l.Stop())
	must(t, rcv.Close())
}

// What damage hides is waited for, too, for as long as it takes the monitor to step over it.
func TestRouteUntilBehindDamage(t *testing.T) {
	guard(t)
	log := newGate("damage in the segment")
	r := begin(t, WithEventLoop(newStage().loop()), WithCapacity(64<<10), WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	s, rcv := pipe(t, r)
	must(t, s.Start())
	damage := damageOf(t, r)
	damage.front()
	within(t, "damage", log.reached)
	for range 3 {
		must(t, s.Send(background, []byte("x")))
	}
	damage.hide()
	got := 0
	rcv.Handle(func(Message) { got++ }, nil)
	ended := inBackground(func() error { return r.RouteUntil(expired(), func() bool { return false }) })
	eventually(t, "the monitor is asked", func() bool { return r.cur.Load().mon.events.pending.Load() })
	time.Sleep(syncPatience) // with claims that nobody commits
	close(log.open)
	wantIs(t, "RouteUntil", within(t, "RouteUntil", ended), context.Canceled)
	if got != 2 {
		t.Errorf("%d messages behind the damage, not 2", got)
	}
	must(t, s.Stop())
	must(t, rcv.Close())
}

// Who has closed a pipe knows behind a RouteUntil that no call of its handlers is under way.
func TestRouteUntilBehindClosePipe(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	began, goOn := make(chan struct{}), make(chan struct{})
	var ended atomic.Bool
	rcv.Handle(func(Message) {
		close(began)
		<-goOn
		ended.Store(true)
	}, nil)
	must(t, s.Start())
	must(t, s.Send(background, []byte("x")))
	within(t, "handler", began)
	must(t, rcv.Close())
	routed := inBackground(func() error { return r.RouteUntil(background, func() bool { return true }) })
	eventually(t, "it waits", r.cur.Load().until.Load)
	close(goOn)
	must(t, within(t, "RouteUntil", routed))
	if !ended.Load() {
		t.Error("the handler has not returned")
	}
	must(t, s.Stop())
}
