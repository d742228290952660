package ring

import (
	"context"
	"runtime"
	"time"

	"github.com/shmrouter/shmrouter/shm"
)

// Waiting is how a consumer waits in Wait: what it pays, in processor time, for
// how soon it sees a message. One that is watched for is seen within a
// microsecond, at the price of a processor. One that ends a sleep comes some 10
// to 60 µs later and costs some 5 to 20 µs of processor time on each side, the
// sender's wake among it.
//
// In every mode Interrupt, the end of a context and a deadline end a Wait, and
// the owner of a claim in front is asked for in time; whoever watches lets other
// goroutines run every 200 µs. Where the process may use less than two
// processors (shm.CanSpin), nobody watches: every mode is Thrift then.
type Waiting int

const (
	// Adaptive is for programs that do not know what comes. Messages, or answers,
	// that come again within some microseconds are watched for, for up to 50 µs, and
	// streams are left to gather for 20 µs where that makes them faster. Where more than
	// one message comes in the time of a sleep, and yet too few to be busy with, it
	// sleeps and watches in turn, which is how a message each 10 µs takes less than
	// half a processor instead of a whole one. In silence it sleeps after 50 µs at
	// most, and the first message wakes it.
	Adaptive Waiting = iota
	// LowLatency watches for 5 ms before it sleeps, and does not let messages gather:
	// each is seen at once where they come more often than every 5 ms, for a whole
	// processor, and streams are slower than with Adaptive.
	LowLatency
	// Thrift sleeps at once, but for letting others have the processor first: who sends
	// from the same one may do so then. It spends nothing on watching or gathering, and
	// every message that finds it asleep costs both sides a call into the kernel.
	Thrift
)

// latencyWatch is raised by tests, so that nothing but a notice ends it.
var latencyWatch = int64(5 * time.Millisecond)

const (
	adaptiveWatch = int64(50 * time.Microsecond)
	spinMin       = int64(2 * time.Microsecond)
)

// yieldEvery must be well below the 10 ms after which the runtime takes a goroutine
// for one that does not let others run. See yield. Tests lower it, so that it is
// always time.
var yieldEvery = int64(200 * time.Microsecond)

// resting is what a consumer does that messages reach too seldom to be busy with
// and too often to watch for: behind each one that it watched for long it sleeps,
// although the next one is near, and finds two or three when it wakes. Evidence is
// a row of Waits that a message ended, but not soon. An answer comes as late as
// that, too, and alone: so it is tried for some sleeps, and again only after a
// longer row if they brought hardly more than a message each.
type resting struct {
	on     bool
	late   uint   // Waits in a row that watching ended, but not soon
	row    uint   // how long that has to be
	sleeps uint   // of the present trial
	found  uint64 // messages at the end of them

	polled uint64 // messages before the last Wait
	slept  bool   // in the last Wait
}

const (
	restLate  = int64(4 * time.Microsecond)
	restTrial = 16
	restWorth = restTrial * 5 / 4 // messages
	restRow   = 8
	restRows  = 4096 // the longest
)

// watchUntil is when a Wait that goes on at now shall have watched enough.
func (c *Consumer) watchUntil(now int64) int64 {
	switch {
	case c.how == Thrift || !shm.CanSpin():
		return now
	case c.how == LowLatency:
		return now + latencyWatch
	case c.resting.on && c.resting.late > 0:
		return now
	}
	return now + c.spinBudget
}

// spin watches the front from now until end. found says that there is a reason to
// look again; last is the time as it last saw it.
func (c *Consumer) spin(ctx context.Context, now, end int64) (found bool, last int64) {
	pos := c.pos.Load()
	tag := c.tag(pos)
	for ; now < end; now = shm.Now() {
		var w header
		for range 16 {
			// What counts is that there is something, not that the word has
			// changed: it may have done so after the last look. A claim in
			// front is not there yet; it is about to be.
			w = c.load(pos)
			if c.stirs(w, tag) {
				return true, now
			}
			shm.Pause(2)
		}
		f := &c.front
		asks := w.age(tag) == 0 && (f.pos != pos || f.word != w || now >= f.ask)
		if asks || ctx.Err() != nil {
			return true, now
		}
		c.yield(now)
	}
	return false, now
}

// stirs reports whether w, the word in front, is a reason to look.
func (c *Consumer) stirs(w header, tag uint64) bool {
	age := w.age(tag)
	return age > 0 || age == 0 && !w.is(busy) || c.interrupted.Load()
}

// cede is what is done instead of watching by those who do not watch: they let the
// others that want this processor run once, since the next sender may be among them. A
// message that is there then has cost neither a sleep nor a wake. Where none is, time
// was lost, and where somebody else keeps the processor busy it was a time slice or
// more. So there is an account of what was saved and lost, in nanoseconds, with an
// allowance for each Wait. A single loss counts as cedeLong at most: before a first
// message everybody waits for long.
func (c *Consumer) cede(now int64) (found bool, last int64) {
	if !c.mayCede() {
		return false, now
	}
	shm.Yield()
	last = shm.Now()
	pos := c.pos.Load()
	found = c.stirs(c.load(pos), c.tag(pos))
	c.ceded(found, last-now)
	c.yield(last)
	return found, last
}

// mayCede is asked once for each Wait that has to.
func (c *Consumer) mayCede() bool {
	c.saved = min(c.saved+cedeAllow, cedeMost)
	return c.saved >= 0 && (c.how == Thrift || !shm.CanSpin())
}

func (c *Consumer) ceded(found bool, took int64) {
	if found && took < cedeLong {
		c.saved += cedeSaves
	} else {
		c.saved -= min(took, cedeLong)
	}
}

const (
	cedeSaves = 500 // about what a sleep and a wake cost more
	cedeAllow = 1
	cedeMost  = int64(time.Millisecond) // that a consumer begins with, too
)

// Tests raise it, so that it does not matter who else runs.
var cedeLong = int64(50 * time.Microsecond)

// yield lets other goroutines run now and then. A consumer about to sleep does so
// as well, for another reason: to the runtime a goroutine that goes from one system
// call to the next is a long turn, and after 10 ms its watchdog takes the processor
// away within each of them. That costs three threads' wakes a message.
func (c *Consumer) yield(now int64) bool {
	if now-c.yielded < yieldEvery {
		return false
	}
	c.yielded = now
	runtime.Gosched()
	return true
}

// watched learns from the watching of a Wait. It grows when it was worth it and
// shrinks when it was not.
func (c *Consumer) watched(found bool, took int64) {
	r := &c.resting
	switch {
	case c.how != Adaptive || r.on && r.late > 0:
		return
	case !found:
		c.spinBudget = max(c.spinBudget/2, spinMin)
		r.late = 0
		return
	}
	c.spinBudget = min(2*c.spinBudget+spinMin, adaptiveWatch)
	if took < restLate {
		r.late = 0
		return
	}
	if r.late++; r.late >= r.row && !r.on {
		r.on, r.sleeps, r.found = true, 0, 0
	}
}

// rests is called for each Wait that comes to sleep.
func (c *Consumer) rests() {
	c.resting.slept = true
	c.resting.late = 0
	c.resting.sleeps++
}

// rested judges the rests in a Wait behind one that slept, by the messages that
// were polled in between.
func (c *Consumer) rested() {
	r := &c.resting
	n, slept := c.counts.messages-r.polled, r.slept
	r.polled, r.slept = c.counts.messages, false
	if !slept {
		return
	}
	r.found += n
	if !r.on || r.sleeps < restTrial {
		return
	}
	if r.found >= restWorth {
		r.row = restRow
	} else {
		r.on, r.row = false, min(2*r.row, restRows)
	}
	r.sleeps, r.found = 0, 0
}

// slept learns from a sleep in the Wait that began then. A short sleep was mostly the waking: watch
// longer next time, or two that wait for each other would go on waking each other
// for ever.
func (c *Consumer) slept(began int64) {
	if c.how == Adaptive && shm.Now()-began < 2*adaptiveWatch {
		c.spinBudget = adaptiveWatch
	}
}
