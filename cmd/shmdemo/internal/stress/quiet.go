package stress

import (
	"fmt"
	"time"
)

// After the last kill the workers pause, everything is drained, and two wakes are put
// to the test. Losing one loses no message: whoever sleeps looks by itself after
// 100 ms. In the crowd of the stress nobody would notice.
//
// Pings: single messages, far apart, to a router that sleeps. They arrive at
// once, or nobody wakes it.
//
// Press: one worker against a router that brakes, so that the ring is full half
// of the time. The worker goes on when there is room, or nobody wakes it.
const (
	pingBound = 40 * time.Millisecond // for the median; without a wake it is about 80 ms
	slowMost  = 3                     // slow sends of a press; a busy machine has some now and then, without a wake all waits are
	wakeTests = 4                     // a wake is missing if it is so often in a row: a busy machine is late, too, but not always
	pressRing = 16 << 20              // a larger ring does not fill in the time of a press
)

// quiet pauses everybody and waits until what was sent has arrived.
func (r *Run) quiet() {
	r.phase("draining")
	r.fleet.command(orderPause)
	r.await(func() bool { return r.fleet.obeyed(orderPause) })
	r.drain()
}

// hopeless is how long a drain waits for another message. What is missing then
// is lost, which the members' settlement will tell.
const hopeless = 3 * time.Second

func (r *Run) drain() {
	seen, since := uint64(0), time.Now()
	for {
		a := r.book.account(r.fleet.present())
		missing := a.acked - min(a.acked, a.delivered+a.torn)
		if missing <= r.missing {
			return
		}
		if n := r.book.arrived.Load(); n != seen {
			seen, since = n, time.Now()
		} else if time.Since(since) >= hopeless {
			r.missing = missing // and not waited for a second time
		}
		time.Sleep(time.Millisecond)
	}
}

// testWakes runs the two tests, one after the other.
func (r *Run) testWakes() {
	m := r.fleet.seats[0].now.Load()
	if _, reserve, limited := r.fleet.quota(0); m == nil || limited && reserve == 0 {
		return
	}
	r.phase("pings")
	var median time.Duration
	var n int
	late := func() bool { return n > pings/2 && median > pingBound }
	for k := 0; k == 0 || k < wakeTests && late(); k++ {
		r.meter.forgetPings()
		r.meter.listen.Store(true)
		r.tell(m, orderPing)
		r.meter.listen.Store(false)
		median, n = r.meter.median()
	}
	if late() {
		r.book.violation("a wake is missing: half of %d messages to the sleeping router took %v or longer", n, median.Round(time.Millisecond))
	}
	if r.cfg.Messages != 0 || r.cfg.Capacity > pressRing {
		return
	}
	r.phase("press")
	var slow, waits uint64
	late = func() bool { return slow > slowMost && slow > waits/2 }
	for k := 0; k == 0 || k < wakeTests && late(); k++ {
		r.meter.braking.Store(true)
		r.tell(m, orderPress)
		r.meter.braking.Store(false)
		m.note(func(p *diaryPage) { slow, waits = p.slow.Load(), p.waits.Load() })
	}
	if late() {
		r.book.violation("a wake is missing: with the ring full and emptied in turn, %d sends waited %v or longer for room, of %d that had to wait",
			slow, time.Duration(slowSend), waits)
	}
}

// tell has one worker carry out an order, while the others pause, and drains.
func (r *Run) tell(m *member, order uint64) {
	m.order(order)
	r.await(func() bool { return m.did(order) })
	r.quiet()
}

// await waits for something that the watchdog will not let it wait for in vain.
func (r *Run) await(done func() bool) {
	for !done() {
		time.Sleep(time.Millisecond)
	}
	r.book.steps.Add(1)
}

func (r *Run) phase(name string) {
	r.now.Store(&name)
	r.record.phase(name)
	r.book.steps.Add(1)
}

// where describes the run for the watchdog: phase, and what is missing from whom.
func (r *Run) where() string {
	text := "while " + *r.now.Load()
	for _, m := range r.fleet.present() {
		var sent, acked uint64
		m.note(func(p *diaryPage) { sent, acked = p.sent.Load(), p.acked.Load() })
		if text += fmt.Sprintf("; worker %d.%d sent %d, acknowledged %d, %s", m.seat, m.incarnation, sent, acked, m.state()); len(text) > 1000 {
			return text + " ..."
		}
	}
	return text
}
