package router

import (
	"fmt"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// frontier is a position that everything lies before which was committed when it
// was asked for.
type frontier struct {
	pos   uint64
	known bool
}

// find looks for it, unless it is known. Where damage hides how far claims
// go, it is to be asked again: Poll steps over the damage, and what was sent
// before lies behind that. It is never out of reach for long: nobody claims
// further than a lap ahead of the consumer.
func (k *frontier) find(n *run) {
	if k.known {
		return
	}
	pos, err := n.ring.Frontier()
	if most := n.cons.Position() + uint64(n.ring.Capacity()/ring.Granule); int64(pos-most) > 0 {
		pos = most
	}
	k.pos, k.known = pos, err == nil
}

// behind reports whether pos is behind it.
func (k *frontier) behind(pos uint64) bool { return k.known && int64(pos-k.pos) >= 0 }

// lateEnd is an end that waits for its place.
type lateEnd struct {
	rcv   *Receiver
	slot  int // of the dead
	mark  frontier
	peer  *PeerError // nil for a clean end, or err
	err   error
	until int64 // shm.Now: the exit's report is waited for no longer; 0: not at all
}

// end queues an end behind everything claimed until now.
func (l *liveness) end(m *monitor, e lateEnd) {
	e.mark.find(m.n)
	e.rcv.dying = true
	if e.peer != nil && e.peer.State == nil {
		// What the roster says of a dead holder may be its successor's; a report is
		// about the process that was given this pipe.
		switch o := e.rcv.owner.Load(); {
		case e.rcv.exit != nil:
			e.peer.PID, e.peer.State = e.rcv.exitPID, e.rcv.exit
		case o == nil || e.rcv.reported:
		case o.launched:
			e.until = shm.Now() + int64(exitPatience)
		default:
			e.until = shm.Now() + int64(reportPatience)
		}
	}
	l.late = append(l.late, e)
}

// queueEnds queues the ends that the monitor has come behind.
func (m *monitor) queueEnds() {
	l := &m.live
	if len(l.late) == 0 {
		return
	}
	pos, now := m.cons.Position(), shm.Now()
	// A mark that was read off damaged words may be out of reach. Where nothing
	// is claimed in front, all that was committed before is behind.
	claimed, err := m.n.ring.Frontier()
	passed := err == nil && claimed == pos
	rest := l.late[:0]
	for _, e := range l.late {
		e.mark.find(m.n)
		if !e.mark.behind(pos) && !passed || now < e.until {
			rest = append(rest, e)
			continue
		}
		end := e.err
		if e.peer != nil {
			end = e.peer
			m.n.log.Warn("worker died", "pipe", e.rcv.id, "pid", e.peer.PID, "slot", e.peer.Slot, "state", e.peer.State.String())
		}
		m.queueEnd(e.rcv, end)
	}
	clear(l.late[len(rest):])
	l.late = rest
}

// lookForEnds finds the pipes whose senders stopped while the ring was full: the
// other half is in internal/wire, notice.go. It reports whether there was news.
func (l *liveness) lookForEnds(m *monitor) (news bool) {
	if m.n.broken.Load() {
		return false
	}
	l.guarded(m, func() {
		seen := m.n.dir.Ends()
		if seen == l.endsSeen {
			return
		}
		l.endsSeen, news = seen, true
		m.n.pipes.each(func(rcv *Receiver) {
			if rcv.endQueued || rcv.dying {
				return
			}
			if w := m.n.dir.Word(rcv.index); w.ID() == rcv.id && w.State() == wire.PipeEnded {
				l.end(m, lateEnd{rcv: rcv})
			}
		})
	})
	return news
}

// exited is told how a worker process ended.
func (l *liveness) exited(m *monitor, x *exitReport) {
	if m.n.broken.Load() {
		return
	}
	l.guarded(m, func() {
		for _, rcv := range x.pipes {
			l.exitedWith(m, rcv, x)
		}
	})
}

// exitedWith looks at one pipe that was handed to a process that has exited.
func (l *liveness) exitedWith(m *monitor, rcv *Receiver, x *exitReport) {
	rcv.reported = true
	if rcv.endQueued || rcv.dying {
		for i := range l.late {
			if e := &l.late[i]; e.rcv == rcv && e.peer != nil && e.until != 0 {
				if e.until = 0; !m.heldByAnother(rcv, e.slot, x.pid) {
					e.peer.PID, e.peer.State = x.pid, x.state
				}
			}
		}
		return
	}
	rcv.exit, rcv.exitPID = x.state, x.pid
	if l.checkEntry(m, rcv); rcv.dying {
		return
	}
	w := m.n.dir.Word(rcv.index)
	if w.ID() != rcv.id {
		return // closed before it attached; the entry may be another pipe's by now
	}
	switch w.State() {
	case wire.PipeOpen:
		// It never attached, and nobody can any more.
		if m.n.dir.Abandon(rcv.index, w) {
			l.end(m, lateEnd{rcv: rcv, peer: &PeerError{Slot: -1, PID: x.pid, State: x.state, Err: x.err}})
			return
		}
		fallthrough // a child of it just did
	case wire.PipeAttached, wire.PipeEnded:
		if slot := m.n.dir.Word(rcv.index).Slot(); slot < ring.MaxSlots {
			if m.heldByAnother(rcv, slot, x.pid) {
				rcv.exit, rcv.exitPID = nil, 0 // it may have died meanwhile, but not with this status
			}
			l.compare(m, slot)
			if s := &l.slots[slot]; s.pid == x.pid {
				l.doubt(s)
			}
			l.suspect(m, slot)
			if info := m.n.ring.SlotInfo(slot); !rcv.dying && info.PID != 0 && info.PID != x.pid && m.n.dir.Load(rcv.index).HeldBy(slot, info.Instance) {
				rcv.exit, rcv.exitPID = nil, 0 // a child of it has the pipe, and lives
			}
		}
	}
}

// heldByAnother reports whether another process than pid is known to have taken the pipe: a child of it, to which it
// left the hand-over.
func (m *monitor) heldByAnother(rcv *Receiver, slot, pid int) bool {
	info := m.n.ring.SlotInfo(slot)
	return info.PID != 0 && info.PID != pid && info.PIDNamespace == shm.PIDNamespace() && m.n.dir.Load(rcv.index).HeldBy(slot, info.Instance)
}

// checkEntries looks at some of the directory's entries a tick, in rotation.
func (l *liveness) checkEntries(m *monitor) {
	for range min(checkedPerTick, m.n.pipes.size) {
		if l.checked++; l.checked >= m.n.pipes.size {
			l.checked = 0
		}
		if rcv := m.n.pipes.at(l.checked); rcv != nil {
			l.checkEntry(m, rcv)
		}
	}
}

// checkEntry ends a pipe whose entry says what neither router nor sender ever
// wrote there: by it the sender's death could not be told any more, and it has
// told the sender that the pipe is gone.
func (l *liveness) checkEntry(m *monitor, rcv *Receiver) {
	n := m.n
	if rcv.endQueued || rcv.dying || possible(rcv, n.dir.Word(rcv.index)) {
		return
	}
	var w wire.Word
	damaged := false
	n.withSegment(func() error { // nobody publishes or frees it meanwhile
		w = n.dir.Word(rcv.index)
		damaged = n.pipes.at(rcv.index) == rcv && !possible(rcv, w)
		rcv.spoiled = rcv.spoiled || damaged
		return nil
	})
	if !damaged {
		return
	}
	err := fmt.Errorf("%w: directory entry %d of pipe %d has become %#x", ErrBroken, rcv.index, rcv.id, uint64(w))
	n.count.damages.Add(1)
	if more, ok := n.damageLog.allow(); ok {
		n.log.Error("damage in the directory", "error", err, "unreported", more)
	}
	l.end(m, lateEnd{rcv: rcv, err: err})
}

// possible reports whether the entry of an open pipe can be that.
func possible(rcv *Receiver, w wire.Word) bool {
	s := w.State()
	return w.ID() == rcv.id && (s == wire.PipeOpen || (s == wire.PipeAttached || s == wire.PipeEnded) && w.Slot() < ring.MaxSlots)
}
