package router

import (
	"sync/atomic"
)

// item is what the monitor hands to the loop: a message, or something that has
// to keep its place behind messages.
type item struct {
	to   *Receiver // nil for a sync
	msg  Message
	kind itemKind
	end  error       // itemEnd: what the receiver is told, nil for a clean end
	sync *syncPoint  // itemSync
	held *releaseRef // a router that resumes: what to count down once handled
}

type itemKind uint8

const (
	itemMessage itemKind = iota
	itemEnd              // the pipe's last item
	itemSync             // everything that a RouteUntil asked for stands before it
)

// batchItems and batchBytes bound a batch; a frame larger than batchBytes is a
// batch of its own.
const (
	batchItems = 256
	batchBytes = 256 << 10
)

// batch travels from the monitor to the loop and, emptied, back.
type batch struct {
	items []item
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
	queued atomic.Int64 // messages put and not yet taken from their batch
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
	b.queued.Add(int64(len(full.items)))
	select {
	case b.full <- full:
		return true
	default:
	}
	select {
	case b.full <- full:
		return true
	case <-stop:
		b.queued.Add(-int64(len(full.items)))
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
	done.items = done.items[:0]
	select {
	case b.empty <- done:
	default:
	}
}
