package router

import (
	"fmt"
	"sync/atomic"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// A router that resumes gives space back only when what was in it has been
// handled, so that the next router finds everything else. The unit is a Poll.
//
//	monitor:  Poll, each message holds the ref ─▶ publish: position, its own hold given back
//	anybody:  handled ─▶ done; the last one of the oldest refs releases them

// releaseRef is what a Poll of a router that resumes delivered, until it is handled.
type releaseRef struct {
	run     *run
	pos     uint64 // behind the Poll; set by publish
	pending atomic.Int64
	marks   []seqMark
}

// seqMark is the number of the last message of a pipe in a Poll.
type seqMark struct {
	rcv *Receiver
	seq uint64
}

func newReleaseRef(n *run) *releaseRef {
	h := &releaseRef{run: n}
	h.pending.Store(1) // the monitor's own, until publish
	return h
}

// hold counts one message of rcv. Monitor only. A nil ref does nothing.
func (h *releaseRef) hold(rcv *Receiver) {
	if h == nil {
		return
	}
	h.pending.Add(1)
	if rcv.marked != h {
		rcv.marked, rcv.markedAt = h, len(h.marks)
		h.marks = append(h.marks, seqMark{rcv: rcv})
	}
	h.marks[rcv.markedAt].seq = rcv.seq
}

// publish is called by the monitor when the Poll is over.
func (h *releaseRef) publish(pos uint64) {
	h.pos = pos
	h.run.mu.Lock()
	h.run.releases = append(h.run.releases, h)
	h.run.mu.Unlock()
	h.done()
}

// done is called once for every message, when it was handled, discarded, or
// taken. A nil ref does nothing.
func (h *releaseRef) done() {
	if h != nil && h.pending.Add(-1) == 0 {
		h.run.releaseHandled()
	}
}

// releaseHandled releases the oldest refs that are done with, one after the
// other: the numbers in the directory are ahead of head by one Poll at most.
func (n *run) releaseHandled() {
	n.withSegment(func() error {
		before := n.released
		for len(n.releases) > 0 && n.releases[0].pending.Load() == 0 {
			h := n.releases[0]
			n.releases[0] = nil
			n.releases = n.releases[1:]
			releasing(releaseFirst)
			for _, m := range h.marks {
				// Before head moves: a number that is too new is put right by the
				// message that then comes again.
				if n.dir.Word(m.rcv.index).ID() == m.rcv.id {
					n.dir.SetReleased(m.rcv.index, m.seq)
				}
			}
			releasing(releaseNoted)
			if err := n.cons.Release(h.pos); err != nil {
				return err
			}
			releasing(releaseDone)
			n.released = h.pos
		}
		if len(n.releases) == 0 {
			n.releases = nil
		}
		if n.released != before {
			n.freeReleased()
		}
		return nil
	})
}

// releaseStep is how far the release of a Poll has come.
type releaseStep int

const (
	releaseFirst releaseStep = iota // its handlers have returned
	releaseNoted                    // the directory has its numbers
	releaseDone                     // head has moved
	releaseSteps
)

// testHookRelease lets tests die between the steps.
var testHookRelease func(releaseStep)

func releasing(step releaseStep) {
	if testHookRelease != nil {
		testHookRelease(step)
	}
}

// retire keeps the index of a pipe that is closed and gone from being used again
// until all of its frames are released: the next router would find them in the
// ring, and take them for the new pipe's. It returns false if they are. mu is
// held.
func (n *run) retire(rcv *Receiver) bool {
	if !n.opts.resume || int64(rcv.behind-n.released) <= 0 {
		return false
	}
	n.dir.Flag(rcv.index, wire.Closed) // what the next router finds, too
	n.retired = append(n.retired, rcv)
	return true
}

// freeReleased gives back the indexes whose last frame is released. mu is held.
func (n *run) freeReleased() {
	if len(n.retired) == 0 {
		return
	}
	retired := n.retired
	n.retired = nil
	for _, rcv := range retired {
		n.freeIndex(rcv) // or retires it again
	}
}

// takeOver opens the segment of a router before this one.
func (n *run) takeOver(seg *shm.Segment) (err error) {
	defer func() {
		if err != nil {
			n.closeRing()
		}
	}()
	if n.ring, err = ring.Open(seg); err != nil {
		return err
	}
	off, size := n.ring.User()
	if n.dir, err = wire.Open(seg, off, size); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNotResumable, n.opts.path, err)
	}
	if !n.dir.Resume() {
		return fmt.Errorf("%w: %s", ErrNotResumable, n.opts.path)
	}
	return n.consume()
}

// adopt enters the pipes of the router before this one into the book.
func (n *run) adopt() error {
	if s := n.dir.State(); s != wire.Running {
		return fmt.Errorf("%w: %s says %s", ErrNotResumable, n.opts.path, s)
	}
	frontier, err := n.ring.Frontier()
	if err != nil {
		return err
	}
	m := n.mon
	m.newUntil = frontier
	n.dir.RaiseLife()
	for i := range uint32(n.dir.Len()) {
		e := n.dir.Load(i)
		if e.State() == wire.PipeFree || e.State() > wire.PipeEnded {
			n.pipes.free = append(n.pipes.free, i)
			continue
		}
		if n.pipes.byID[e.ID()] != nil {
			return fmt.Errorf("%w: id %d twice", wire.ErrDamaged, e.ID())
		}
		rcv := n.add(i, e.ID())
		rcv.seq, rcv.resumed = e.Released, true
		if e.Flags&wire.Closed != 0 {
			rcv.closed = true
			delete(n.pipes.byID, rcv.id)
			n.awaited.Add(-1)
		}
		if e.State() == wire.PipeEnded {
			end := lateEnd{rcv: rcv}
			if e.Slot() == wire.NoSlot {
				end.peer = &PeerError{Slot: -1}
			}
			m.live.end(m, end)
		}
	}
	n.pipes.next = n.pipes.size // the free ones are all in the list
	// A worker may have died meanwhile, unseen by anybody.
	var held []int
	for slot := range ring.MaxSlots {
		if n.ring.SlotInfo(slot).Instance != 0 {
			m.live.compare(m, slot)
			held = append(held, slot)
		}
	}
	m.live.suspect(m, held...)
	return nil
}
