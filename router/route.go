package router

import (
	"sync"
	"sync/atomic"
)

// dispatch is what routing needs beside the inbox. Whoever holds the turn, the
// loop or a RouteUntil, owns cur and next; nobody else touches them.
type dispatch struct {
	turn   chan struct{} // full while somebody has the turn
	missed atomic.Bool   // the loop was pinged meanwhile; see onPing
	cur    *batch
	next   int // index in cur of the next item

	readied bool // a Recv that waits was told of a message

	flushing atomic.Int32 // len(flush)
	flushMu  sync.Mutex
	flush    []*Receiver // got a handler while messages were held

	stalled atomic.Pointer[Receiver] // its queue is full: nothing is routed
}

// progress is what a step did.
type progress uint8

const (
	idle  progress = iota // nothing is queued
	moved                 // a message or an end was delivered or discarded
	stuck                 // a pulled receiver's queue is full
)

// onPing is one turn of the loop.
func (n *run) onPing() {
	if !n.takeTurn() {
		// A RouteUntil has it, or this is a loop that a handler runs (a modal dialog).
		// The second try makes sure that whoever has the turn sees missed.
		n.missed.Store(true)
		if !n.takeTurn() {
			return
		}
	}
	again := true // also when a handler ends the goroutine
	defer func() {
		n.endTurn()
		if again {
			n.ping()
		}
	}()
	n.inbox.pinged.Store(false)
	n.count.turns.Add(1)
	// A RouteUntil waits for the turn; or idle: the next put pings; or stuck: unstall does.
	again = n.route(n.opts.turn) == moved && !n.until.Load()
}

// route routes so many items, or until it cannot, or somebody else wants to. The turn is held.
func (n *run) route(limit int) progress {
	for limit > 0 && !n.until.Load() {
		if done := n.callMany(limit); done > 0 {
			limit -= done
			continue
		}
		if p := n.step(); p != moved {
			return p
		}
		limit--
	}
	return moved
}

func (n *run) takeTurn() bool {
	select {
	case n.turn <- struct{}{}:
		return true
	default:
		return false
	}
}

// endTurn gives the turn back, and passes on a ping that came meanwhile in vain.
func (n *run) endTurn() {
	<-n.turn
	if n.missed.Swap(false) {
		n.inbox.pinged.Store(true)
		n.signal()
	}
	if n.isStopped() {
		n.sweepUp() // Stop was called from a handler, or beside one
	}
}

// step routes at most one item. The turn is held.
func (n *run) step() progress {
	if n.isStopped() {
		return idle
	}
	if n.flushing.Load() > 0 && n.stepHeld() {
		return moved
	}
	if n.cur == nil {
		if n.cur = n.inbox.take(); n.cur == nil {
			return idle
		}
		n.next = 0
	}
	it := &n.cur.items[n.next]
	if it.mark != nil && it.mark.sync != nil {
		it.mark.sync.reached = true
		n.advance()
		return moved
	}
	return n.deliver(it)
}

// advance is called before a handler, which may panic, or stop the router.
func (n *run) advance() {
	n.inbox.taken.add(1)
	if n.next++; n.next == len(n.cur.items) {
		n.inbox.recycle(n.cur)
		n.cur = nil
	}
}

// deliver gives one item to its receiver, or, if that holds earlier ones for a
// handler that it has got since, the first of those.
func (n *run) deliver(it *item) progress {
	rcv := it.to
	rcv.mu.Lock()
	switch {
	case rcv.closed:
		rcv.mu.Unlock()
		if it.mark == nil {
			n.discard(rcv)
			n.cur.held.done()
		}
		n.advance()
		return moved
	case rcv.onMessage != nil && rcv.queue.len() > 0:
		n.callHeld(rcv)
		return moved
	case it.mark != nil:
		rcv.state, rcv.err = endHeld, it.mark.end
		n.advance()
		if rcv.onMessage != nil {
			n.callHeld(rcv)
			return moved
		}
		rcv.mu.Unlock()
		rcv.nudge()
		return moved
	case rcv.onMessage != nil:
		call := handlerCall{rcv: rcv, onMessage: rcv.onMessage, msg: it.msg, held: n.cur.held}
		rcv.mu.Unlock()
		n.advance()
		n.count.routed.add(1)
		n.invoke(&call)
		return moved
	case rcv.queue.len() >= n.opts.queue:
		if !rcv.stalled {
			rcv.stalled = true
			n.stalled.Store(rcv)
			n.count.stalls.Add(1)
		}
		rcv.mu.Unlock()
		return stuck
	}
	rcv.queue.push(it.msg, n.cur.held)
	rcv.mu.Unlock()
	n.advance()
	n.count.routed.add(1)
	n.readied = true
	rcv.nudge()
	return moved
}

// callHeld calls the handler with the first held message, or with the end behind
// the last. It is entered with rcv.mu held, which it unlocks.
func (n *run) callHeld(rcv *Receiver) {
	call := handlerCall{rcv: rcv}
	room := false
	if rcv.queue.len() > 0 {
		call.onMessage = rcv.onMessage
		call.msg, call.held = rcv.queue.pop()
		room, rcv.stalled = rcv.stalled, false
		if rcv.queue.len() == 0 {
			rcv.aim()
		}
	} else {
		call.onEnd, call.end = rcv.onEnd, rcv.err
		rcv.state = endTold
	}
	rcv.mu.Unlock()
	if room {
		n.stalled.CompareAndSwap(rcv, nil)
	}
	if call.onMessage != nil {
		n.invoke(&call)
		return
	}
	n.endTaken()
	n.invoke(&call)
	rcv.closeSelf()
}

// flushLater has the loop deliver what rcv holds.
func (n *run) flushLater(rcv *Receiver) {
	n.flushMu.Lock()
	n.flush = append(n.flush, rcv)
	n.flushing.Store(int32(len(n.flush)))
	n.flushMu.Unlock()
	n.ping()
}

// stepHeld delivers one held message, if a receiver on the flush list has one.
func (n *run) stepHeld() bool {
	for {
		n.flushMu.Lock()
		if len(n.flush) == 0 {
			n.flushMu.Unlock()
			return false
		}
		rcv := n.flush[0]
		n.flushMu.Unlock()

		rcv.mu.Lock()
		if !rcv.closed && rcv.onMessage != nil && (rcv.queue.len() > 0 || rcv.state == endHeld) {
			n.callHeld(rcv)
			return true
		}
		rcv.mu.Unlock()

		n.flushMu.Lock()
		n.flush[0] = nil
		n.flush = n.flush[1:]
		if len(n.flush) == 0 {
			n.flush = nil
		}
		n.flushing.Store(int32(len(n.flush)))
		n.flushMu.Unlock()
	}
}

// unstall is called when rcv's full queue has room again, or needs none.
func (n *run) unstall(rcv *Receiver) {
	n.stalled.CompareAndSwap(rcv, nil)
	n.ping()
}

// discard reports a message that nobody wants any more.
func (n *run) discard(rcv *Receiver) {
	n.count.discarded.Add(1)
	if more, ok := n.discardLog.allow(); ok {
		n.log.Warn("discarding message from closed pipe", "pipe", rcv.id, "unreported", more)
	}
}
