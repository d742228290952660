package stress

import (
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/shm"
)

// A witness watches from outside what becomes of a killed worker: when the kernel frees
// its lock, and when the claim that it left is skipped, whoever does that. It looks
// every lookEvery, so a moment is known by two looks, the last before it and the first after it.
// A time between two moments is reckoned from the last look before the earlier one to the
// first look after the later one: it is never too short. Nothing is subtracted.
//
// The promise about dead claims is for a consumer that stands in front of one. So a
// recovery begins when the lock is free, or when the consumer has come to the claim,
// or, if it sleeps there and nothing is behind the claim, so that nobody waits, when
// something is: whichever is last. The whole time since the lock was free is told beside it.
type witness struct {
	seg   *segment
	meter *meter
	cases chan *sighting
	quit  chan struct{}
	done  sync.WaitGroup
}

// lookEvery is how long the witness pauses between looks. It takes longer to be woken, too.
const lookEvery = 20 * time.Microsecond

// sightMost is for how long a claim is watched; a stop may be in front of it.
const sightMost = int64(5 * time.Second)

// sighting is what was seen of one killed worker. Its times are those of shm.Now.
type sighting struct {
	m        *member
	slot     int
	instance uint32

	killed    int64
	heldLast  int64  // last look at which the lock was held
	free      int64  // first look at which it was not
	found     bool   // a claim, in front of which there may be others
	pos, word uint64 // of the claim
	ready     int64  // last look at which the consumer had no reason to deal with it
	skipped   int64  // first look at which it was
	looked    int64
}

func newWitness(h mainSide, m *meter) (*witness, error) {
	f, err := h.segment()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	seg, err := openSegment(f)
	if err != nil {
		return nil, err
	}
	w := &witness{seg: seg, meter: m, cases: make(chan *sighting, 64), quit: make(chan struct{})}
	w.done.Go(w.watch)
	return w, nil
}

// close waits for cases that are under way.
func (w *witness) close() {
	if w == nil {
		return
	}
	close(w.quit)
	w.done.Wait()
	w.seg.close()
}

// open begins a case; m is about to be killed. nil where it has not attached.
func (w *witness) open(m *member) *sighting {
	if w == nil {
		return nil
	}
	slot := w.seg.slotOf(m.worker.PID())
	if slot < 0 {
		return nil
	}
	now := shm.Now()
	return &sighting{m: m, slot: slot, instance: w.seg.instance(slot), killed: now, heldLast: now}
}

// follow watches c, whose worker has just been killed.
func (w *witness) follow(c *sighting) {
	if c == nil {
		return
	}
	c.find(w.seg)
	select {
	case w.cases <- c:
	default: // so far behind, the times would be worth nothing
	}
}

// watch looks at all open cases, until it is told to quit and has none left.
func (w *witness) watch() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // or a pause takes 50 µs more
	defer unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0)
	var open []*sighting
	for {
		if len(open) == 0 {
			select {
			case c := <-w.cases:
				open = append(open, c)
			case <-w.quit:
				return
			}
		}
		for more := true; more; {
			select {
			case c := <-w.cases:
				open = append(open, c)
			default:
				more = false
			}
		}
		rest := open[:0]
		for _, c := range open {
			if w.look(c) {
				rest = append(rest, c)
			}
		}
		clear(open[len(rest):])
		open = rest
		pause := unix.NsecToTimespec(int64(lookEvery))
		unix.Nanosleep(&pause, nil)
	}
}

// look reports whether there is more to see.
func (w *witness) look(c *sighting) (more bool) {
	before := shm.Now()
	if c.found && c.skipped == 0 {
		switch now := w.seg.word(c.pos); {
		case now == c.word:
			if w.seg.unlooked(c.pos, c.word) {
				c.ready = before
			}
		case stateOf(now) == stateCommit && w.seg.current(now, c.pos):
			c.found = false // the last thing that it did
		default:
			c.skipped = shm.Now()
		}
	}
	if c.free == 0 {
		held, err := w.seg.heldBy(c.slot, c.instance)
		switch {
		case err != nil:
			return false
		case held:
			c.heldLast = before
			if c.skipped != 0 {
				c.found, c.skipped = false, 0 // aborted, by its own hand
			} else if !c.found {
				c.find(w.seg)
			}
		default:
			c.free = shm.Now()
		}
	}
	c.looked = before
	if before-c.killed > sightMost {
		w.meter.unseen()
		return false
	}
	if c.free == 0 || c.found && c.skipped == 0 {
		return true
	}
	w.meter.saw(c)
	return false
}

func (c *sighting) find(seg *segment) { c.pos, c.word, c.found = seg.claimOf(c.slot) }
