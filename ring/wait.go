package ring

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/shmrouter/shmrouter/shm"
)

// idleNap covers a producer that died before its wake. Tests raise it, so that
// a lost wake cannot hide behind it.
var idleNap = int64(100 * time.Millisecond)

// Wait blocks until a record in front can be polled. That may be one that is
// only stepped over (a pad, an aborted claim), so the Poll behind it may find
// no message. It watches, and then sleeps, as WithWaiting says. Errors: ctx's,
// ErrInterrupted, os.ErrClosed, and those of Poll. A context without an end
// costs nothing.
func (c *Consumer) Wait(ctx context.Context) error { return c.WaitUntil(ctx, 0) }

// WaitUntil is Wait with a deadline on the clock of shm.Now, in nanoseconds;
// 0 is none. After it: os.ErrDeadlineExceeded.
func (c *Consumer) WaitUntil(ctx context.Context, deadline int64) error {
	if c.closed.Load() {
		return os.ErrClosed
	}
	if c.named {
		return c.seg.Guarded(func() error { return c.wait(ctx, deadline) })
	}
	return c.wait(ctx, deadline)
}

func (c *Consumer) wait(ctx context.Context, deadline int64) error {
	c.gather()
	if ready, err := c.look(); ready || err != nil {
		return err
	}
	// From here on Interrupt knows that somebody has to be woken.
	this := c.waiting.Add(1)
	defer c.waiting.Add(1)
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { c.wakeUntil(this, func() bool { return false }) })
		defer stop()
	}
	c.counts.publish(c.seg)
	var began, end int64
	for asleep, gave := false, false; ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		ready, err := c.look()
		if ready || err != nil {
			return err
		}
		now, first := shm.Now(), began == 0
		if first {
			began = now
			c.rested()
			end = c.watchUntil(now)
			if deadline != 0 {
				end = min(end, deadline)
			}
		}
		found, now := c.spin(ctx, now, end)
		if first {
			c.watched(found, now-began)
			if !found {
				found, now = c.cede(now)
			}
		}
		if found {
			continue
		}
		// Once for each sleep: where turns are short, or this thread is slow, it
		// would be time again at each look.
		if gave = !gave && c.yield(now); gave {
			continue
		}
		if !asleep {
			asleep = true
			c.rests()
		}
		if err := c.doze(now, deadline); err != nil {
			return err
		}
		c.slept(began)
	}
}

// look reports whether the record in front can be polled. Damage counts as
// ready: Poll says what it is.
func (c *Consumer) look() (bool, error) {
	if c.interrupted.Load() && c.interrupted.Swap(false) {
		return false, ErrInterrupted
	}
	pos := c.pos.Load()
	w := c.load(pos)
	switch age := w.age(c.tag(pos)); {
	case age < 0:
		return false, nil
	case age == 0 && w.is(busy) && c.valid(pos, w.granules()):
		return c.examine(pos, w)
	}
	return true, nil
}

// doze sleeps once: in idle mode where nothing is claimed, in stuck mode where
// a claim is in front and its owner has to be asked for. now is the time as it
// was seen last.
func (c *Consumer) doze(now, deadline int64) error {
	pos := c.pos.Load()
	w := c.load(pos)
	mode, until := idle, now+max(idleNap, c.longNap)
	switch age := w.age(c.tag(pos)); {
	case age > 0 || age == 0 && !w.is(busy):
		return nil
	case age == 0:
		mode, until = stuck, c.front.ask
		if until <= now {
			return nil // due, or not looked at yet
		}
	}
	if deadline != 0 {
		if now >= deadline {
			return os.ErrDeadlineExceeded
		}
		until = min(until, deadline)
	}
	if c.interrupted.Load() {
		return nil
	}
	if up, woke := c.minds(); woke {
		return nil
	} else if up {
		until = min(until, now+idlePace)
	}
	err := c.nap(pos, w, mode, until)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case mode == idle:
		return c.overtaken(pos)
	}
	return nil
}

// overtaken looks for the damage that does not show in the front word: a hint
// ahead of a record that nobody claimed, and a head that the consumer did not
// store, behind or beyond which producers would claim what it never sees.
func (c *Consumer) overtaken(pos uint64) error {
	if h, moved := c.movedHead(); moved {
		return &CorruptError{pos, h, "head is not where the consumer left it"}
	}
	hint := c.hint.Load()
	// Positions stay below 2⁶³, so a hint that is damaged beyond that shows too.
	if w := c.load(pos); hint > pos && w.age(c.tag(pos)) < 0 {
		return corrupt(pos, w, "hint is ahead of a granule that was never claimed")
	}
	return nil
}

// Interrupt makes the current Wait, or else the next one, return
// ErrInterrupted, once. Any goroutine may call it, also one that Wait has called
// back (WithOnStall, WithOnSkip). It returns when the waiter has noticed, or is
// about to, being called back, or is not waiting.
func (c *Consumer) Interrupt() {
	c.interrupted.Store(true)
	c.wakeUntil(c.waiting.Load(), func() bool { return !c.interrupted.Load() || c.telling.Load() })
}

// wakeUntil wakes the waiter of one Wait (an odd number) until that has ended
// or enough says so. One wake could come just before the sleep.
func (c *Consumer) wakeUntil(wait uint64, enough func() bool) {
	if wait&1 == 0 {
		return
	}
	for d := time.Microsecond; c.waiting.Load() == wait && !enough(); d = min(2*d, time.Millisecond) {
		shm.FutexWake(c.doorbellWord(c.pos.Load()), 1)
		time.Sleep(d)
	}
}

// SetIdle sets how long an idle sleep lasts at most, from the default of 100 ms
// up. It bounds how late a message is whose producer died between its commit
// and its wake, with nobody sending after it; a caller that learns of deaths
// otherwise, and then calls Interrupt, may sleep longer. It is for the
// consumer's goroutine.
func (c *Consumer) SetIdle(d time.Duration) { c.longNap = int64(d) }

// SlotAlive asks the kernel whether a process holds the slot. A turn that a
// dead one holds is given back, so that it keeps no room from those who only
// try. Any goroutine may call it. Errors: ErrNoSlot, os.ErrClosed, shm.ErrFault,
// and the kernel's.
func (c *Consumer) SlotAlive(slot int) (held bool, err error) {
	c.inUse.RLock()
	defer c.inUse.RUnlock()
	switch {
	case c.closed.Load():
		return false, os.ErrClosed
	case slot < 0 || slot >= MaxSlots:
		return false, fmt.Errorf("%w: %d", ErrNoSlot, slot)
	}
	err = c.seg.Guarded(func() (err error) {
		turn := c.turn.Load()
		held, err = c.locks.Held(int64(slot))
		if err == nil && !held && turn&0xff == uint64(slot+1) {
			c.turn.CompareAndSwap(turn, 0)
		}
		return err
	})
	return held, err
}
