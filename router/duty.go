package router

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/shmrouter/shmrouter/shm"
)

// On a goroutine loop that serves one router, the loop does the monitor's work
// itself while it has nothing else to do: it polls the ring, and calls the
// handlers for what it found, without another goroutine or thread in between. The
// monitor's goroutine rests meanwhile, and takes the work back when a handler
// takes long, when somebody has a question, or when the loop cannot go on.
//
//	monitor:  nothing in ring or inbox ─▶ duty free, ping, rest until kicked
//	loop:     free ─▶ loop's: hear, poll ─▶ free again while handlers run ─▶ loop's: ...
//	monitor:  kicked ─▶ free ─▶ monitor's; the loop finds that after its handlers, and goes back to being pinged
//
// Whoever has the duty is "the monitor" wherever a comment says so. The loop may
// route without the inbox because it finds that empty when it has the duty, and
// nobody else can put anything. It holds the turn as long as it serves.
type duty struct {
	at     atomic.Int32
	serial atomic.Uint64 // raised with every batch that the loop begins to route

	reminder *time.Timer
	reminded atomic.Bool // the reminder is on its way
	noticed  uint64      // serial as of the last reminder; the reminder's own
}

const (
	dutyMonitors int32 = iota
	dutyLoops
	dutyFree // the loop is in handlers, or about to come
)

// remindAfter is how long the duty stays free before the monitor takes it: once
// or twice that.
const remindAfter = 20 * time.Millisecond

// yieldAfter is how long the loop polls and routes without letting others run.
const yieldAfter = 2 * time.Millisecond

// handOvers is after how many batches the monitor lends to a loop that is not in
// one handler all the time, also while there is more to poll.
const handOvers = 4

func (d *duty) take(by int32) bool { return d.at.CompareAndSwap(dutyFree, by) }

// free gives the duty to who takes it first. The loop will, unless a handler
// keeps it: then the reminder has the monitor do so.
func (m *monitor) free() {
	m.duty.serial.Add(1)
	m.duty.at.Store(dutyFree)
	m.remind()
}

func (m *monitor) remind() {
	if !m.duty.reminded.Load() && !m.duty.reminded.Swap(true) {
		m.duty.reminder.Reset(remindAfter)
	}
}

// look is the reminder's. It ends when the loop has nothing to route.
func (m *monitor) look() {
	d := &m.duty
	serial := d.serial.Load()
	switch {
	case serial != d.noticed:
		d.noticed = serial
		d.reminder.Reset(remindAfter)
		return
	case d.at.Load() == dutyFree:
		m.rouse()
	}
	d.reminded.Store(false)
	if d.serial.Load() != serial { // it was freed meanwhile, by one who saw a reminder under way
		m.remind()
	}
}

// decline is called when the loop cannot serve.
func (m *monitor) decline() {
	if m.duty.at.Load() == dutyFree {
		m.rouse()
	}
}

// rouse has the monitor's goroutine take the duty if it is free.
func (m *monitor) rouse() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// lend leaves the duty to the loop, and returns when the monitor's goroutine has
// it again.
func (m *monitor) lend() {
	m.free()
	m.n.ping() // the loop looks into the inbox first, and then for the duty
	for {
		<-m.kick
		if m.duty.take(dutyMonitors) {
			m.handed, m.taken = 0, m.n.inbox.taken.Load()
			return
		}
	}
}

// lendable reports whether the loop would take the duty now.
func (m *monitor) lendable() bool {
	n := m.n
	if n.shared == nil || len(m.out.items) > 0 || n.until.Load() || n.broken.Load() || n.stalled.Load() != nil || !n.shared.alone() {
		return false
	}
	return n.inbox.queued() == 0 && len(n.turn) == 0 || m.handed >= handOvers && n.inbox.taken.Load() != m.taken
}

// yield lets other goroutines run that wait for this thread: those that were made
// ready, before it sleeps in the kernel (see handOver); on one processor always;
// and otherwise now and then, since each time an idle thread is woken to look.
func (m *monitor) yield(now bool) {
	if now || !shm.CanSpin() || m.now-m.yielded > int64(yieldAfter) {
		m.yielded = m.now
		runtime.Gosched()
	}
}

// serve does the monitor's work on the loop until called says that the loop has
// something else to do, or somebody else is to have the duty or the turn.
func (n *run) serve(called func() bool) {
	m := n.mon
	if m.duty.at.Load() != dutyFree {
		return
	}
	if !n.takeTurn() {
		m.rouse()
		return
	}
	again := true // also when a handler ends the goroutine
	defer func() {
		n.endTurn()
		if again {
			n.ping()
		}
	}()
	again = n.serveTurn(m, called)
}

// testHookRouted lets tests get between the loop's last look into the inbox and
// its taking the duty.
var testHookRouted func()

// serveTurn has the turn. It returns whether it wants to be called again.
func (n *run) serveTurn(m *monitor, called func() bool) (again bool) {
	n.inbox.pinged.Store(false)
	for {
		p := n.route(n.opts.turn)
		switch {
		case n.isStopped() || n.until.Load() || p == stuck:
			m.rouse()
			return false
		case called():
			return true
		case p == moved:
			m.duty.serial.Add(1)
			continue
		}
		if testHookRouted != nil {
			testHookRouted()
		}
		switch {
		case !m.duty.take(dutyLoops):
			return false // the monitor has it, and pings
		case n.inbox.queued() > 0: // the monitor put something and then lent, between the two looks
			m.free()
			continue
		}
		for len(m.out.items) == 0 {
			if n.isStopped() || n.until.Load() || n.broken.Load() || called() {
				m.free()
				m.rouse()
				return true
			}
			if m.turn() == 0 && !m.live.lookForEnds(m) && len(m.out.items) == 0 && !n.broken.Load() {
				m.yield(n.readied)
				n.readied = false
				m.sleep()
			}
		}
		m.yield(false)
		n.count.turns.Add(1)
		n.inbox.added.add(uint64(len(m.out.items)))
		n.cur, n.next = m.out, 0
		m.out, m.outBytes = n.inbox.fresh(), 0
		m.free()
		if m.events.pending.Load() {
			m.rouse()
		}
	}
}
