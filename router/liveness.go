package router

import (
	"errors"
	"math"
	"os"
	"slices"
	"time"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// liveness is the monitor's part that tells receivers of deaths. News of a death
// comes from a pidfd, where one can be had, at once; otherwise by asking the kernel
// for the slot's lock, a few slots a tick. Either is only a reason to look: what
// counts is the lock, or a later holder of the slot. The way of an end:
//
//	suspect slot ─▶ lock free, or a later holder ─▶ mark = frontier ─▶ behind mark ─▶ end queued
//
// All that the dead process committed lies before a frontier read after its
// death, so its end stands behind that.
type liveness struct {
	slots    [ring.MaxSlots]seat
	late     []lateEnd
	endsSeen uint32
	cursor   int    // rotation of the questions
	checked  uint32 // the entry checked last
	doubtful int    // seats with doubts
}

// seat is what is known about a slot's present holder.
type seat struct {
	instance uint32
	pid      int
	start    uint64
	stop     func() // ends the pidfd's watch
	ask      bool   // the lock has to be asked for
	clean    uint32 // the earlier holders of this instance were looked for
	doubts   int    // looks left, at close intervals, for a lock that must soon be free
}

type deathNotice struct {
	slot     int
	instance uint32
}

const (
	askedPerTick   = 16                     // questions to the kernel, about 1 µs each
	checkedPerTick = 1024                   // entries, some nanoseconds each
	doubtEvery     = time.Millisecond       // after a process died its lock is free within a few of these
	doubtLooks     = 100                    // then it is left to the rotation
	exitPatience   = 5 * time.Second        // for the report of a worker that Launch waits for: it comes, if later on a busy machine
	reportPatience = 100 * time.Millisecond // for one that was handed over: ReportExit is optional
	never          = int64(math.MaxInt64)
)

// watchDeath is replaced by tests that have no pidfd.
var watchDeath = shm.WatchDeath

// due returns when the monitor has to wake for ends and doubts.
func (l *liveness) due() int64 {
	due := never
	for i := range l.late {
		if l.late[i].until > 0 {
			due = min(due, l.late[i].until)
		}
	}
	if l.doubtful > 0 {
		due = min(due, shm.Now()+int64(doubtEvery))
	}
	return due
}

// watching reports whether somebody's end depends on the tick.
func (l *liveness) watching() bool {
	return l.doubtful > 0 || len(l.late) > 0 || slices.ContainsFunc(l.slots[:], func(s seat) bool { return s.ask })
}

// tick notices who came and who left, and asks for some of those who cannot be
// watched. With nothing new it costs some microseconds.
func (l *liveness) tick(m *monitor) {
	if m.n.broken.Load() {
		return
	}
	err := m.n.ring.Segment().Guarded(func() error {
		var suspects []int
		for slot := range l.slots {
			if l.compare(m, slot) {
				suspects = append(suspects, slot)
			}
		}
		for asked, i := 0, 0; i < len(l.slots) && asked < askedPerTick; i++ {
			l.cursor = (l.cursor + 1) % len(l.slots)
			if l.slots[l.cursor].ask && !slices.Contains(suspects, l.cursor) {
				asked++
				suspects = append(suspects, l.cursor)
			}
		}
		if len(suspects) > 0 {
			l.suspect(m, suspects...)
		}
		l.checkEntries(m)
		return nil
	})
	if err != nil {
		m.trouble(err)
	}
	l.lookForEnds(m) // under a flood the monitor never sleeps
}

// compare looks for a new holder of a slot, and reports whether an earlier one
// may have died unseen.
func (l *liveness) compare(m *monitor, slot int) (suspicious bool) {
	info := m.n.ring.SlotInfo(slot)
	s := &l.slots[slot]
	if info.Instance == s.instance && info.PID == s.pid && info.Start == s.start {
		return false
	}
	suspicious = s.instance != 0 || info.Instance > 1
	l.leave(m, s)
	*s = seat{instance: info.Instance, pid: info.PID, start: info.Start, clean: s.clean}
	if info.PID == 0 {
		return suspicious // it left in order, or has not finished joining
	}
	switch {
	case info.PIDNamespace == 0 || info.PIDNamespace != shm.PIDNamespace():
		s.ask = true
	case info.PID == os.Getpid():
		// This process: nobody would be there to notice.
	case info.Start == 0: // it could not read it; the pid may be another one's by now
		s.ask = true
	default:
		notice := &deathNotice{slot, info.Instance}
		stop, err := watchDeath(info.PID, info.Start, func() { m.post(event{death: notice}) })
		switch {
		case err == nil:
			s.stop = stop
			m.n.count.watched.Add(1)
		case errors.Is(err, os.ErrProcessDone):
			l.doubt(s)
			return true
		default:
			s.ask = true
		}
	}
	return suspicious
}

// unwatch ends the seat's watch, if there is one. Its notice may be on its way.
func (l *liveness) unwatch(m *monitor, s *seat) {
	if s.stop != nil {
		s.stop()
		s.stop = nil
		m.n.count.watched.Add(-1)
	}
}

func (l *liveness) leave(m *monitor, s *seat) {
	l.unwatch(m, s)
	if s.doubts > 0 {
		l.doubtful--
	}
}

func (l *liveness) doubt(s *seat) {
	if s.doubts == 0 {
		l.doubtful++
	}
	s.doubts = doubtLooks
}

func (l *liveness) settle(s *seat) {
	if s.doubts > 0 {
		l.doubtful--
	}
	s.doubts = 0
}

// died is told by a pidfd.
func (l *liveness) died(m *monitor, d *deathNotice) {
	s := &l.slots[d.slot]
	if s.instance != d.instance || m.n.broken.Load() {
		return
	}
	l.unwatch(m, s)
	l.doubt(s)
	l.guarded(m, func() { l.suspect(m, d.slot) })
}

// lookAgain looks at the seats in doubt.
func (l *liveness) lookAgain(m *monitor) {
	if l.doubtful == 0 || m.n.broken.Load() {
		return
	}
	l.guarded(m, func() {
		var suspects []int
		for slot := range l.slots {
			if l.slots[slot].doubts > 0 {
				suspects = append(suspects, slot)
			}
		}
		l.suspect(m, suspects...)
	})
}

// guarded calls fn, which reads the segment; a truncated file is trouble.
func (l *liveness) guarded(m *monitor, fn func()) {
	if err := m.n.ring.Segment().Guarded(func() error { fn(); return nil }); err != nil {
		m.trouble(err)
	}
}

// verdict is what was found out about a slot.
type verdict struct {
	instance uint32
	asked    bool
	alive    bool
}

// suspect ends the pipes of those that held one of the slots and are dead. The
// order matters: instance, lock, entries, instance again. An entry that was then
// seen attached by another than a living holder has nobody.
func (l *liveness) suspect(m *monitor, slots ...int) {
	var found [ring.MaxSlots + 1]verdict // by what an entry's word may say
	look := false
	for _, slot := range slots {
		s := &l.slots[slot]
		v := verdict{instance: m.n.ring.SlotInfo(slot).Instance}
		m.n.count.queries.Add(1)
		alive, err := m.cons.SlotAlive(slot)
		if err != nil {
			s.ask = true
			continue
		}
		v.asked, v.alive = true, alive
		found[slot] = v
		look = look || !alive || v.instance != s.clean
	}
	var dead []lateEnd
	if look {
		m.n.pipes.each(func(rcv *Receiver) {
			if e, ok := l.isDead(m, rcv, &found); ok {
				dead = append(dead, e)
			}
		})
	}
	for _, slot := range slots {
		v, s := &found[slot], &l.slots[slot]
		switch {
		case !v.asked:
		case m.n.ring.SlotInfo(slot).Instance != v.instance:
			v.asked = false // a new holder came meanwhile: compare calls again
		case v.alive:
			s.clean = v.instance
			if s.doubts > 0 {
				if s.doubts--; s.doubts == 0 {
					l.doubtful--
					s.ask = true
				}
			}
		default:
			l.settle(s)
			s.ask = false
		}
	}
	for _, e := range dead {
		if found[e.slot].asked {
			l.end(m, e)
		}
	}
}

// isDead reports whether rcv's sender held one of the slots and is dead.
func (l *liveness) isDead(m *monitor, rcv *Receiver, found *[ring.MaxSlots + 1]verdict) (end lateEnd, dead bool) {
	if rcv.endQueued || rcv.dying {
		return end, false
	}
	e := m.n.dir.Load(rcv.index)
	v := found[e.Slot()]
	if !v.asked || e.ID() != rcv.id || v.alive && e.HeldBy(e.Slot(), v.instance) {
		return end, false
	}
	end = lateEnd{rcv: rcv, slot: e.Slot()}
	switch e.State() {
	case wire.PipeAttached:
		end.peer = &PeerError{Slot: e.Slot()}
		if s := &l.slots[e.Slot()]; e.HeldBy(e.Slot(), s.instance) {
			end.peer.PID = s.pid
		}
	case wire.PipeEnded: // killed after it had marked the pipe, before it could say so
	default:
		return end, false
	}
	return end, true
}

// close ends the watches.
func (l *liveness) close() {
	for i := range l.slots {
		if s := &l.slots[i]; s.stop != nil {
			s.stop()
		}
	}
}
