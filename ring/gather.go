package ring

import (
	"time"

	"github.com/shmrouter/shmrouter/shm"
)

// Gathering. A consumer that takes every record the moment it appears fights
// with the producer for the same lines, and each time that it comes to the
// frontier it has fetched lines ahead that the producer is about to write. Both
// are slow then: a stream runs several times faster where messages are let come
// together first. So a consumer that has come to the frontier stays away for a
// moment if it had found messages at its last visit too, and pauses for longer
// if that pays.
//
// A pause is tried when Polls in a row have each come to the frontier, with
// messages sooner than question and answer can follow each other, or nearly.
// It is made again as long as messages come faster with pauses than they did in
// that row. So neither a stream that is paced nor a few who ask and wait for
// their answers are delayed, but for a trial now and then.
type gathering struct {
	finds int  // Polls in a row that found messages and came to the frontier; below 0: of no account
	away  bool // stayed away for a moment before the last look
	idled int  // how often that brought one message, as a back-off
	due   bool // to pause before the next look

	consumed uint64 // messages, when the frontier was last reached
	visits   uint   // of the frontier in the row that is being measured
	row      pace   // of the last whole row
	began    int64  // when the row, or the last pause, did
	before   uint64 // messages until then

	paid    uint // pauses in a row that did, the trial included
	skip    uint // rows that are no reason for a trial
	backOff uint
}

// pace is a number of messages and the time that they took, in nanoseconds.
type pace struct{ messages, time int64 }

// fasterThan reports whether messages took less than three quarters of q's time.
func (p pace) fasterThan(q pace) bool { return 4*p.time*q.messages < 3*q.time*p.messages }

const (
	gatherTime = int64(20 * time.Microsecond) // doubles as what it may add to a message's latency
	gatherRow  = 16                           // visits
	gatherAnew = 32                           // pauses that pay until a row is measured again
	gatherMost = 1024                         // largest back-off

	awayFinds  = 2
	awayPauses = 10 // PAUSEs: 0.2 to 0.5 µs
)

// gatherPace is what a message of a row takes at most, in nanoseconds. Tests raise
// it, so that it does not matter who else runs.
var gatherPace = int64(500)

// gather stays away from the frontier if it is time to.
func (c *Consumer) gather() {
	g := &c.gathering
	switch {
	case g.due:
		now := shm.Now()
		g.due, g.began, g.before = false, now, c.counts.messages
		for end := now + gatherTime; now < end && !c.interrupted.Load(); now = shm.Now() {
			shm.Pause(8)
		}
	case g.finds >= awayFinds:
		g.away = true
		shm.Pause(awayPauses)
	}
}

// frontier is told where a Poll of n messages ends since it has come to what is
// not there yet.
func (c *Consumer) frontier(n int) {
	g := &c.gathering
	if n == 0 || c.how != Adaptive || !shm.CanSpin() {
		g.finds = min(g.finds, 0)
		return
	}
	g.found(n)
	g.reached(uint64(n), c.counts.messages, shm.Now)
}

// found decides about the moments. Where one message comes whether the consumer
// stays away or not, it does so more and more rarely.
func (g *gathering) found(n int) {
	switch g.finds++; {
	case !g.away:
	case n > 1:
		g.idled = 0
	default:
		g.idled = min(2*g.idled+1, gatherMost)
		g.finds = -g.idled
	}
	g.away = false
}

// reached decides about the pauses; consumed are all messages until now.
func (g *gathering) reached(n, consumed uint64, now func() int64) {
	inRow := g.visits > 0 && g.consumed+n == consumed
	g.consumed = consumed
	switch {
	case g.paid%gatherAnew != 0:
		g.judge(pace{int64(consumed - g.before), now() - g.began})
	case !inRow:
		g.visits, g.before, g.began = 1, consumed, now()
	case g.visits < gatherRow:
		g.visits++
	default:
		g.row = pace{int64(consumed - g.before), now() - g.began}
		g.visits = 0
		g.reckon()
	}
}

// reckon says whether the row is a reason to pause.
func (g *gathering) reckon() {
	switch {
	case g.row.time > gatherPace*g.row.messages:
		g.paid = 0
	case g.paid == 0 && g.skip > 0:
		g.skip--
	default:
		g.paid++
		g.due = true
	}
}

// judge is told how fast messages came from the last pause's beginning on.
func (g *gathering) judge(p pace) {
	switch {
	case p.fasterThan(g.row):
		g.paid++
		g.due = true
		g.backOff = 0
		return
	case g.paid == 1:
		g.backOff = min(2*g.backOff+1, gatherMost)
		g.skip = g.backOff
	}
	g.paid = 0
}
