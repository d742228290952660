package router

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/shmrouter/shmrouter/internal/pair"
	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
)

// pipes is the router's book of them. Each has an index, its entry in the
// segment's directory, which frames carry; and an id, which is never used twice.
// An index is used again only when no frame of its old pipe can be in the ring
// or still come: the monitor has queued the end (gone), and the pipe is closed.
type pipes struct {
	// The table is written under run.mu and read by the monitor without: in
	// chunks, so that it grows without moving.
	chunks []atomic.Pointer[chunk]

	byID map[uint64]*Receiver // not closed
	free []uint32             // indexes to use again, oldest first
	next uint32               // the first index never used
	size uint32
}

const chunkBits = 10

type chunk [1 << chunkBits]atomic.Pointer[Receiver]

func (p *pipes) init(entries int) {
	p.chunks = make([]atomic.Pointer[chunk], (entries+len(chunk{})-1)>>chunkBits)
	p.byID = map[uint64]*Receiver{}
	p.size = uint32(entries)
}

// at returns the receiver at an index that a peer has named, or nil.
func (p *pipes) at(index uint32) *Receiver {
	if index >= p.size {
		return nil
	}
	c := p.chunks[index>>chunkBits].Load()
	if c == nil {
		return nil
	}
	return c[index&(1<<chunkBits-1)].Load()
}

func (p *pipes) set(index uint32, rcv *Receiver) {
	at := &p.chunks[index>>chunkBits]
	c := at.Load()
	if c == nil {
		c = new(chunk)
		at.Store(c)
	}
	c[index&(1<<chunkBits-1)].Store(rcv)
}

// each calls fn for every receiver in the table, closed ones included.
func (p *pipes) each(fn func(*Receiver)) {
	for i := range p.chunks {
		c := p.chunks[i].Load()
		if c == nil {
			continue
		}
		for j := range c {
			if rcv := c[j].Load(); rcv != nil {
				fn(rcv)
			}
		}
	}
}

// receivers returns those that are not closed, in the order of their ids.
func (p *pipes) receivers() []*Receiver {
	return slices.SortedFunc(maps.Values(p.byID), func(a, b *Receiver) int { return cmp.Compare(a.id, b.id) })
}

// takeIndex returns an index that nothing in the ring refers to.
func (p *pipes) takeIndex() (uint32, bool) {
	if len(p.free) > 0 {
		i := p.free[0]
		if p.free = p.free[1:]; len(p.free) == 0 {
			p.free = nil
		}
		return i, true
	}
	if p.next == p.size {
		return 0, false
	}
	p.next++
	return p.next - 1, true
}

// Pipe makes a pair: the Sender, in its initial state, is started in this
// process, or handed to a worker (Launch, HandOver, or its token); the Receiver
// stays. Every pipe is closed with ClosePipe, also one that has ended. Errors:
// ErrNotRunning, ErrTooManyPipes, ErrBroken.
func (r *Router) Pipe() (*sender.Sender, *Receiver, error) {
	n, err := r.running()
	if err != nil {
		return nil, nil, err
	}
	return n.pipe()
}

func (n *run) pipe() (s *sender.Sender, rcv *Receiver, err error) {
	if n.broken.Load() {
		return nil, nil, ErrBroken
	}
	err = n.withSegment(func() error {
		if n.isStopped() {
			return ErrNotRunning // Stop may have looked already whom to tell
		}
		index, ok := n.pipes.takeIndex()
		if !ok {
			return ErrTooManyPipes
		}
		id, err := n.dir.TakeID()
		if err != nil {
			return err
		}
		if n.pipes.byID[id] != nil || !n.dir.Publish(index, id) {
			return ErrBroken // somebody else writes to the directory
		}
		rcv = n.add(index, id)
		s = pair.NewSender(n.ring, wire.Token{Path: n.opts.path, Identity: n.ring.Identity(), Epoch: n.dir.Epoch(), ID: id, Index: index}).(*sender.Sender)
		rcv.sender = s
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	n.log.Debug("created pipe", "pipe", rcv.id)
	return s, rcv, nil
}

// add enters a receiver into the book.
func (n *run) add(index uint32, id uint64) *Receiver {
	rcv := &Receiver{run: n, id: id, index: index, wake: make(chan struct{}, 1)}
	n.pipes.set(index, rcv)
	n.pipes.byID[id] = rcv
	n.awaited.Add(1)
	return rcv
}

// ClosePipe closes the receiving end: no message reaches it any more, neither
// handler is called, and Recv returns ErrPipeClosed. It may be called from a
// handler, and on the loop nothing of the pipe comes behind it. On another
// goroutine a call of a handler that the loop is in, or about to begin, may still
// be on its way: a RouteUntil that returns nil afterwards has waited for it. The sender's Context ends; what was not routed, and what it still sends,
// which succeeds, is discarded, counted (Stats.Discarded), and reported in a
// warning once a second: to lose nothing, have the worker stop its sender, and
// read the pipe to its end, before. A sender that has not started yet cannot any
// more. Errors: ErrNotRunning; ErrForeign for a receiver
// of another router or an earlier run; ErrPipeClosed.
func (r *Router) ClosePipe(rcv *Receiver) error {
	n, err := r.running()
	if err != nil {
		return err
	}
	if rcv == nil || rcv.run != n {
		return ErrForeign
	}
	return n.closePipe(rcv)
}

func (n *run) closePipe(rcv *Receiver) error {
	if n.isStopped() {
		return ErrNotRunning
	}
	var dropped deque
	var stalled, awaited bool
	err := n.withSegment(func() error {
		rcv.mu.Lock()
		defer rcv.mu.Unlock()
		if rcv.closed {
			return ErrPipeClosed
		}
		rcv.closed = true
		dropped, rcv.queue = rcv.queue, deque{}
		stalled, rcv.stalled = rcv.stalled, false
		awaited = rcv.state != endTold
		rcv.onMessage, rcv.onEnd = nil, nil
		rcv.aim()
		delete(n.pipes.byID, rcv.id)
		if rcv.gone {
			n.freeIndex(rcv)
			return nil
		}
		if w := n.dir.Word(rcv.index); w.ID() == rcv.id && w.State() == wire.PipeOpen && n.dir.Free(rcv.index, w) {
			n.forget(rcv) // nobody has attached, and nobody can any more
			return nil
		}
		n.dir.Flag(rcv.index, wire.Closed)
		n.dir.Notify()
		return nil
	})
	if err != nil && !errors.Is(err, shm.ErrFault) { // a truncated file: closed on this side all the same
		return err
	}
	for dropped.len() > 0 {
		_, held := dropped.pop()
		n.discard(rcv)
		held.done()
	}
	if stalled {
		n.unstall(rcv)
	}
	if awaited {
		n.endTaken()
	}
	rcv.nudge()
	n.log.Debug("closed pipe", "pipe", rcv.id)
	return nil
}

// senderGone is called by the monitor when it has queued rcv's end: no frame of
// it is in the ring, and none can come.
func (n *run) senderGone(rcv *Receiver) {
	n.withSegment(func() error {
		rcv.gone, rcv.behind = true, n.cons.Position()
		if rcv.isClosed() {
			n.freeIndex(rcv)
		}
		return nil
	})
}

// freeIndex gives back the entry of a pipe that is closed and gone. mu is held.
func (n *run) freeIndex(rcv *Receiver) {
	if n.retire(rcv) {
		return
	}
	if rcv.spoiled { // its sender may live and send: nobody else gets the index in this run
		n.pipes.set(rcv.index, nil)
		return
	}
	for range 3 { // its sender may be marking it as ended at this moment, once
		w := n.dir.Word(rcv.index)
		if w.ID() != rcv.id || w.State() == wire.PipeFree || n.dir.Free(rcv.index, w) {
			break
		}
	}
	n.forget(rcv)
}

func (n *run) forget(rcv *Receiver) {
	n.pipes.set(rcv.index, nil)
	n.pipes.free = append(n.pipes.free, rcv.index)
}

func (rcv *Receiver) isClosed() bool {
	rcv.mu.Lock()
	defer rcv.mu.Unlock()
	return rcv.closed
}

func (n *run) cancel(rcv *Receiver) error {
	if n.isStopped() {
		return ErrNotRunning
	}
	return n.flagCancelled(rcv)
}

// flagCancelled is cancel also while the router stops.
func (n *run) flagCancelled(rcv *Receiver) error {
	return n.withSegment(func() error {
		switch {
		case rcv.isClosed():
			return ErrPipeClosed
		case n.dir.Word(rcv.index).ID() == rcv.id:
			n.dir.Flag(rcv.index, wire.Cancelled)
			n.dir.Notify()
		}
		return nil
	})
}

// Receivers returns the receivers of all pipes that are not closed, in the order
// of their ids. It is how an application takes over after WithResume: the pipes
// of the router before this one are there, their messages are held until they
// get a handler or are taken, and what may be a second delivery is marked
// (Message.Redelivered). Handlers there see every message at least once: space
// is given back when they have returned. The error is ErrNotRunning.
func (r *Router) Receivers() ([]*Receiver, error) {
	n, err := r.running()
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pipes.receivers(), nil
}
