package router

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
)

// Router delivers on an event loop what workers send. New makes it. All methods may be called
// concurrently, and from handlers, RouteUntil excepted. A Router that was stopped
// may be started again: that makes a new segment, and a new epoch, in which the
// senders and receivers of before mean nothing.
type Router struct {
	opts options

	mu  sync.Mutex // one Start at a time
	cur atomic.Pointer[run]
}

// New makes a router; nothing is acquired before Start. The error wraps
// ErrOption.
func New(opts ...Option) (*Router, error) {
	o := defaults()
	for _, set := range opts {
		set(&o)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	return &Router{opts: o}, nil
}

// run is what one Start makes and one Stop ends. The rule about the segment's
// memory: the monitor's goroutine touches it, and others do under mu and as long
// as unmapped is not set (withSegment). Handlers and locks of receivers are
// never waited for by whoever holds mu.
//
// Order of locks: run.mu, Receiver.mu, then the leaves (flushMu, events.mu).
type run struct {
	opts *options
	log  *slog.Logger

	ring    *ring.Ring
	dir     *wire.Directory
	cons    *ring.Consumer
	pingee  Pingee
	ownLoop *GoLoop // nil if the application brought its own
	shared  *GoLoop // the loop, if it can do the monitor's work: see duty.go
	mon     *monitor
	inbox   *inbox
	dispatch

	until     atomic.Bool   // a RouteUntil is under way: pings go to untilWake
	untilWake chan struct{} // one token

	mu       sync.Mutex
	unmapped bool                 // guarded by mu
	pipes    pipes                // guarded by mu, but for the table
	releases []*releaseRef        // guarded by mu; a router that resumes: not released yet, oldest first
	released uint64               // guarded by mu; a router that resumes: head
	retired  []*Receiver          // guarded by mu; see retire
	workers  map[*Worker]struct{} // guarded by mu; those that are a Command's

	awaited  atomic.Int64 // pipes that are neither closed nor told to have ended
	broken   atomic.Bool  // the segment is beyond repair
	stopping chan struct{}
	stopped  atomic.Bool
	halted   atomic.Bool  // the monitor has ended: nothing is put into the inbox any more
	swept    atomic.Bool  // what was not routed is counted
	pending  atomic.Int64 // what done waits for: swept, and each worker of a Command
	done     chan struct{}

	count      counters
	final      ring.Stats // guarded by mu; as of Stop
	discardLog rateLimit
	decodeLog  rateLimit
	pingLog    rateLimit
	hinderLog  rateLimit
	damageLog  rateLimit
}

// Start makes the segment and begins to route. Whatever fails, nothing is left
// of it. Errors: ErrRunning; fs.ErrExist if there is something at WithPath's path;
// with WithResume, ErrNotResumable and ring.ErrConsumerBusy if the router there
// lives; what shm and ring have to say; and what the event loop said.
func (r *Router) Start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.cur.Load(); n != nil && !n.isStopped() {
		return ErrRunning
	}
	n, err := start(&r.opts)
	if err != nil {
		return err
	}
	r.cur.Store(n)
	return nil
}

// start builds bottom-up: segment, ring, consumer, epoch, inbox, pingee, monitor.
func start(o *options) (_ *run, err error) {
	n := &run{
		opts: o, log: o.log, workers: map[*Worker]struct{}{},
		inbox:     newInbox(o.inbox),
		dispatch:  dispatch{turn: make(chan struct{}, 1)},
		untilWake: make(chan struct{}, 1),
		stopping:  make(chan struct{}),
		done:      make(chan struct{}),
	}
	n.pending.Store(1)
	var undo []func()
	defer func() {
		for i := len(undo) - 1; i >= 0 && err != nil; i-- {
			undo[i]()
		}
	}()
	resumed, err := n.openSegment()
	if err != nil {
		return nil, err
	}
	var epoch uint64
	n.pipes.init(n.dir.Len())
	n.released = n.cons.Position()
	n.mon = newMonitor(n)
	undo = append(undo, func() {
		n.mon.live.close()
		n.cons.Close()
		if !resumed && o.path != "" {
			n.ring.Segment().Unlink()
		}
		n.ring.Close()
	})
	err = n.ring.Segment().Guarded(func() error {
		epoch = n.dir.Epoch()
		if resumed {
			return n.adopt()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	loop := o.loop
	if loop == nil {
		n.ownLoop = NewGoLoop()
		loop = n.ownLoop
		undo = append(undo, func() { n.ownLoop.Close() })
	}
	if n.pingee, err = loop.Pingee(n.onPing); err != nil {
		return nil, err
	}
	if l, ok := loop.(*GoLoop); ok {
		n.shared = l
		l.members.offer(n.pingee, n.serve, n.mon.callOff, n.mon.decline)
	}
	go n.mon.loop()
	n.log.Debug("router started", "capacity", n.ring.Capacity(), "path", o.path, "epoch", epoch, "resumed", resumed)
	return n, nil
}

// Stop ends routing, top-down, and always completes, also from a handler and
// under a flood: it waits for the monitor's goroutine, which waits for nobody,
// and not for the loop. A call of a handler that another goroutine is in, or
// about to begin, finishes after Stop has returned; Done tells when.
//
// Workers that were started by a Command are stopped as by Worker.Stop, without
// waiting: each ends within its grace, and Done tells. Those of Launch are not.
//
// Pipes that were not closed are reported in one warning. Workers learn it: their
// Sender.Context ends, and sending fails. Messages that were sent and not routed,
// acknowledged ones included, are counted (Stats.Unrouted, not counting what lies
// behind a living worker's open claim) and lost; a Recv still returns what its
// receiver holds, then ErrStopped. To lose nothing, have the workers stop their
// senders, and read every pipe to its end, before Stop.
//
// With WithResume the segment stays as it is, and so does its path: workers may
// go on sending until it is full, and the next router delivers it. Nothing is lost, and
// workers are not told, other than those of a Command.
//
// The error is ErrNotRunning, or what was wrong with the segment's file
// (shm.ErrReplaced: somebody put another in its place); the router is stopped
// then all the same.
func (r *Router) Stop() error {
	n := r.cur.Load()
	if n == nil || !n.stopped.CompareAndSwap(false, true) {
		return ErrNotRunning
	}
	return n.stop()
}

func (n *run) stop() error {
	n.stopWorkers()
	n.mu.Lock()
	receivers := n.pipes.receivers()
	n.mu.Unlock()
	open := 0
	for _, rcv := range receivers {
		if !rcv.selfClosing.Load() {
			open++
		}
	}
	if open > 0 {
		n.log.Warn("router has unclosed pipes", "count", open)
	}
	if !n.opts.resume {
		n.withSegment(func() error {
			n.dir.SetState(wire.Stopped)
			n.dir.Notify()
			return nil
		})
	}
	close(n.stopping)
	n.mon.halt()
	n.pingee.Close()
	if n.ownLoop != nil {
		n.ownLoop.Close()
	}
	for _, rcv := range receivers {
		rcv.stop()
	}
	err := n.closeSegment()
	n.halted.Store(true)
	n.sweepUp()
	return err
}

// sweepUp counts what is in the inbox, once nobody puts or takes any more.
// Whoever finds the turn taken leaves it to the one who has it.
func (n *run) sweepUp() {
	if !n.halted.Load() || n.swept.Load() || !n.takeTurn() {
		return
	}
	defer func() { <-n.turn }()
	if n.swept.Swap(true) {
		return
	}
	var lost uint64
	for b := n.cur; ; n.next = 0 {
		if b != nil {
			lost += messagesIn(b.items[n.next:])
			n.inbox.taken.add(uint64(len(b.items) - n.next))
		}
		if b = n.inbox.take(); b == nil {
			break
		}
	}
	n.cur = nil
	if !n.opts.resume {
		n.count.unrouted.Add(lost)
	}
	n.log.Debug("router stopped", "unrouted", n.count.unrouted.Load())
	n.release()
}

// release closes done when nothing is left that it waits for.
func (n *run) release() {
	if n.pending.Add(-1) == 0 {
		close(n.done)
	}
}

func messagesIn(items []item) (count uint64) {
	for i := range items {
		if items[i].mark == nil {
			count++
		}
	}
	return count
}

// Done is closed when a stopped router's last handler has returned, so that
// Stats.Unrouted is final, and the last worker of a Command has ended. Before the
// first Start it is nil.
func (r *Router) Done() <-chan struct{} {
	if n := r.cur.Load(); n != nil {
		return n.done
	}
	return nil
}

// running returns the current run.
func (r *Router) running() (*run, error) {
	if n := r.cur.Load(); n != nil && !n.isStopped() {
		return n, nil
	}
	return nil, ErrNotRunning
}

func (n *run) isStopped() bool { return n.stopped.Load() }

// ping has whoever routes look into the inbox.
func (n *run) ping() {
	if !n.inbox.pinged.Swap(true) {
		n.signal()
	}
}

func (n *run) signal() {
	if n.until.Load() {
		select {
		case n.untilWake <- struct{}{}:
		default:
		}
		return
	}
	n.count.pings.Add(1)
	if err := n.pingee.Ping(); err != nil && !n.isStopped() {
		if more, ok := n.pingLog.allow(); ok {
			n.log.Error("event loop cannot be pinged", "error", err, "unreported", more)
		}
	}
}

func (n *run) endTaken() {
	if n.awaited.Add(-1) == 0 && n.until.Load() {
		n.ping() // its RouteUntil may have nothing to wait for
	}
}
