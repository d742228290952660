package ring

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/shmrouter/shmrouter/shm"
)

// Frame is one message as it lies in the ring.
type Frame struct {
	Data     []byte // borrowed: valid until the handler returns; its capacity is its length
	Meta     uint64 // what the sender gave with it
	Slot     int    // the sender's seat
	Position uint64 // of its record, in granules; several messages of a batch share it
}

// Consumer takes messages out. A segment has at most one, held by a lock that
// the kernel frees when its process is gone. It is for one goroutine at a time,
// but for the methods that say otherwise.
type Consumer struct {
	view
	ring  *Ring
	locks *shm.Locks

	pos      atomic.Uint64 // next record; stored by the consumer only
	inner    uint64        // granules of it that were delivered already (batches)
	released uint64        // head as last stored by Poll
	choices
	polled atomic.Uint64 // pos as of the end of the last Poll: what Release may take
	freed  atomic.Uint64 // head as last stored by Release

	admission admission // see admission.go

	front  front  // the claim that is in the way, see recover.go
	counts counts // published now and then, see stats.go
	polls  uint64

	episode     uint64
	drains      bool      // see nap
	longNap     int64     // SetIdle, nanoseconds
	spinBudget  int64     // nanoseconds that Adaptive watches
	resting     resting   // see waiting.go
	gathering   gathering // see gather.go
	yielded     int64     // when other goroutines were last let run
	saved       int64     // by ceding the processor, see cede
	interrupted atomic.Bool
	waiting     atomic.Uint64 // odd while in Wait
	closed      atomic.Bool
	inUse       sync.RWMutex // held for reading by methods for any goroutine, for writing by Close

	telling atomic.Bool // in onSkip or onStall: who interrupts need not wait until that is noticed
}

// ConsumerOption changes how Consume opens a consumer.
type ConsumerOption func(*choices)

// choices are what the options change.
type choices struct {
	how     Waiting
	manual  bool
	onSkip  func(SkipEvent)
	onStall func(StallEvent)
}

// WithWaiting sets how Wait waits. The default is Adaptive.
func WithWaiting(w Waiting) ConsumerOption { return func(c *choices) { c.how = w } }

// WithManualRelease leaves the space of polled messages taken until Release is
// called: a consumer that dies before has its successor deliver them again.
func WithManualRelease() ConsumerOption { return func(c *choices) { c.manual = true } }

// WithOnSkip has f called for every claim of a dead producer that the consumer
// steps over, on the consumer's goroutine, inside Poll or Wait.
func WithOnSkip(f func(SkipEvent)) ConsumerOption { return func(c *choices) { c.onSkip = f } }

// WithOnStall has f called when the claim of a living producer has been in the
// way for StallAfter, and again each time that has doubled; on the consumer's
// goroutine, inside Poll or Wait.
func WithOnStall(f func(StallEvent)) ConsumerOption { return func(c *choices) { c.onStall = f } }

// Consume takes the consumer's seat and goes on where the last consumer left:
// nothing committed is lost, and at most what that one had not released is
// delivered again. Errors: ErrConsumerBusy, ErrWaiting, shm.ErrNoLocks, os.ErrClosed.
func (r *Ring) Consume(opts ...ConsumerOption) (*Consumer, error) {
	if r.closed.Load() {
		return nil, os.ErrClosed
	}
	var chosen choices
	for _, o := range opts {
		o(&chosen)
	}
	if chosen.how < Adaptive || chosen.how > Thrift {
		return nil, fmt.Errorf("%w: %d", ErrWaiting, chosen.how)
	}
	locks, err := r.seg.OpenLocks()
	if err != nil {
		return nil, err
	}
	ok, err := locks.TryLock(lockConsumer)
	if err == nil && !ok {
		err = ErrConsumerBusy
	}
	if err != nil {
		locks.Close()
		return nil, err
	}
	if err := r.seg.Retain(); err != nil {
		return nil, errors.Join(err, locks.Close())
	}
	c := &Consumer{view: r.view, ring: r, locks: locks, spinBudget: adaptiveWatch, resting: resting{row: restRow}, saved: cedeMost}
	c.choices = chosen
	if err := r.seg.Guarded(c.takeOver); err != nil {
		return nil, errors.Join(err, locks.Close(), r.seg.Close())
	}
	return c, nil
}

// lateCommits says that producers may commit by a store that is seen late,
// whatever this build does itself (storesLate).
const lateCommits = runtime.GOARCH == "amd64"

// takeOver continues at head. The episodes go on from the dead consumer's,
// since producers remember which one they last rang for; who waits for room is
// told to look again, since it may have died between head and its wake.
func (c *Consumer) takeOver() error {
	raceAcquire(c.token) // pairs with Close, where that was in this process
	c.episode = sleepWord(c.sleep.Load()).episode()
	c.sleep.Store(uint64(makeSleep(0, c.episode, awake)))
	c.drains = lateCommits && shm.CanBarrier()
	if c.drains {
		c.fence.Or(hasBarriers)
	} else {
		c.fence.And(^uint32(hasBarriers))
	}
	pos := c.head.Load()
	c.pos.Store(pos)
	c.released = pos
	c.polled.Store(pos)
	c.freed.Store(pos)
	c.counts.load(c.seg)
	start, _ := shm.OwnStart()
	c.seg.Word64(offLife).Add(1)
	c.seg.Word64(offConsumerStart).Store(start)
	c.seg.Word64(offConsumerPIDNS).Store(shm.PIDNamespace())
	c.seg.Word32(offConsumerPID).Store(uint32(os.Getpid()))
	c.rouse()
	return nil
}

// Release gives the space before pos back to the producers. pos is a Position
// after a Poll. One goroutine at a time may call it, beside the one that polls.
// Errors: ErrNotManual, ErrRelease, os.ErrClosed.
func (c *Consumer) Release(pos uint64) error {
	c.inUse.RLock()
	defer c.inUse.RUnlock()
	switch {
	case c.closed.Load():
		return os.ErrClosed
	case !c.manual:
		return ErrNotManual
	case int64(pos-c.freed.Load()) < 0 || int64(c.polled.Load()-pos) < 0:
		return ErrRelease
	}
	return c.seg.Guarded(func() error {
		c.makeRoom(pos)
		c.freed.Store(pos)
		return nil
	})
}

// Position is that of the next record to be polled, in granules. Any goroutine
// may call it; within a batch that was consumed in part it is the batch's.
func (c *Consumer) Position() uint64 { return c.pos.Load() }

// Close gives the consumer's seat up. What was not polled stays for the next
// consumer. It must not run beside Poll or Wait; a second Close returns
// os.ErrClosed.
func (c *Consumer) Close() error {
	if c.closed.Swap(true) {
		return os.ErrClosed
	}
	c.inUse.Lock()
	defer c.inUse.Unlock()
	raceRelease(c.token)
	err := c.seg.Guarded(func() error {
		c.counts.publish(c.seg)
		c.seg.Word32(offConsumerPID).Store(0)
		return nil
	})
	return errors.Join(err, c.locks.Close(), c.seg.Close())
}
