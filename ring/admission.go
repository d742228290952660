package ring

import (
	"math"
	"sync"

	"github.com/shmrouter/shmrouter/shm"
)

// What the waiters flag says.
const (
	noneWaits = 0
	someWait  = 1 // somebody has found the ring full since the last wake
	moreWait  = 2 // the last wake may have left some asleep
)

// admission is what the consumer remembers of whom it let in.
type admission struct {
	mu   sync.Mutex // Release may run beside Poll and Wait
	at   int64      // of the last wake, shm.Now
	head uint64     // where it was then
	few  int        // how many to wake
}

// makeRoom is the consumer's half: it publishes that everything before pos is
// free, and wakes waiters when that is a quarter of the ring.
func (c *Consumer) makeRoom(pos uint64) {
	c.head.Store(pos)
	if c.roomWaiters.Load() != noneWaits {
		c.admit(pos)
	}
}

// minds looks after the waiters where there is nothing to consume: nobody else
// does if those who were woken are no more. up says that some may still sleep
// although there is room, woke that there may be something to consume now.
func (c *Consumer) minds() (up, woke bool) {
	head := c.released
	if c.manual {
		head = c.freed.Load()
		c.admission.mu.Lock() // a Release under way may be about to put the flag up
		defer c.admission.mu.Unlock()
	}
	if c.roomWaiters.Load() == noneWaits {
		return false, false
	}
	if c.manual {
		return c.admitLocked(head)
	}
	return c.admit(head)
}

func (c *Consumer) admit(head uint64) (free, woke bool) {
	c.admission.mu.Lock()
	defer c.admission.mu.Unlock()
	return c.admitLocked(head)
}

// admitLocked wakes the next waiters if a quarter of the ring is free and it is
// time to, and says both. While those who were woken before have not filled the ring, more of them would only share
// the processors, so they come slowly; where nothing arrives at all, twice as
// many each time. The hint stands for the end of what is claimed; where it lags
// the ring looks emptier than it is, and waiters look once more than they had
// to.
func (c *Consumer) admitLocked(head uint64) (free, woke bool) {
	a := &c.admission
	used := int64(c.hint.Load() - head)
	if used > int64(c.size-c.size/4) {
		return false, false // who makes room looks again: the next Poll, or Release
	}
	now := shm.Now()
	still := head == a.head
	if !still {
		a.head, a.few = head, admitFew
	}
	switch since := now - a.at; {
	case used <= 0 && c.manual:
		a.few = math.MaxInt32 // the last Release of all, and nobody naps shortly because of it
	case c.roomWaiters.Load() == someWait:
	case used <= 0 && since >= idlePace:
		if still {
			a.few = min(2*a.few, math.MaxInt32)
		}
	case since < admitPace:
		return true, false
	}
	if c.roomWaiters.Swap(noneWaits) == noneWaits {
		return true, false
	}
	a.at = now
	c.roomEpisode.Add(1)
	if shm.FutexWake(c.roomEpisode, a.few) == a.few {
		c.roomWaiters.CompareAndSwap(noneWaits, moreWait)
	}
	return true, true
}

// Rouse has everybody who waits for room, in all processes, look again and then
// ask whether a consumer lives: for who knows that none does, or has changed
// something else that they look at. Errors: os.ErrClosed, shm.ErrFault.
func (r *Ring) Rouse() error {
	return r.access(func() error {
		r.rouse()
		return nil
	})
}

// rouse wakes all who wait for room. The new episode reaches one that is about
// to sleep.
func (v *view) rouse() {
	v.roomEpisode.Add(1)
	shm.FutexWake(v.roomEpisode, math.MaxInt32)
}
