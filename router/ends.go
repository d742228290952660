package router

import (
	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// lateEnd is an end that waits for its place.
type lateEnd struct {
	rcv   *Receiver
	slot  int // of the dead
	mark  uint64
	peer  *PeerError // nil for a clean end
	until int64      // shm.Now: the exit's report is waited for no longer; 0: not at all
}

// end queues an end behind everything claimed until now.
func (l *liveness) end(m *monitor, e lateEnd) {
	mark, err := m.n.ring.Frontier()
	if err != nil {
		mark = m.cons.Position() // damage in front of it; Poll will find it
	}
	e.mark = mark
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
	rest := l.late[:0]
	for _, e := range l.late {
		if int64(pos-e.mark) < 0 || now < e.until {
			rest = append(rest, e)
			continue
		}
		var end error
		if e.peer != nil {
			end = e.peer
			m.n.log.Info("worker died", "pipe", e.rcv.id, "pid", e.peer.PID, "slot", e.peer.Slot, "state", e.peer.State)
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
				e.peer.PID, e.peer.State, e.until = x.pid, x.state, 0
			}
		}
		return
	}
	rcv.exit, rcv.exitPID = x.state, x.pid
	w := m.n.dir.Word(rcv.index)
	if w.ID() != rcv.id {
		return
	}
	switch w.State() {
	case wire.PipeOpen:
		// It never attached. Freeing the entry makes sure that nobody does any more.
		if m.n.dir.Free(rcv.index, w) {
			l.end(m, lateEnd{rcv: rcv, peer: &PeerError{Slot: -1, PID: x.pid, State: x.state}})
			return
		}
		fallthrough // a child of it just did
	case wire.PipeAttached:
		if slot := m.n.dir.Word(rcv.index).Slot(); slot < ring.MaxSlots {
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
