package router

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"sync"
	"sync/atomic"

	"github.com/shmrouter/shmrouter/sender"
)

// Receiver is the main process's end of a pipe. Its messages go to a handler
// (Handle), or are taken (Recv, Messages); what comes before either is held. All
// methods may be called concurrently.
type Receiver struct {
	run   *run
	id    uint64
	index uint32

	// Only the monitor touches these, and whoever made the receiver before it was
	// in the table.
	seq       uint64 // number of the last message
	endQueued bool   // the end is on its way: nothing follows it
	dying     bool   // an end waits for its mark; see liveness.go
	resumed   bool   // seq is that of an earlier life
	exit      *os.ProcessState
	exitPID   int         // whose exit that is
	reported  bool        // the exit of its owner was reported
	part      int         // 1 + slot of a large message that is being put together, or 0
	marked    *releaseRef // where, in a router that resumes, its last message was marked
	markedAt  int

	gone    bool           // guarded by run.mu: see pipes
	behind  uint64         // guarded by run.mu, once gone: the position behind its last frame
	spoiled bool           // guarded by run.mu: its entry was overwritten
	sender  *sender.Sender // the other end; nil in a later life of the router

	selfClosing atomic.Bool           // a Command's: closed with its end
	owner       atomic.Pointer[owner] // who was given the sender; see launch.go

	// direct is onMessage where a message needs nothing but that it be called: the pipe is not closed, and
	// nothing is held. Stored under mu, by aim; loaded by whoever has the turn.
	direct atomic.Pointer[func(Message)]

	mu        sync.Mutex
	onMessage func(Message)
	onEnd     func(error)
	queue     deque // held, or waiting to be taken
	stalled   bool  // dispatch waits for room in queue
	state     endState
	err       error // the end, once it has been dispatched
	closed    bool

	// wake holds a token when there may be something for a Recv that waits. One
	// that takes it and leaves something behind puts it back for the next.
	wake chan struct{}
}

var errEmpty = errors.New("router: nothing to take yet")

// endState is how far a pipe's end has come.
type endState uint8

const (
	endNone  endState = iota
	endHeld           // dispatched, to be told behind what is queued
	endTold           // the handler or a Recv has it
	endNever          // the router stopped first
)

// ID returns the pipe's number, the same as its sender's: from 1 on, and never
// used again in a run of the router or by one that resumes it.
func (rcv *Receiver) ID() uint64 { return rcv.id }

// Handle has the router call onMessage on the loop for each message, and onEnd,
// which may be nil, once behind the last one: with nil when the sender has
// stopped, with a *PeerError when its process died. Messages held until now come
// first. It may be called again, also by a handler, to change the handlers: the
// next message goes to the new ones. A nil onMessage takes them away, and
// messages are held for Recv again.
//
// A handler may use every method of the router and its receivers except
// RouteUntil and Recv; a blocking Send to the same router may wait for ever for
// the space that only this handler's return would free. One that panics is
// reported to the logger, and the next message is routed. After ClosePipe,
// neither is called.
func (rcv *Receiver) Handle(onMessage func(Message), onEnd func(error)) {
	rcv.mu.Lock()
	rcv.onMessage, rcv.onEnd = onMessage, onEnd
	rcv.aim()
	// What is held is delivered where handlers run, in order, before anything that
	// comes later: see run.deliver.
	flush := onMessage != nil && !rcv.closed && (rcv.queue.len() > 0 || rcv.state == endHeld)
	rcv.mu.Unlock()
	rcv.nudge() // a Recv that waits gets ErrHandled
	if flush {
		rcv.run.flushLater(rcv)
	}
}

// Recv returns the next message, waiting for it until ctx is done. Behind the
// last one it returns io.EOF if the sender has stopped, a *PeerError if its
// process died, ErrStopped if the router was stopped first: each for ever. After
// ClosePipe it is ErrPipeClosed; ErrHandled while there is a handler. Messages
// that are there are returned also when ctx is done.
//
// It must not be called on the loop: it would wait there for a message that only
// the loop can bring. Of several that wait, one gets each message. To a router
// that resumes (WithResume), a message is handled when Recv returns it.
func (rcv *Receiver) Recv(ctx context.Context) (Message, error) {
	msg, held, err := rcv.recv(ctx)
	held.done()
	return msg, err
}

// Messages returns the pipe's messages as a sequence, for
//
//	for msg, err := range rcv.Messages(ctx)
//
// It ends behind the last message if the sender has stopped. Every other end,
// as listed at Recv, is its last pair, with an empty message. Messages that are
// there come although ctx is done: where more come all the time, look at it in
// the body. Leaving the loop loses nothing; another may go on. To a router that
// resumes, a message is handled when the loop's body is done with it.
func (rcv *Receiver) Messages(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			msg, held, err := rcv.recv(ctx)
			if err == io.EOF {
				return
			}
			if !yieldHeld(yield, msg, held, err) || err != nil {
				return
			}
		}
	}
}

// yieldHeld is done with the message also when the loop's body panics, as with
// one that a handler panics over: it would hold up every release behind it.
func yieldHeld(yield func(Message, error) bool, msg Message, held *releaseRef, err error) bool {
	defer held.done()
	return yield(msg, err)
}

// Cancel asks the sender's process to stop: its Sender.Context ends. It takes
// nothing from the pipe: what is sent meanwhile arrives, and so does the end.
// Repeating it does nothing. Errors: ErrPipeClosed, ErrNotRunning.
func (rcv *Receiver) Cancel() error { return rcv.run.cancel(rcv) }

// Close is ClosePipe on the receiver's router, with its errors.
func (rcv *Receiver) Close() error { return rcv.run.closePipe(rcv) }

// closeSelf closes the pipe if nobody else will, once its end was told.
func (rcv *Receiver) closeSelf() {
	if rcv.selfClosing.Load() {
		rcv.run.closePipe(rcv)
	}
}

func (rcv *Receiver) recv(ctx context.Context) (Message, *releaseRef, error) {
	for {
		msg, held, err := rcv.tryTake()
		if err != errEmpty {
			return msg, held, err
		}
		select {
		case <-rcv.wake:
		case <-ctx.Done():
			return Message{}, nil, ctx.Err()
		}
	}
}

// tryTake returns what a Recv is to return now, or errEmpty.
func (rcv *Receiver) tryTake() (msg Message, held *releaseRef, err error) {
	rcv.mu.Lock()
	room, told := false, false
	switch {
	case rcv.closed && !(rcv.state == endTold && rcv.selfClosing.Load()):
		err = ErrPipeClosed
	case rcv.onMessage != nil:
		err = ErrHandled
	case rcv.queue.len() > 0:
		msg, held = rcv.queue.pop()
		room, rcv.stalled = rcv.stalled, false
	case rcv.state == endNever:
		err = ErrStopped
	case rcv.state == endNone:
		err = errEmpty
	default:
		told, rcv.state = rcv.state == endHeld, endTold
		if err = rcv.err; err == nil {
			err = io.EOF
		}
	}
	again := err != nil && err != errEmpty || rcv.queue.len() > 0 || rcv.state == endHeld || rcv.state == endNever
	rcv.mu.Unlock()
	if again {
		rcv.nudge() // for the next that waits
	}
	if room {
		rcv.run.unstall(rcv)
	}
	if told {
		rcv.run.endTaken()
		rcv.closeSelf()
	}
	return msg, held, err
}

// aim is called with mu held whenever onMessage or closed have changed, or the queue has become empty.
func (rcv *Receiver) aim() {
	if rcv.onMessage == nil || rcv.closed || rcv.queue.len() > 0 {
		rcv.direct.Store(nil)
		return
	}
	f := rcv.onMessage
	rcv.direct.Store(&f)
}

func (rcv *Receiver) nudge() {
	select {
	case rcv.wake <- struct{}{}:
	default:
	}
}

// stop ends it with the router: what is queued can still be taken.
func (rcv *Receiver) stop() {
	rcv.mu.Lock()
	if rcv.state == endNone {
		rcv.state = endNever
	}
	rcv.onMessage, rcv.onEnd = nil, nil // release what they refer to
	rcv.aim()
	rcv.mu.Unlock()
	rcv.nudge()
}

// deque is a queue of messages in a slice that is used as a ring.
type deque struct {
	buf   []queued // length a power of two, or 0
	first int
	count int
}

type queued struct {
	msg  Message
	held *releaseRef
}

func (q *deque) len() int { return q.count }

func (q *deque) push(msg Message, held *releaseRef) {
	if q.count == len(q.buf) {
		bigger := make([]queued, max(8, 2*len(q.buf)))
		for i := range q.count {
			bigger[i] = q.buf[(q.first+i)&(len(q.buf)-1)]
		}
		q.buf, q.first = bigger, 0
	}
	q.buf[(q.first+q.count)&(len(q.buf)-1)] = queued{msg, held}
	q.count++
}

func (q *deque) pop() (Message, *releaseRef) {
	head := &q.buf[q.first]
	out := *head
	*head = queued{} // the queue must not keep it alive
	q.first = (q.first + 1) & (len(q.buf) - 1)
	q.count--
	if q.count == 0 && len(q.buf) > 64 {
		*q = deque{} // a pipe that was once full need not stay large
	}
	return out.msg, out.held
}
