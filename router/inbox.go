package router

import (
	"sync/atomic"
)

// item is what the monitor hands to the loop: a message, or something that has
// to keep its place behind messages.
type item struct {
	to   *Receiver // nil for a sync
	msg  Message
	mark *mark // nil for a message
}

// mark is an item that is no message.
type mark struct {
	sync *syncPoint // everything that a RouteUntil asked for stands before it; nil: the pipe's end
	end  error      // what the receiver is told, nil for a clean end
}

// batchItems and batchBytes bound a batch; a frame larger than batchBytes is a
// batch of its own.
const (
	batchItems = 256
	batchBytes = 256 << 10
)

// batch travels from the monitor to the loop and, emptied, back.
type batch struct {
	items []item
	held  *releaseRef // a router that resumes: what each message counts down once handled
}

// inbox is the bounded queue between the monitor and the loop, and its ping.
// Both halves of the handshake are here:
//
//	monitor: put, then swap pinged to true; the one that finds false pings
//	loop:    clear pinged, then take until empty
//
// A batch that is put after the loop found nothing is put after pinged was
// cleared, so its swap finds false: some ping is always pending behind the last
// put. And since nothing but a turn clears pinged, there is at most one ping per
// turn.
type inbox struct {
	full   chan *batch
	empty  chan *batch // recycled
	pinged atomic.Bool
	added  tally // items put
	taken  tally // items taken from their batch, by whoever has the turn
}

// queued returns how many items were put and not taken yet.
func (b *inbox) queued() int64 {
	taken := b.taken.Load() // first: it follows the other
	return int64(b.added.Load() - taken)
}

func newInbox(batches int) *inbox {
	return &inbox{full: make(chan *batch, batches), empty: make(chan *batch, batches+2)}
}

// fresh returns an empty batch. Monitor only.
func (b *inbox) fresh() *batch {
	select {
	case e := <-b.empty:
		return e
	default:
		return &batch{items: make([]item, 0, 16)}
	}
}

// put queues a batch, waiting for room until stop is closed; then it returns
// false, and the batch stays the caller's. Monitor only.
func (b *inbox) put(full *batch, stop <-chan struct{}) bool {
	b.added.add(uint64(len(full.items)))
	select {
	case b.full <- full:
		return true
	default:
	}
	select {
	case b.full <- full:
		return true
	case <-stop:
		b.added.add(-uint64(len(full.items)))
		return false
	}
}

// take returns the next batch, nil if there is none. Whoever has the turn only.
func (b *inbox) take() *batch {
	select {
	case full := <-b.full:
		return full
	default:
		return nil
	}
}

// recycle takes back a batch that is done with. Whoever has the turn only.
func (b *inbox) recycle(done *batch) {
	clear(done.items) // or it would keep messages alive
	done.items, done.held = done.items[:0], nil
	select {
	case b.empty <- done:
	default:
	}
}
