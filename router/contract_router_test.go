package router

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/hosttest"
	"github.com/shmrouter/shmrouter/sender"
)

// The contract, row by row: research of what its Python forerunner does, and
// what is decided here. 1a is the router.

func TestNewAcquiresNothing(t *testing.T) {
	guard(t)
	before := descriptors(t)
	r, err := New(WithEventLoop(newStage().loop()))
	must(t, err)
	if after := descriptors(t); len(after) != len(before) {
		t.Errorf("New opened %d descriptors", len(after)-len(before))
	}
	wantIs(t, "Stop before Start", r.Stop(), ErrNotRunning)
}

func TestNewRefusesOptions(t *testing.T) {
	guard(t)
	for _, o := range []Option{WithTurn(0), WithQueue(-1), WithInbox(0), WithMaxPipes(1 << 21), WithMaxMessage(0), WithCapacity(100_000), WithCapacity(0), WithResume()} {
		if _, err := New(o); !errors.Is(err, ErrOption) {
			t.Errorf("got %v, want ErrOption", err)
		}
	}
}

func TestStartTwice(t *testing.T) {
	guard(t)
	var j journal
	r := begin(t, WithLogger(j.logger()))
	wantIs(t, "second Start", r.Start(), ErrRunning)
	if n := len(j.matching("router started")); n != 1 {
		t.Errorf("%d log lines about the start", n)
	}
}

// failingLoop refuses its first pingee.
type failingLoop struct {
	GoLoop
	fail error
	EventLoop
}

func (l *failingLoop) Pingee(onPing func()) (Pingee, error) {
	if l.fail != nil {
		return nil, l.fail
	}
	return l.EventLoop.Pingee(onPing)
}

func TestStartRollsBack(t *testing.T) {
	guard(t)
	before := descriptors(t)
	loop := &failingLoop{fail: errors.New("toolkit is not ready"), EventLoop: newStage().loop()}
	path := t.TempDir() + "/segment"
	r, err := New(WithEventLoop(loop), WithPath(path))
	must(t, err)
	wantIs(t, "Start", r.Start(), loop.fail)
	if after := descriptors(t); len(after) != len(before) {
		t.Errorf("%d descriptors are left", len(after)-len(before))
	}
	loop.fail = nil
	must(t, r.Start()) // also shows that the path is free again
	halt(t, r)
}

func TestRestart(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		r := begin(t)
		s, rcv := pipe(t, r)
		old := far(r, s)
		must(t, old.Start())
		must(t, r.Stop())
		must(t, r.Start())
		wantIs(t, "Send to the run before", old.Send("lost"), sender.ErrRouterGone)
		wantIs(t, "ClosePipe of the run before", r.ClosePipe(rcv), ErrForeign)
		must(t, old.Stop())
		s, rcv = pipe(t, r)
		p := far(r, s)
		must(t, p.Start())
		must(t, p.Send("new"))
		if m, err := rcv.Recv(background); err != nil || string(m.Data) != "new" {
			t.Errorf("got %q, %v", m.Data, err)
		}
		must(t, p.Stop())
		must(t, rcv.Close())
	})
}

func TestStopTwice(t *testing.T) {
	guard(t)
	r := begin(t)
	must(t, r.Stop())
	wantIs(t, "second Stop", r.Stop(), ErrNotRunning)
	wantIs(t, "Pipe", second(r.Pipe()), ErrNotRunning)
	wantIs(t, "ClosePipe", r.ClosePipe(nil), ErrNotRunning)
	wantIs(t, "RouteUntil", r.RouteUntil(background, func() bool { return true }), ErrNotRunning)
}

func second[A, B any](_ A, _ B, err error) error { return err }

func TestStopWarnsOfUnclosedPipes(t *testing.T) {
	guard(t)
	var j journal
	r := begin(t, WithLogger(j.logger()))
	for range 3 {
		_, rcv := pipe(t, r)
		_ = rcv
	}
	_, rcv := pipe(t, r)
	must(t, r.ClosePipe(rcv))
	must(t, r.Stop())
	lines := j.matching("unclosed pipes")
	if len(lines) != 1 || !strings.Contains(lines[0], "count=3") || !strings.Contains(lines[0], "level=WARN") {
		t.Errorf("got %q", lines)
	}
	// And none where there is nothing to warn of.
	must(t, r.Start())
	must(t, r.Stop())
	if got := len(j.matching("unclosed pipes")); got != 1 {
		t.Errorf("%d warnings", got)
	}
}

func TestStopDoesNotWaitForBacklog(t *testing.T) {
	guard(t)
	stage := newStage()
	r := begin(t, WithEventLoop(stage.loop()), WithInbox(1))
	s, _ := pipe(t, r)
	l := &local{s: s}
	must(t, l.Start())
	n := 0
	for ; l.TrySend("backlog") == nil; n++ {
	}
	must(t, r.Stop()) // the loop never ran
	within(t, "done", r.Done())
	if got := r.Stats().Unrouted; got != uint64(n) {
		t.Errorf("%d messages not routed, want %d", got, n)
	}
	must(t, l.Stop())
}

// Who waits for room learns of the stop at once, also behind others, where sleeps are long.
func TestStopEndsWaiting(t *testing.T) {
	guard(t)
	r := begin(t, WithEventLoop(newStage().loop()), WithInbox(1))
	s, _ := pipe(t, r)
	must(t, s.Start())
	for err := error(nil); err == nil; {
		short, cancel := context.WithTimeout(background, 20*time.Millisecond)
		err = s.Send(short, nil) // the last one leaves the queue, which looks as if it were still there
		cancel()
	}
	waits := s.Stats().Waits
	const drains = 4
	failed := make(chan error, drains+1)
	for range drains {
		go func() { failed <- s.Drain(background) }()
	}
	go func() {
		err := error(nil)
		for err == nil { // a busy machine may have been late, and the ring not full yet
			err = s.Send(background, nil)
		}
		failed <- err
	}()
	eventually(t, "it waits", func() bool { return s.Stats().Waits > waits })
	passed, stop := hosttest.OwnTime(func() bool { return true })
	defer stop()
	must(t, r.Stop())
	for range drains + 1 {
		// What a drain waits for may have been copied out at the end.
		if err := within(t, "the wait ends", failed); err != nil && !errors.Is(err, sender.ErrRouterGone) {
			t.Error(err)
		}
	}
	if took := passed(); took > promisedNotice {
		t.Errorf("after %v of this process's own time", took)
	}
	must(t, s.Stop())
}

func TestStopCountsWhatWasNotRouted(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		stage := newStage()
		r := begin(t, WithEventLoop(stage.loop()))
		s, rcv := pipe(t, r)
		got := 0
		rcv.Handle(func(Message) {
			if got++; got == 10 {
				must(t, r.Stop())
			}
		}, nil)
		p := far(r, s)
		must(t, p.Start())
		must(t, p.SendMany(1000, 10))
		stage.until(t, "stopped", func() bool { return got == 10 })
		within(t, "done", r.Done())
		stage.run()
		if lost := r.Stats().Unrouted; got != 10 || lost != 990 {
			t.Errorf("%d routed, %d not", got, lost)
		}
		must(t, p.Stop())
	})
}

func TestStopFromHandler(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		r := begin(t)
		s, rcv := pipe(t, r)
		stopped := make(chan error, 1)
		rcv.Handle(func(Message) { stopped <- r.Stop() }, nil)
		p := far(r, s)
		must(t, p.Start())
		must(t, p.Send("stop"))
		must(t, within(t, "Stop", stopped))
		within(t, "done", r.Done())
		wantIs(t, "Send", p.Send("late"), sender.ErrRouterGone)
		must(t, p.Stop())
	})
}

func TestStopWhileHandlerBlocks(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	entered, leave := make(chan bool), make(chan bool)
	calls := 0
	rcv.Handle(func(Message) { calls++; entered <- true; <-leave }, nil)
	l := &local{s: s}
	must(t, l.Start())
	must(t, l.SendMany(2, 8))
	within(t, "handler", entered)
	must(t, r.Stop()) // completes although the handler does not
	select {
	case <-r.Done():
		t.Error("done while a handler runs")
	default:
	}
	leave <- true
	within(t, "done", r.Done())
	if calls != 1 || r.Stats().Unrouted != 1 {
		t.Errorf("%d calls, %d not routed", calls, r.Stats().Unrouted)
	}
	must(t, l.Stop())
}

func TestConcurrentUse(t *testing.T) {
	guard(t)
	r := begin(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				s, rcv, err := r.Pipe()
				if err != nil {
					t.Error(err)
					return
				}
				got := make(chan string, 1)
				rcv.Handle(func(m Message) { got <- string(m.Data) }, nil)
				l := &local{s: s}
				if err := errors.Join(l.Start(), l.Send("x"), l.Stop()); err != nil {
					t.Error(err)
				}
				within(t, "message", got)
				r.Stats()
				if err := rcv.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if s := r.Stats(); s.Pipes != (PipeStats{}) {
		eventually(t, "no pipe lingers", func() bool { return r.Stats().Pipes == (PipeStats{}) })
	}
}

func TestIDsAreUnique(t *testing.T) {
	guard(t)
	r := begin(t)
	seen := map[uint64]bool{}
	for range 100 {
		s, rcv := pipe(t, r)
		if seen[rcv.ID()] || s.ID() != rcv.ID() {
			t.Fatalf("id %d again, or not its sender's %d", rcv.ID(), s.ID())
		}
		seen[rcv.ID()] = true
		must(t, rcv.Close()) // the index is used again, the id not
	}
}

func TestClosePipeTwice(t *testing.T) {
	guard(t)
	r := begin(t)
	_, rcv := pipe(t, r)
	must(t, r.ClosePipe(rcv))
	err := r.ClosePipe(rcv)
	wantIs(t, "second ClosePipe", err, ErrPipeClosed)
	if got := r.Stats().Pipes; got != (PipeStats{}) {
		t.Errorf("pipes: %+v", got)
	}
}

func TestClosePipeOfAnotherRouter(t *testing.T) {
	guard(t)
	a, b := begin(t), begin(t)
	s, ra := pipe(t, a)
	_, rb := pipe(t, b)
	if ra.ID() != rb.ID() {
		t.Skip("ids differ anyway")
	}
	wantIs(t, "ClosePipe", b.ClosePipe(ra), ErrForeign)
	wantIs(t, "HandOver", b.HandOver(command(t, "puppet", ""), s), ErrForeign)
	must(t, ra.Close())
	must(t, rb.Close())
}

func TestClosePipeFromHandler(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		stage := newStage()
		r := begin(t, WithEventLoop(stage.loop()))
		s, rcv := pipe(t, r)
		got := 0
		rcv.Handle(func(Message) { got++; must(t, rcv.Close()) }, func(error) { t.Error("end of a closed pipe") })
		p := far(r, s)
		must(t, p.Start())
		must(t, p.SendMany(100, 8))
		must(t, p.Stop())
		stage.until(t, "discarded", func() bool { return r.Stats().Discarded == 99 })
		if got != 1 {
			t.Errorf("%d messages reached a closed receiver", got-1)
		}
		eventually(t, "the index is free", func() bool { return r.Stats().Pipes == (PipeStats{}) })
	})
}

func TestSendToClosedPipe(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		var j journal
		stage := newStage()
		r := begin(t, WithEventLoop(stage.loop()), WithLogger(j.logger()))
		s, rcv := pipe(t, r)
		rcv.Handle(func(Message) { t.Error("message from a closed pipe") }, nil)
		p := far(r, s)
		must(t, p.Start())
		must(t, r.ClosePipe(rcv))
		must(t, p.SendMany(50, 8))
		stage.until(t, "discarded", func() bool { return r.Stats().Discarded == 50 })
		lines := j.matching("discarding message from closed pipe")
		if len(lines) == 0 || len(lines) > 3 || !strings.Contains(lines[0], fmt.Sprintf("pipe=%d", rcv.ID())) {
			t.Errorf("got %q", lines)
		}
		must(t, p.Stop())
	})
}

func TestStartOnClosedPipe(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		r := begin(t)
		s, rcv := pipe(t, r)
		p := far(r, s)
		must(t, r.ClosePipe(rcv))
		wantIs(t, "Start", p.Start(), sender.ErrPipeClosed)
	})
}

func TestDispatchIsCapped(t *testing.T) {
	guard(t)
	stage := newStage()
	r := begin(t, WithEventLoop(stage.loop()), WithTurn(10), WithInbox(1000))
	s, rcv := pipe(t, r)
	total := 0
	rcv.Handle(func(Message) { total++ }, nil)
	l := &local{s: s}
	must(t, l.Start())
	must(t, l.SendMany(1000, 8))
	eventually(t, "copied", func() bool { return r.Stats().Copied == 1000 })
	for total < 1000 {
		within(t, "post", stage.ready)
		before := total
		if n := stage.run(); total-before > 10*n {
			t.Fatalf("%d messages in %d turns", total-before, n)
		}
	}
	must(t, l.Stop())
}

func TestPingsCoalesce(t *testing.T) {
	guard(t)
	stage := newStage()
	r := begin(t, WithEventLoop(stage.loop()), WithInbox(100))
	s, rcv := pipe(t, r)
	got := 0
	rcv.Handle(func(Message) { got++ }, nil)
	l := &local{s: s}
	must(t, l.Start())
	must(t, l.SendMany(100, 8))
	eventually(t, "copied", func() bool { return r.Stats().Copied == 100 })
	if st := r.Stats(); st.Pings != 1 {
		t.Errorf("%d pings for a loop that did not run", st.Pings)
	}
	stage.until(t, "routed", func() bool { return got == 100 })
	if st := r.Stats(); st.Pings > st.Turns+1 {
		t.Errorf("%d pings for %d turns", st.Pings, st.Turns)
	}
	must(t, l.Stop())
}

func TestPingWithNothingToRoute(t *testing.T) {
	guard(t)
	stage := newStage()
	r := begin(t, WithEventLoop(stage.loop()))
	n := r.cur.Load()
	for range 10 {
		n.onPing()
	}
	must(t, n.pingee.Ping())
	stage.until(t, "turn", func() bool { return r.Stats().Turns >= 11 })
	if st := r.Stats(); st.Routed != 0 {
		t.Errorf("%+v", st)
	}
}

func TestHandlerPanics(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		var j journal
		stage := newStage()
		r := begin(t, WithEventLoop(stage.loop()), WithLogger(j.logger()))
		s, rcv := pipe(t, r)
		got, ended := 0, false
		rcv.Handle(func(Message) {
			if got++; got%2 == 1 {
				panic("observer is broken")
			}
		}, func(error) { ended = true; panic(errors.New("this one too")) })
		p := far(r, s)
		must(t, p.Start())
		must(t, p.SendMany(10, 8))
		must(t, p.Stop())
		stage.until(t, "ended", func() bool { return ended })
		if got != 10 || r.Stats().Panics != 6 || len(j.matching("observer is broken")) != 5 {
			t.Errorf("%d messages, %d panics, %d reports", got, r.Stats().Panics, len(j.matching("observer is broken")))
		}
		must(t, rcv.Close())
	})
}

func TestHandlerEndsItsGoroutine(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	var got []string
	ended := make(chan error, 1)
	rcv.Handle(func(m Message) {
		got = append(got, string(m.Data))
		if len(got) == 1 {
			runtime.Goexit()
		}
	}, func(err error) { ended <- err })
	l := &local{s: s}
	must(t, l.Start())
	must(t, l.Send("a"))
	must(t, l.Send("b"))
	must(t, l.Stop())
	within(t, "end", ended)
	if !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("got %q", got)
	}
	must(t, rcv.Close())
}

func TestOrderPerPipe(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		r := begin(t)
		const pipes, messages = 4, 500
		var wg sync.WaitGroup
		for range pipes {
			s, rcv := pipe(t, r)
			next := 0
			wg.Add(1)
			rcv.Handle(func(m Message) {
				checkBody(t, next, m.Data)
				if next++; m.Seq != uint64(next) {
					t.Errorf("message %d has number %d", next, m.Seq)
				}
			}, func(err error) {
				if next != messages || err != nil {
					t.Errorf("end after %d messages: %v", next, err)
				}
				rcv.Close()
				wg.Done()
			})
			p := far(r, s)
			must(t, p.Start())
			if rp, ok := p.(*remote); ok {
				rp.tell(order{Op: "many", N: messages, Size: 100})
				rp.tell(order{Op: "stop"})
			} else {
				go func() { p.SendMany(messages, 100); p.Stop() }()
			}
		}
		wg.Wait()
	})
}

// A send that began after another returned is delivered after it.
func TestOrderAcrossSenders(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		stage := newStage()
		r := begin(t, WithEventLoop(stage.loop()))
		var got []string
		var peers []peer
		for range 3 {
			s, rcv := pipe(t, r)
			rcv.Handle(func(m Message) { got = append(got, string(m.Data)) }, nil)
			p := far(r, s)
			must(t, p.Start())
			peers = append(peers, p)
		}
		var want []string
		for i := range 60 {
			text := fmt.Sprint(i)
			must(t, peers[i*7%3].Send(text))
			want = append(want, text)
		}
		stage.until(t, "all", func() bool { return len(got) == len(want) })
		if !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
		for _, p := range peers {
			must(t, p.Stop())
		}
	})
}

func TestNoDuplicates(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		r := begin(t, WithCapacity(64<<10), WithInbox(1), WithQueue(10))
		s, rcv := pipe(t, r)
		p := far(r, s)
		must(t, p.Start())
		const messages = 3000
		if rp, ok := p.(*remote); ok {
			rp.tell(order{Op: "many", N: messages, Size: 50})
			rp.tell(order{Op: "stop"})
		} else {
			go func() { p.SendMany(messages, 50); p.Stop() }()
		}
		next := 0
		for m, err := range rcv.Messages(background) {
			must(t, err)
			checkBody(t, next, m.Data)
			next++
		}
		if next != messages {
			t.Errorf("%d messages", next)
		}
		must(t, rcv.Close())
	})
}

func TestBackPressure(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		stage := newStage()
		r := begin(t, WithEventLoop(stage.loop()), WithCapacity(64<<10), WithInbox(1))
		s, rcv := pipe(t, r)
		p := far(r, s)
		must(t, p.Start())
		n := 0
		var err error
		for err == nil {
			if err = p.TrySend("the loop does not run"); err == nil {
				n++
			}
		}
		wantIs(t, "TrySend", err, sender.ErrFull)
		got := 0
		rcv.Handle(func(Message) { got++ }, nil)
		stage.until(t, "all of them", func() bool { return got == n })
		must(t, p.Send("room again"))
		must(t, p.Stop())
		must(t, rcv.Close())
	})
}
