package ring

import (
	"time"

	"github.com/shmrouter/shmrouter/shm"
)

// Gathering. A consumer that takes every record the moment it appears fights
// with the producer for the same lines, and both are slow: a stream runs
// several times faster when some messages are let come together first. Two or
// more messages since the last Wait are evidence of a stream; a pause that then
// brought gatherWorth goes on, one that did not is not tried again soon.
// Question and answer, one message at a time, never pauses; a few that came
// during a sleep are no evidence.
type gathering struct {
	polled  uint64 // messages before the last Wait
	slept   bool   // in the last Wait
	tried   bool
	skip    uint // evidence to ignore
	backOff uint
}

const (
	gatherWorth = 8
	gatherMost  = 1024                         // largest back-off
	gatherTime  = int64(10 * time.Microsecond) // doubles as what it may add to a message's latency
)

// gather returns the time at which the pause ended.
func (c *Consumer) gather(now int64) int64 {
	g := &c.gathering
	n := c.counts.messages - g.polled
	g.polled = c.counts.messages
	tried, slept := g.tried, g.slept
	g.tried, g.slept = false, false
	if slept {
		c.resting.rested(n)
	}
	switch {
	case tried && n < gatherWorth:
		g.backOff = min(2*g.backOff+1, gatherMost)
		g.skip = g.backOff
		return now
	case tried:
		g.backOff = 0
	case n < 2 || slept && n < gatherWorth || c.how != Adaptive || !shm.CanSpin():
		return now
	case g.skip > 0:
		g.skip--
		return now
	}
	g.tried = true
	for end := now + gatherTime; now < end && !c.interrupted.Load(); now = shm.Now() {
		shm.Pause(8)
	}
	return now
}
