package router

import (
	"os"
	"sync"
	"sync/atomic"

	"github.com/shmrouter/shmrouter/internal/label"
)

// EventLoop is what a program's event loop must offer for a router to deliver on
// it. Ready-made are NewGoLoop (a goroutine), NewEpollLoop (to be run by the
// caller), NewFDLoop (a descriptor for a foreign loop) and PostLoop (a toolkit
// that can only run a posted func).
type EventLoop interface {
	// Pingee registers onPing with the loop. It is called by Start.
	Pingee(onPing func()) (Pingee, error)
}

// Pingee wakes one event loop for one purpose.
type Pingee interface {
	// Ping has the loop call onPing soon, on the loop, at least once after the
	// call; also if the loop is not running yet, then when it does. Pings
	// coalesce: n of them are between 1 and n calls. Ping never blocks, and never
	// calls onPing itself. Any goroutine may call it, also after Close: then it
	// is ignored. An error means that the loop cannot be reached any more:
	// os.ErrClosed if it was closed itself.
	Ping() error
	// Close ends it: pending and later pings are ignored, and no call of onPing
	// begins once Close has returned, if it was called on the loop. It does not
	// wait for a call that is under way, so onPing may call it.
	Close() error
}

// pingee is what all ready-made loops are made of: a pending flag, and a signal
// that has the loop call run.
type pingee struct {
	pending atomic.Bool
	closed  atomic.Bool
	onPing  func()
	signal  func() error // has the loop call run
	retire  func()       // removes it from its loop; may be nil

	// Of a router on a GoLoop; nil otherwise, and guarded by the set's mu.
	serve   func(called func() bool) // does the monitor's work on the loop
	callOff func()                   // has serve look at called
	decline func()                   // says that serve will not be called
}

func (p *pingee) Ping() error {
	if p.closed.Load() || p.pending.Swap(true) {
		return nil // already pinged is success: run has not begun, or it would have cleared the flag
	}
	err := p.signal()
	if err == nil {
		return nil
	}
	p.pending.Store(false)
	if p.closed.Load() {
		return nil // meanwhile
	}
	return err
}

func (p *pingee) Close() error {
	if !p.closed.Swap(true) && p.retire != nil {
		p.retire()
	}
	return nil
}

// run clears the flag before the work, so that a ping during the work is a new one.
func (p *pingee) run() {
	if p.pending.Swap(false) && !p.closed.Load() {
		p.onPing()
	}
}

// pingees is a loop's set of them.
type pingees struct {
	mu     sync.Mutex
	set    []*pingee // copied on write: runPending walks it without the lock
	closed bool
}

func (s *pingees) add(onPing func(), signal func() error) (*pingee, error) {
	p := &pingee{onPing: onPing, signal: signal}
	p.retire = func() { s.remove(p) }
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, os.ErrClosed
	}
	s.set = append(s.set[:len(s.set):len(s.set)], p)
	return p, nil
}

func (s *pingees) remove(p *pingee) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rest []*pingee
	for _, other := range s.set {
		if other != p {
			rest = append(rest, other)
		}
	}
	s.set = rest
}

// offer lets a member serve.
func (s *pingees) offer(p Pingee, serve func(called func() bool), callOff, decline func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := p.(*pingee)
	q.serve, q.callOff, q.decline = serve, callOff, decline
}

// declineAll tells the members that none will serve.
func (s *pingees) declineAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.set {
		if p.decline != nil {
			p.decline()
		}
	}
}

// sole returns the only member, if there is one and it can serve.
func (s *pingees) sole() *pingee {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.set) != 1 || s.set[0].serve == nil {
		return nil
	}
	return s.set[0]
}

func (s *pingees) runPending() {
	s.mu.Lock()
	set := s.set
	s.mu.Unlock()
	for _, p := range set {
		p.run()
	}
}

func (s *pingees) close() (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, s.closed = !s.closed, true
	return first
}

// GoLoop is an event loop that is nothing but a goroutine, for programs without
// one of their own. It may serve several routers: their handlers then never run
// at the same time. A Router makes one for itself if it is given no other.
type GoLoop struct {
	members pingees
	wake    chan struct{} // one token: somebody is pending
	quit    chan struct{}
	ended   chan struct{}
	serving atomic.Pointer[pingee] // is doing its router's work: see duty.go
}

// NewGoLoop starts a loop. It runs until Close.
func NewGoLoop() *GoLoop {
	l := &GoLoop{wake: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{})}
	go l.run()
	return l
}

// Pingee implements EventLoop. The error is os.ErrClosed after Close.
func (l *GoLoop) Pingee(onPing func()) (Pingee, error) {
	p, err := l.members.add(onPing, l.signal)
	if err != nil {
		return nil, err
	}
	l.signal() // the loop is not the only router's any more
	return p, nil
}

func (l *GoLoop) signal() error {
	select {
	case <-l.quit:
		return os.ErrClosed
	default:
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
	if p := l.serving.Load(); p != nil {
		p.callOff()
	}
	return nil
}

// called reports whether somebody wants the loop. Where it is asked behind
// serving.Store, a signal that it does not see calls off.
func (l *GoLoop) called() bool {
	select {
	case <-l.quit:
		return true
	default:
		return len(l.wake) > 0
	}
}

// alone reports whether nobody else than the one router is on the loop.
func (l *GoLoop) alone() bool { return l.members.sole() != nil }

// serve lets the only member do its router's work here.
func (l *GoLoop) serve() {
	p := l.members.sole()
	if p == nil || p.closed.Load() {
		l.members.declineAll()
		return
	}
	defer l.serving.Store(nil)
	l.serving.Store(p)
	p.serve(l.called)
}

func (l *GoLoop) run() {
	label.Loop.Set()
	// A handler may end its goroutine (runtime.Goexit, as testing's FailNow does).
	// The loop goes on in another one.
	normal := false
	defer func() {
		if !normal {
			l.signal()
			go l.run()
		}
	}()
	for {
		select {
		case <-l.wake:
			l.members.runPending()
			l.serve()
		case <-l.quit:
			normal = true
			l.members.declineAll()
			close(l.ended)
			return
		}
	}
}

// Close ends the loop after the call that it is in, without waiting for that,
// so a handler may call it. A second Close is os.ErrClosed.
func (l *GoLoop) Close() error {
	if !l.members.close() {
		return os.ErrClosed
	}
	close(l.quit)
	if p := l.serving.Load(); p != nil {
		p.callOff()
	}
	return nil
}

// Done is closed when the loop's goroutine has ended.
func (l *GoLoop) Done() <-chan struct{} { return l.ended }

// PostLoop is the adapter for toolkits whose only way onto their loop is to post
// a func: Fyne's fyne.Do, Bubble Tea's Program.Send, a channel of funcs. Each call
// of post has a goroutine of its own, so it may block until the loop takes the
// func; neither the router nor a handler waits for it. A loop that ends should
// make post return: one that blocks for ever keeps its goroutine.
func PostLoop(post func(func())) EventLoop { return postLoop(post) }

type postLoop func(func())

func (post postLoop) Pingee(onPing func()) (Pingee, error) {
	p := &pingee{onPing: onPing}
	run := p.run
	// One goroutine for each func that is posted: there is one at a time, and the
	// next when that has begun to run. It outlives Close for as long as post blocks.
	send := func() {
		label.Post.Set()
		if !p.closed.Load() {
			post(run)
		}
	}
	p.signal = func() error { go send(); return nil }
	return p, nil
}
