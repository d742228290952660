package router

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/sender"
)

// 1c is the receiver.

func TestMessagesAreHeldForAHandler(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		stage := newStage()
		r := begin(t, WithEventLoop(stage.loop()))
		s, rcv := pipe(t, r)
		p := far(r, s)
		must(t, p.Start())
		must(t, p.SendMany(20, 8))
		stage.until(t, "held", func() bool { return r.Stats().Routed == 20 })
		must(t, p.SendMany(1, 8)) // in the inbox or the ring when the handler comes
		var got []int
		ended := false
		rcv.Handle(func(m Message) { got = append(got, len(got)); checkBody(t, (len(got)-1)%20, m.Data) }, func(error) { ended = true })
		if len(got) != 0 {
			t.Error("Handle called the handler itself")
		}
		must(t, p.Stop())
		stage.until(t, "end", func() bool { return ended })
		if len(got) != 21 {
			t.Errorf("%d messages", len(got))
		}
		must(t, rcv.Close())
	})
}

func TestEndIsHeldForAHandler(t *testing.T) {
	guard(t)
	stage := newStage()
	r := begin(t, WithEventLoop(stage.loop()))
	s, rcv := pipe(t, r)
	l := &local{s: s}
	must(t, l.Start())
	must(t, l.Stop())
	stage.until(t, "end dispatched", func() bool { return r.Stats().Ends == 1 && r.Stats().Queued == 0 })
	ends := 0
	rcv.Handle(func(Message) {}, func(err error) { ends++; must(t, err) })
	stage.until(t, "told", func() bool { return ends == 1 })
	rcv.Handle(func(Message) {}, func(error) { ends++ })
	stage.run()
	if ends != 1 {
		t.Errorf("told %d times", ends)
	}
	must(t, rcv.Close())
}

func TestHandlersRunOnTheLoop(t *testing.T) {
	guard(t)
	loop, err := NewEpollLoop()
	must(t, err)
	defer loop.Close()
	r := begin(t, WithEventLoop(loop))
	s, rcv := pipe(t, r)
	ctx, cancel := context.WithCancel(background)
	inRun := false
	rcv.Handle(func(Message) {
		pcs := make([]uintptr, 100)
		frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
		for {
			f, more := frames.Next()
			inRun = inRun || strings.HasSuffix(f.Function, ".TestHandlersRunOnTheLoop")
			if !more {
				break
			}
		}
		cancel()
	}, nil)
	l := &local{s: s}
	must(t, l.Start())
	must(t, l.Send("x"))
	must(t, l.Stop())
	wantIs(t, "Run", loop.Run(ctx), context.Canceled)
	if !inRun {
		t.Error("handler did not run on the goroutine of Run")
	}
	must(t, rcv.Close())
}

func TestRecvOfAHandledReceiver(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	got := make(chan error)
	go func() { _, err := rcv.Recv(background); got <- err }()
	rcv.Handle(func(Message) {}, nil)
	wantIs(t, "Recv", within(t, "Recv", got), ErrHandled)
	rcv.Handle(nil, nil)
	l := &local{s: s}
	must(t, l.Start())
	must(t, l.Send("pulled"))
	if m, err := rcv.Recv(background); err != nil || string(m.Data) != "pulled" {
		t.Errorf("got %q, %v", m.Data, err)
	}
	must(t, l.Stop())
	must(t, rcv.Close())
	_, err := rcv.Recv(background)
	wantIs(t, "Recv after Close", err, ErrPipeClosed)
}

func TestRecvEnds(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	ctx, cancel := context.WithTimeout(background, time.Millisecond)
	defer cancel()
	_, err := rcv.Recv(ctx)
	wantIs(t, "Recv", err, context.DeadlineExceeded)
	const waiting = 5
	got := make(chan error, waiting)
	for range waiting {
		go func() { _, err := rcv.Recv(background); got <- err }()
	}
	l := &local{s: s}
	must(t, l.Start())
	must(t, l.Send("for one of them"))
	must(t, within(t, "message", got))
	must(t, r.Stop())
	for range waiting - 1 {
		wantIs(t, "Recv", within(t, "Recv", got), ErrStopped)
	}
	must(t, l.Stop())
}

func TestStoppedReceiverKeepsWhatItHolds(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	l := &local{s: s}
	must(t, l.Start())
	must(t, l.SendMany(3, 8))
	eventually(t, "held", func() bool { return r.Stats().Routed == 3 })
	must(t, r.Stop())
	n := 0
	var last error
	for m, err := range rcv.Messages(background) {
		if last = err; err == nil {
			checkBody(t, n, m.Data)
			n++
		}
	}
	if n != 3 {
		t.Errorf("%d messages", n)
	}
	wantIs(t, "end", last, ErrStopped)
	must(t, l.Stop())
}

func TestFullQueueStopsRouting(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		for _, way := range []string{"taking", "handling", "closing"} {
			r := begin(t, WithQueue(5))
			s1, slow := pipe(t, r)
			s2, other := pipe(t, r)
			p1, p2 := far(r, s1), far(r, s2)
			must(t, p1.Start())
			must(t, p2.Start())
			got := make(chan string, 1)
			other.Handle(func(m Message) { got <- string(m.Data) }, nil)
			must(t, p1.SendMany(6, 8))
			must(t, p2.Send("behind"))
			eventually(t, "stalled", func() bool { return r.Stats().StalledBy == slow })
			select {
			case <-got:
				t.Error("routed past a full receiver")
			default:
			}
			switch way {
			case "taking":
				m, err := slow.Recv(background)
				must(t, err)
				checkBody(t, 0, m.Data)
			case "handling":
				slow.Handle(func(Message) {}, nil)
			case "closing":
				must(t, slow.Close())
			}
			within(t, "routing goes on after "+way, got)
			if s := r.Stats(); s.StalledBy != nil || s.Stalls != 1 {
				t.Errorf("stalled by %v, %d times", s.StalledBy, s.Stalls)
			}
			must(t, p1.Stop())
			must(t, p2.Stop())
			halt(t, r)
		}
	})
}

func TestLeavingMessagesLosesNothing(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	l := &local{s: s}
	must(t, l.Start())
	must(t, l.SendMany(10, 8))
	must(t, l.Stop())
	n := 0
	for range 10 {
		for m, err := range rcv.Messages(background) {
			must(t, err)
			checkBody(t, n, m.Data)
			n++
			break
		}
	}
	for range rcv.Messages(background) {
		n++
	}
	if n != 10 {
		t.Errorf("%d messages", n)
	}
	must(t, rcv.Close())
}
