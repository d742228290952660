package ring

import (
	"os"

	"github.com/shmrouter/shmrouter/shm"
)

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
	c.gather()
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
			c.frontier(n)
			return n, nil // not claimed yet: empty
		}
		g := w.granules()
		// What wrong says, in the order in which it is cheap.
		if age > 0 || !c.valid(pos, g) || w.is(free) || w.owner() == ownerNone && !w.is(skip) {
			return n, corrupt(pos, w, c.wrong(pos, w))
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
			if n == 0 && c.ends(pos, w) {
				continue
			}
			if gone, err := c.examine(pos, w); err != nil || !gone {
				c.frontier(n)
				return n, err
			}
		}
	}
	return n, nil
}

// ends watches a claim that was not in front before, for less than a
// microsecond, and reports whether it has ended: it mostly does so at once, and
// who asks what it is reads the clock first.
func (c *Consumer) ends(pos uint64, w header) bool {
	if c.front.word == w && c.front.pos == pos || !shm.CanSpin() {
		return false
	}
	for range claimLooks {
		if c.load(pos) != w {
			return true
		}
		shm.Pause(1)
	}
	return false
}

const claimLooks = 16

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
