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

// publishEvery is the number of polls after which a consumer that never waits
// publishes its figures.
const publishEvery = 4096

// Action is a handler's answer.
type Action int

const (
	// Continue goes on with the next message.
	Continue Action = iota
	// Break ends the Poll; the message is consumed.
	Break
	// Leave ends the Poll; the message stays, and is the next one polled.
	Leave
)

// Consumer takes messages out. A segment has at most one, held by a lock that
// the kernel frees when its process is gone. It is for one goroutine at a time,
// but for the methods that say otherwise.
type Consumer struct {
	view
	choices
	ring  *Ring
	locks *shm.Locks

	pos      atomic.Uint64 // next record; stored by the consumer only
	inner    uint64        // granules of it that were delivered already (batches)
	released uint64        // head as last stored by Poll
	polled   atomic.Uint64 // pos as of the end of the last Poll: what Release may take
	freed    atomic.Uint64 // head as last stored by Release

	admission admission // see room.go

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

// Poll calls fn for the messages that are there, limit at most, and returns
// how many were consumed. It never blocks. 0 does not mean that the ring is
// empty: an open claim may be in front, of a process whose death has yet to be
// noticed too. Who wants all that was sent polls and waits until Position has
// reached a Frontier. A limit below 1 consumes nothing. Their space is released at the end,
// once, also when fn panics: what was delivered, the message of the panic
// included, is consumed then, and the panic goes on to the caller.
//
// A claim of a dead producer that stands in front is stepped over; one of a
// living producer ends the Poll. Errors: *CorruptError where the segment
// contradicts itself, shm.ErrFault where a file was truncated, os.ErrClosed,
// and those of asking the kernel for locks.
func (c *Consumer) Poll(limit int, fn func(Frame) Action) (n int, err error) {
	if c.closed.Load() {
		return 0, os.ErrClosed
	}
	if c.named {
		before := c.counts.messages
		err = c.seg.Guarded(func() error {
			_, err := c.poll(limit, fn)
			return err
		})
		return int(c.counts.messages - before), err // also where a fault cut it short
	}
	return c.poll(limit, fn)
}

func (c *Consumer) poll(limit int, fn func(Frame) Action) (n int, err error) {
	defer c.settle()
	c.polls++
	if c.polls%publishEvery == 0 {
		c.counts.publish(c.seg)
	}
	// Records that are stepped over count for nothing in limit, so they are
	// bounded by themselves: a Poll goes once round the ring at most.
	for steps := uint64(0); n < limit && steps <= c.size; steps++ {
		pos := c.pos.Load()
		w := c.load(pos) // the only load of it: all that follows uses the copy
		age := w.age(c.tag(pos))
		if age < 0 {
			return n, nil // not claimed yet: empty
		}
		g := w.granules()
		if age > 0 || !c.valid(pos, g) || w.is(free) || w.owner() == ownerNone && !w.is(skip) {
			return n, c.damage(pos, w)
		}
		switch w.state() {
		case commit:
			// Pairs with Producer.commit: the payload is there.
			raceAcquire(c.token)
			m, more, err := c.deliver(pos, g, w, limit-n, fn)
			n += m
			if err != nil || !more {
				return n, err
			}
		case skip:
			c.counts.skipped(w, c.front.taken && c.front.pos == pos)
			c.pass(pos, g)
		case busy:
			if gone, err := c.examine(pos, w); err != nil || !gone {
				return n, err
			}
		}
	}
	return n, nil
}

// deliver hands out the messages of the committed record at pos, from inner
// on. more is false when the handler has ended the Poll.
func (c *Consumer) deliver(pos, g uint64, w header, limit int, fn func(Frame) Action) (n int, more bool, err error) {
	for n < limit {
		at := c.inner
		length, meta := splitInfo(c.entry(pos + at).info.Load())
		end := at + granulesFor(length)
		if length > maxFrame || end > g {
			return n, false, corrupt(pos, w, "message does not fit its record")
		}
		data := c.view.bytes(pos+at, length)
		if end < g {
			if l, _ := splitInfo(c.entry(pos + end).info.Load()); l == void {
				end = g
			}
		}
		n++
		c.counts.messages++
		c.counts.bytes += uint64(length)
		if end == g {
			c.counts.records++
			c.pass(pos, g)
		} else {
			c.inner = end
		}
		switch fn(Frame{Data: data, Meta: meta, Slot: w.owner(), Position: pos}) {
		case Continue:
		case Leave:
			c.leave(pos, at, end == g, length)
			return n - 1, false, nil
		default:
			return n, false, nil
		}
		if end == g {
			return n, true, nil
		}
	}
	return n, true, nil
}

// leave takes back the last step of deliver.
func (c *Consumer) leave(pos, inner uint64, whole bool, length int) {
	storeRelaxed(&c.pos, pos)
	c.inner = inner
	c.counts.messages--
	c.counts.bytes -= uint64(length)
	if whole {
		c.counts.records--
	}
}

// pass moves on behind the record at pos. Where a Poll consumes much, space is
// released a quarter of the ring at a time.
func (c *Consumer) pass(pos, g uint64) {
	if uint32(pos>>c.lap) == scrubLap {
		c.scrub(pos, g)
	}
	storeRelaxed(&c.pos, pos+g)
	c.inner = 0
	if pos-c.released >= c.size/4 && !c.manual {
		// The record at pos itself may still be with the handler.
		c.released = pos
		c.makeRoom(pos)
	}
}

// settle releases what was consumed. It is deferred, so that it runs when a
// handler panics.
func (c *Consumer) settle() {
	pos := c.pos.Load()
	storeRelaxed(&c.polled, pos)
	if pos != c.released && !c.manual {
		c.released = pos
		c.makeRoom(pos)
		return
	}
	c.minds()
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

// scrubLap is the lap, of every 2³², in which words that no record starts at
// are renewed, so that none keeps its tag for 2³⁴ laps and looks new.
const scrubLap = 1<<32 - 1

// scrub renews the inner words of a record while they are still the
// consumer's: nobody else reads or writes them before head has passed.
func (c *Consumer) scrub(pos, g uint64) {
	for i := uint64(1); i < g; i++ {
		c.entry(pos + i).word.Store(uint64(makeHeader(skip, (c.tag(pos)-1)&tagMask, ownerNone, 0)))
	}
}

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
