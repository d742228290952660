package ring

import (
	"os"
	"time"

	"github.com/shmrouter/shmrouter/shm"
)

// What a dead process may leave behind, and what is done about it:
//
//	died                        left behind                repair
//	before the claim            nothing                    –
//	after a pad                 SKIP, complete             stepped over
//	after the claim, filling    BUSY{owner, granules}      consumer: BUSY→SKIP once the owner is dead (examine);
//	                                                       or who takes the slot next (Attachment.sweep)
//	after the commit            COMMIT                     delivered
//	between commit and wake     COMMIT, consumer asleep    the next one that rings; or the end of the idle nap
//	holding the turn            turn word                  whoever waits next (buryTurn), or the sweep
//	waiting for room            waiters flag               harmless: the consumer wakes nobody
//	consumer, anywhere          head                       the next consumer starts there (takeOver)
//	creator, formatting         no magic                   Open refuses; no path shows it
//
// The order of examine is what makes it exact: the word was read first (BUSY,
// owner), then the kernel is asked, and then that same word is changed. The
// process that wrote the word held its lock until it died; seeing the lock
// free after seeing the word proves it dead. A process that takes the slot
// meanwhile cannot have written this word, and sweeps it itself.

// StallAfter is how long a living producer's claim may be in the way before
// the consumer says so.
const StallAfter = 100 * time.Millisecond

// Time between the first look at a claim in front and the first question to
// the kernel; between questions from then on; and between questions once the
// claim has stalled. A claim is usually open for less than a microsecond, and
// a question costs about as much.
const (
	soonAsk = int64(time.Millisecond)
	lateAsk = int64(4 * time.Millisecond)
)

// Tests raise it, so that a lost wake cannot hide behind it.
var firstAsk = int64(50 * time.Microsecond)

// SkipEvent tells of a dead producer's claim that was stepped over.
type SkipEvent struct {
	Slot     int    // of the dead producer
	Position uint64 // of the record, in granules
	Granules uint64 // its length
	// Recovery is how long the claim delayed the consumer after its owner's
	// death could be known: from the first sight of it, or from the last time
	// the owner was still seen alive, to the skip.
	Recovery time.Duration
}

// StallEvent tells of a living producer's claim that delays everybody behind
// it. Nobody may take it away; the application may decide to kill the process.
type StallEvent struct {
	Slot         int           // of the producer
	PID          int           // as the producer sees itself
	Start        uint64        // its start time in clock ticks since boot, against a pid used again; 0 where it could not be read
	PIDNamespace uint64        // unless it is shm.PIDNamespace here, PID is another process's, or nobody's
	Position     uint64        // of the record, in granules
	Age          time.Duration // since the consumer first saw it in front
}

// front remembers the claim that stands in front of the consumer.
type front struct {
	pos   uint64
	word  header
	since int64         // first seen
	alive int64         // last time its owner was seen alive; since, at first
	ask   int64         // when to ask the kernel next
	told  time.Duration // age at which the next stall is told
	dead  int           // 1 + slot of the last owner found dead
	taken bool          // the consumer has skipped it
}

// examine is called for a BUSY word in front. gone means that the word has
// changed: look again.
func (c *Consumer) examine(pos uint64, w header) (gone bool, err error) {
	if w.owner() == ownerNone {
		return false, corrupt(pos, w, "claim without an owner")
	}
	now := shm.Now()
	f := &c.front
	if f.word != w || f.pos != pos {
		*f = front{pos: pos, word: w, since: now, alive: now, ask: now + firstAsk, told: StallAfter, dead: f.dead}
		if f.dead == w.owner()+1 {
			f.ask = now // one dead claim of a process is often followed by another
		}
	}
	if now < f.ask {
		return false, nil
	}
	held, err := c.locks.Held(int64(w.owner()))
	if err != nil {
		return false, err
	}
	now = shm.Now()
	if held {
		f.alive, f.ask, f.dead = now, now+soonAsk, 0
		if now-f.since > int64(StallAfter) {
			f.ask = now + lateAsk
		}
		c.tellStall(now)
		return false, nil
	}
	c.fenceOff()
	if c.cas(pos, w, w.with(skip)) {
		f.dead = w.owner() + 1
		f.taken = true
		if c.onSkip != nil {
			c.telling.Store(true)
			defer c.telling.Store(false)
			c.onSkip(SkipEvent{Slot: w.owner(), Position: pos, Granules: w.granules(), Recovery: time.Duration(now - f.alive)})
		}
	}
	return true, nil
}

func (c *Consumer) tellStall(now int64) {
	f := &c.front
	age := time.Duration(now - f.since)
	if c.onStall == nil || age < f.told {
		return
	}
	f.told = 2 * age
	c.telling.Store(true)
	defer c.telling.Store(false)
	roster := rosterAt(f.word.owner())
	c.onStall(StallEvent{
		Slot:         f.word.owner(),
		PID:          int(c.seg.Word32(roster + slotPID).Load()),
		Start:        c.seg.Word64(roster + slotStart).Load(),
		PIDNamespace: c.seg.Word64(roster + slotPIDNS).Load(),
		Position:     f.pos,
		Age:          age,
	})
}

// wrong says what keeps w from being the start of a record at pos that is not
// released; "" for nothing. A word of an older lap is no record's yet.
func (v *view) wrong(pos uint64, w header) (what string) {
	switch {
	case w.age(v.tag(pos)) > 0:
		return "newer lap ahead of head"
	case !v.valid(pos, w.granules()):
		return "record does not fit its lap"
	case w.is(free):
		return "record without a state"
	case w.owner() == ownerNone && !w.is(skip):
		return "claim without an owner"
	}
	return ""
}

// Resync goes on behind damage that Poll or Wait reported: to the next word
// that carries its lap's tag and fits, which is a record's start, since words
// inside a record keep older tags; where there is none, to the hint, or one
// lap on. It returns how many granules were given up. Messages among them are
// lost; producers that hold claims there find them taken away, or fill space
// that nobody reads. Errors: os.ErrClosed, and shm.ErrFault where somebody
// truncated the segment's file.
func (c *Consumer) Resync() (skipped uint64, err error) {
	if c.closed.Load() {
		return 0, os.ErrClosed
	}
	err = c.seg.Guarded(func() error {
		pos := c.pos.Load()
		to := c.nextRecord(pos)
		c.counts.resyncs++
		storeRelaxed(&c.pos, to)
		c.inner = 0
		skipped = to - pos
		if d := int64(c.hint.Load() - to); d < 0 || d > int64(c.size) {
			c.hint.Store(to)
		}
		// What was given up must not be met again a lap later, and who still
		// fills a claim there must not commit it unread.
		c.fenceOff()
		for p := pos; p != to; p++ {
			if c.load(p).age(c.tag(p)) >= 0 {
				c.entry(p).word.Store(uint64(makeHeader(skip, c.tag(p), ownerNone, 0)))
			}
		}
		c.settle()
		if c.manual {
			c.mendHead()
		}
		return nil
	})
	return skipped, err
}

// mendHead puts head back to what was released, if somebody has moved it: with
// manual release nothing else stores it.
func (c *Consumer) mendHead() {
	if h, moved := c.movedHead(); moved {
		c.head.CompareAndSwap(h, c.freed.Load()) // Release may be faster
	}
}

// movedHead returns head, and whether somebody else than the consumer stored
// it. Release stores head before freed, and here they are loaded the other way
// round: one on its way lies between freed and what was polled.
func (c *Consumer) movedHead() (h uint64, moved bool) {
	if !c.manual {
		h = c.head.Load()
		return h, h != c.released
	}
	from := c.freed.Load()
	h = c.head.Load()
	return h, h-from > c.polled.Load()-from
}

func (v *view) nextRecord(pos uint64) uint64 {
	for p := pos + 1; p-pos <= v.size; p++ {
		if w := v.load(p); w.age(v.tag(p)) == 0 && v.wrong(p, w) == "" {
			return p
		}
	}
	if h := v.hint.Load(); h-pos-1 < v.size {
		return h
	}
	return pos + v.size
}
