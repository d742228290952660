package router

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// 1d and 1e: pingees and event loops. Each ready-made loop is put through the
// same tests; turn has the loop run what is pending, and returns when it has.
type loopUnderTest struct {
	EventLoop
	turn  func()
	close func()
}

func eachLoop(t *testing.T, test func(t *testing.T, l loopUnderTest)) {
	t.Run("GoLoop", func(t *testing.T) {
		guard(t)
		l := NewGoLoop()
		// Its turn is over when a pingee that was pinged last has been called: they are called in order.
		turn := func() {
			called := make(chan bool, 1)
			p, err := l.Pingee(func() { called <- true })
			must(t, err)
			must(t, p.Ping())
			within(t, "turn", called)
			must(t, p.Close())
		}
		test(t, loopUnderTest{l, turn, func() { l.Close(); within(t, "loop ends", l.Done()) }})
	})
	t.Run("EpollLoop", func(t *testing.T) {
		guard(t)
		l, err := NewEpollLoop()
		must(t, err)
		test(t, loopUnderTest{l, func() { must(t, l.RunOnce()) }, func() { must(t, l.Close()) }})
	})
	t.Run("FDLoop", func(t *testing.T) {
		guard(t)
		l, err := NewFDLoop()
		must(t, err)
		turn := func() {
			if readable(t, l.FD()) {
				must(t, l.Dispatch())
			}
		}
		test(t, loopUnderTest{l, turn, func() { must(t, l.Close()) }})
	})
	t.Run("PostLoop", func(t *testing.T) {
		guard(t)
		s := newStage()
		l := &noting{EventLoop: s.loop()}
		turn := func() { s.until(t, "turn", func() bool { return !l.pending() }) }
		test(t, loopUnderTest{l, turn, func() {}})
	})
}

// noting is a PostLoop that knows its pingees.
type noting struct {
	EventLoop
	pingees []*pingee
}

func (l *noting) Pingee(onPing func()) (Pingee, error) {
	p, err := l.EventLoop.Pingee(onPing)
	l.pingees = append(l.pingees, p.(*pingee))
	return p, err
}

func (l *noting) pending() bool {
	return slices.ContainsFunc(l.pingees, func(p *pingee) bool { return p.pending.Load() && !p.closed.Load() })
}

func readable(t *testing.T, fd int) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	must(t, err)
	return n > 0
}

// Pings may be one call for several; there is at least one after the last.
func TestPingeeIsCalled(t *testing.T) {
	eachLoop(t, func(t *testing.T, l loopUnderTest) {
		defer l.close()
		var calls, sum atomic.Int64
		var work atomic.Int64
		p, err := l.Pingee(func() { calls.Add(1); sum.Add(work.Swap(0)) })
		must(t, err)
		const pingers, pings = 4, 100
		var wg sync.WaitGroup
		for range pingers {
			wg.Go(func() {
				for range pings {
					work.Add(1)
					p.Ping()
				}
			})
		}
		wg.Wait() // the pingers are gone when the loop runs
		l.turn()
		if n := calls.Load(); n < 1 || n > pingers*pings {
			t.Errorf("%d calls", n)
		}
		if sum.Load() != pingers*pings {
			t.Errorf("%d pieces of work were seen", sum.Load())
		}
		before := calls.Load()
		l.turn()
		if calls.Load() != before {
			t.Error("called without a ping")
		}
		must(t, p.Close())
	})
}

func TestPingIsNotInline(t *testing.T) {
	eachLoop(t, func(t *testing.T, l loopUnderTest) {
		defer l.close()
		var mu sync.Mutex
		called := false
		p, err := l.Pingee(func() { mu.Lock(); called = true; mu.Unlock() })
		must(t, err)
		mu.Lock() // a call within Ping would never return
		must(t, p.Ping())
		mu.Unlock()
		l.turn()
		mu.Lock()
		if !called {
			t.Error("not called")
		}
		mu.Unlock()
		must(t, p.Close())
	})
}

func TestPingAfterClose(t *testing.T) {
	eachLoop(t, func(t *testing.T, l loopUnderTest) {
		calls := 0
		var p Pingee
		p, err := l.Pingee(func() { calls++; p.Ping(); must(t, p.Close()) }) // closes itself, with a ping pending
		must(t, err)
		must(t, p.Ping())
		l.turn()
		must(t, p.Ping()) // late
		l.turn()
		if calls != 1 {
			t.Errorf("%d calls", calls)
		}
		must(t, p.Close()) // again: harmless
		l.close()
		must(t, p.Ping()) // and after the loop
	})
}

func TestPingDuringTheCall(t *testing.T) {
	eachLoop(t, func(t *testing.T, l loopUnderTest) {
		defer l.close()
		calls := 0
		var p Pingee
		p, err := l.Pingee(func() {
			if calls++; calls == 1 {
				must(t, p.Ping())
			}
		})
		must(t, err)
		must(t, p.Ping())
		l.turn()
		l.turn()
		l.turn()
		if calls != 2 {
			t.Errorf("%d calls", calls)
		}
		must(t, p.Close())
	})
}

func TestSeveralPingees(t *testing.T) {
	eachLoop(t, func(t *testing.T, l loopUnderTest) {
		defer l.close()
		var calls [3]atomic.Int64
		var ps [3]Pingee
		for i := range ps {
			var err error
			ps[i], err = l.Pingee(func() { calls[i].Add(1) })
			must(t, err)
		}
		must(t, ps[0].Ping())
		must(t, ps[2].Ping())
		l.turn()
		if calls[0].Load() != 1 || calls[1].Load() != 0 || calls[2].Load() != 1 {
			t.Errorf("calls: %v", []int64{calls[0].Load(), calls[1].Load(), calls[2].Load()})
		}
		for _, p := range ps {
			must(t, p.Close())
		}
	})
}

// Two routers on one loop, with messages for both.
func TestRoutersShareALoop(t *testing.T) {
	eachLoop(t, func(t *testing.T, l loopUnderTest) {
		var got [2]atomic.Int64
		var routers [2]*Router
		for i := range routers {
			routers[i] = begin(t, WithEventLoop(l), WithTurn(7))
			s, rcv := pipe(t, routers[i])
			rcv.Handle(func(Message) { got[i].Add(1) }, nil)
			p := &local{s: s}
			must(t, p.Start())
			must(t, p.SendMany(50, 8))
			must(t, p.Stop())
		}
		eventually(t, "routed", func() bool { l.turn(); return got[0].Load() == 50 && got[1].Load() == 50 })
		for _, r := range routers {
			halt(t, r)
		}
		l.close()
	})
}

// brokenLoop's pings fail, as a toolkit's do after its end.
type brokenLoop struct{ pinged chan bool }

func (l *brokenLoop) Pingee(func()) (Pingee, error) { return l, nil }
func (l *brokenLoop) Ping() error {
	select {
	case l.pinged <- true:
	default:
	}
	return errors.New("event loop is closed")
}
func (l *brokenLoop) Close() error { return nil }

func TestMonitorOutlivesTheLoop(t *testing.T) {
	guard(t)
	var j journal
	loop := &brokenLoop{make(chan bool, 1)}
	r := begin(t, WithEventLoop(loop), WithLogger(j.logger()))
	s, rcv := pipe(t, r)
	l := &local{s: s}
	must(t, l.Start())
	must(t, l.SendMany(10, 8))
	within(t, "ping", loop.pinged)
	eventually(t, "copied", func() bool { return r.Stats().Copied == 10 })
	eventually(t, "report", func() bool { return len(j.matching("event loop cannot be pinged")) == 1 })
	got := 0 // there is another way to route
	rcv.Handle(func(Message) { got++ }, nil)
	must(t, r.RouteUntil(expired(), func() bool { return got == 10 }))
	must(t, l.Stop())
}

// A loop that is closed before its router is reported, too.
func TestLoopIsClosedFirst(t *testing.T) {
	eachLoop(t, func(t *testing.T, l loopUnderTest) {
		if _, ok := l.EventLoop.(*noting); ok {
			t.Skip("cannot be closed")
		}
		var j journal
		r := begin(t, WithEventLoop(l), WithLogger(j.logger()))
		s, _ := pipe(t, r)
		p := &local{s: s}
		must(t, p.Start())
		l.close()
		must(t, p.SendMany(1, 8))
		eventually(t, "report", func() bool { return len(j.matching("event loop cannot be pinged")) == 1 })
		wantIs(t, "Ping", r.cur.Load().pingee.Ping(), os.ErrClosed)
		must(t, p.Stop())
		halt(t, r)
	})
}

// post may block until the loop takes the func: a handler may stop the router all
// the same, and nothing is left once the loop takes the func, or has ended.
func TestPostLoopMayBlock(t *testing.T) {
	guard(t)
	posts, ended := make(chan func()), make(chan bool)
	var posting atomic.Int64
	r := begin(t, WithTurn(1), WithEventLoop(PostLoop(func(f func()) {
		posting.Add(1)
		defer posting.Add(-1)
		select {
		case posts <- f:
		case <-ended:
		}
	})))
	go func() {
		for {
			select {
			case f := <-posts:
				f()
			case <-ended:
				return
			}
		}
	}()
	s, rcv := pipe(t, r)
	l := &local{s: s}
	must(t, l.Start())
	got := 0
	stopped := make(chan error, 1)
	rcv.Handle(func(Message) {
		if got++; got == 10 {
			l.SendMany(1, 8) // the monitor has something to post
			eventually(t, "copied", func() bool { return r.Stats().Copied == 21 })
			stopped <- r.Stop()
		}
	}, nil)
	must(t, l.SendMany(20, 8))
	must(t, within(t, "Stop", stopped))
	within(t, "done", r.Done())
	close(ended)
	eventually(t, "no post is left", func() bool { return posting.Load() == 0 })
	must(t, l.Stop())
}

func TestEpollLoop(t *testing.T) {
	guard(t)
	l, err := NewEpollLoop()
	must(t, err)
	p, err := l.Pingee(func() { wantIs(t, "Run in a handler", l.Run(background), ErrLoopRunning) })
	must(t, err)
	if readable(t, l.FD()) {
		t.Error("readable before a ping")
	}
	must(t, p.Ping())
	if !readable(t, l.FD()) {
		t.Error("not readable after a ping")
	}
	must(t, l.RunOnce())
	if readable(t, l.FD()) {
		t.Error("readable after the turn")
	}

	r, w, err := os.Pipe()
	must(t, err)
	ctx, cancel := context.WithCancel(background)
	fd := int(r.Fd())
	must(t, l.Watch(fd, func() {
		r.Read(make([]byte, 10))
		l.Unwatch(fd)
		cancel()
	}))
	must(t, second(0, 0, onlyErr(w.Write([]byte("x")))))
	wantIs(t, "Run", l.Run(ctx), context.Canceled)
	must(t, r.Close())
	must(t, w.Close())

	must(t, p.Close())
	q, err := l.Pingee(func() { must(t, l.Close()) }) // from within
	must(t, err)
	must(t, q.Ping())
	wantIs(t, "Run", l.Run(background), os.ErrClosed)
	wantIs(t, "RunOnce after Close", l.RunOnce(), os.ErrClosed)
	wantIs(t, "second Close", l.Close(), os.ErrClosed)
	_, err = l.Pingee(func() {})
	wantIs(t, "Pingee after Close", err, os.ErrClosed)
	if l.FD() != -1 {
		t.Error("a descriptor after Close")
	}
	must(t, q.Close())
}

func onlyErr(_ int, err error) error { return err }

// Nobody waits in vain when Run's context ends at any moment.
func TestEpollLoopRunsAgain(t *testing.T) {
	guard(t)
	l, err := NewEpollLoop()
	must(t, err)
	defer l.Close()
	for range 100 {
		ctx, cancel := context.WithCancel(background)
		go cancel()
		wantIs(t, "Run", l.Run(ctx), context.Canceled)
	}
	must(t, l.RunOnce())
	must(t, l.RunOnce())
}

// The drain rule: a ping during Dispatch leaves the descriptor readable.
func TestFDLoopDrainRule(t *testing.T) {
	guard(t)
	l, err := NewFDLoop()
	must(t, err)
	defer l.Close()
	var p Pingee
	calls := 0
	p, err = l.Pingee(func() {
		if calls++; calls == 1 {
			p.Ping()
		}
	})
	must(t, err)
	must(t, p.Ping())
	must(t, l.Dispatch())
	if !readable(t, l.FD()) {
		t.Error("the second ping is lost")
	}
	must(t, l.Dispatch())
	if readable(t, l.FD()) || calls != 2 {
		t.Errorf("%d calls", calls)
	}
	must(t, p.Close())
}

// However many messages come, the loop is pinged once a turn.
func TestOneEventfdWritePerTurn(t *testing.T) {
	guard(t)
	l, err := NewFDLoop()
	must(t, err)
	defer l.Close()
	r := begin(t, WithEventLoop(l))
	s, rcv := pipe(t, r)
	got := 0
	rcv.Handle(func(Message) { got++ }, nil)
	p := &local{s: s}
	must(t, p.Start())
	go func() { p.SendMany(20_000, 8) }()
	for got < 20_000 {
		must(t, l.Wait())
		must(t, l.Dispatch())
	}
	if st := r.Stats(); st.Pings > st.Turns+1 {
		t.Errorf("%d pings for %d turns", st.Pings, st.Turns)
	}
	must(t, p.Stop())
	halt(t, r)
}
