package ring

import (
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/shmrouter/shmrouter/shm"
)

// Attachment is a process's seat among the producers: a slot of the roster,
// held by a lock on the slot's byte of the segment's file, which the kernel
// frees when the process is gone, however it went. A process needs one per
// ring; all its producers share it. Its methods may be called from any
// goroutine, but Close only when its producers are at rest.
type Attachment struct {
	ring      *Ring
	locks     *shm.Locks
	slot      int
	instance  uint32
	closed    atomic.Bool
	producers atomic.Uint64 // made so far
	orphaned  atomic.Bool   // no consumer lived when that was last asked

	mu      sync.Mutex
	all     []*Producer
	dropped uint64 // claims that the program forgot
	left    bool   // the slot is free, the mapping perhaps gone
}

// Attach takes a free slot, and cleans up what its last holder left behind.
// Errors: ErrRosterFull, *CorruptError where the walk for that meets damage,
// shm.ErrNoLocks where the file's locks cannot be reached, and the kernel's.
func (r *Ring) Attach() (*Attachment, error) {
	if r.closed.Load() {
		return nil, os.ErrClosed
	}
	locks, err := r.seg.OpenLocks()
	if err != nil {
		return nil, err
	}
	for slot := range MaxSlots {
		ok, err := locks.TryLock(int64(slot))
		if err != nil {
			locks.Close()
			return nil, err
		}
		if ok {
			return r.join(locks, slot)
		}
	}
	locks.Close()
	return nil, ErrRosterFull
}

// join makes the slot usable. From the lock on, the consumer sees this slot
// alive, also where its dead holder's claims stand in the ring: the sweep has
// to come before anything else.
func (r *Ring) join(locks *shm.Locks, slot int) (*Attachment, error) {
	if err := r.seg.Retain(); err != nil {
		return nil, errors.Join(err, locks.Close())
	}
	a := &Attachment{ring: r, locks: locks, slot: slot}
	if storesLate {
		shm.JoinBarriers()
	}
	err := r.seg.Guarded(func() error {
		// The name comes before the sweep: a claim of the slot that is in the
		// way meanwhile is this process's doing, should it be stopped here. And
		// no instance is ever seen with the pid of another one.
		a.slotHalf(slotPID).Store(0)
		a.instance = a.slotHalf(slotInstance).Add(1)
		start, _ := shm.OwnStart() // 0 without /proc, or a descriptor to read it
		a.slotWord(slotStart).Store(start)
		a.slotWord(slotPIDNS).Store(shm.PIDNamespace())
		a.slotHalf(slotPID).Store(uint32(os.Getpid()))
		dead, err := a.sweep()
		if err != nil {
			return err
		}
		a.slotWord(slotSwept).Add(dead)
		a.slotWord(slotJoined).Store(uint64(shm.Now()))
		for _, off := range []int64{slotRecords, slotBytes, slotDropped} {
			a.slotWord(off).Store(0)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, locks.Close(), r.seg.Close())
	}
	return a, nil
}

// sweep skips every open claim of the slot, from head to the first granule
// that is not claimed: those of a dead predecessor on joining, one's own on
// leaving. Claims are contiguous, so none lies behind a free granule, and
// nobody else makes claims in this slot's name.
func (a *Attachment) sweep() (skipped uint64, err error) {
	v := &a.ring.view
	pos := v.head.Load()
	for range v.patience() {
		w := v.load(pos)
		switch age := w.age(v.tag(pos)); {
		case age < 0:
			a.dropTurn()
			v.ringFor(pos, nil)
			return skipped, nil
		case age > 0 || !v.valid(pos, w.granules()): // released meanwhile, or scrubbed
			h := v.head.Load()
			if int64(h-pos) <= 0 {
				return skipped, corrupt(pos, w, "newer lap, or record does not fit its lap")
			}
			pos = h
		case w.is(busy) && w.owner() == a.slot:
			v.fenceOff()
			if !v.cas(pos, w, w.with(skip)) {
				continue // the consumer was faster
			}
			skipped++
			pos += w.granules()
		default:
			pos += w.granules()
		}
	}
	return skipped, corrupt(pos, v.load(pos), "no end of the claimed records")
}

// dropTurn gives back a turn held in the slot's name.
func (a *Attachment) dropTurn() {
	t := a.ring.turn.Load()
	if t&0xff == uint64(a.slot+1) {
		a.ring.turn.CompareAndSwap(t, 0)
	}
}

// buryTurn takes the turn from a holder that is dead.
func (a *Attachment) buryTurn() error {
	t := a.ring.turn.Load()
	if t == 0 || t&0xff == uint64(a.slot+1) {
		return nil
	}
	var held bool
	var err error
	if t&0xff != 0 { // otherwise garbage
		held, err = a.locks.Held(int64(t&0xff) - 1)
	}
	if err == nil && !held {
		a.ring.turn.CompareAndSwap(t, 0)
	}
	return err
}

// Slot is the seat's number, 0 to MaxSlots-1. Frames carry it.
func (a *Attachment) Slot() int { return a.slot }

// Instance counts the holders of this slot; a later holder has another one.
func (a *Attachment) Instance() uint32 { return a.instance }

// Ring returns the ring that this is an attachment to.
func (a *Attachment) Ring() *Ring { return a.ring }

// ConsumerAlive asks the kernel whether a process holds the consumer's seat.
// Where it is news that none does, everybody who waits for room is woken to ask
// as well: who learns of a death by other means, calls this. Errors:
// os.ErrClosed, and the kernel's.
func (a *Attachment) ConsumerAlive() (bool, error) {
	alive, err := a.locks.Held(lockConsumer)
	if err != nil {
		return false, err
	}
	if known := a.orphaned.Swap(!alive); !alive && !known {
		a.rouse()
	}
	return alive, nil
}

func (a *Attachment) rouse() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.left {
		return // the mapping may be gone
	}
	a.ring.seg.Guarded(func() error {
		a.ring.rouse()
		return nil
	})
}

// forget drops a producer that was closed, unless claims of it are open.
func (a *Attachment) forget(p *Producer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.open.Load() == 0 {
		p.lease = nil
		a.all = slices.DeleteFunc(a.all, func(q *Producer) bool { return q == p })
	}
}

func (a *Attachment) register(p *Producer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, p)
}

// Close leaves the ring: it publishes the slot's figures and frees the slot.
// What was committed stays in the ring and will be delivered. Afterwards the
// producers' methods return os.ErrClosed. Claims that are still open stay
// their holders' until they end them: a Commit then aborts and returns
// os.ErrClosed, and the last one to end frees the slot. To take the space away
// while somebody may still write to it could tear another process's message.
// A second Close returns os.ErrClosed.
func (a *Attachment) Close() error {
	if a.closed.Swap(true) {
		return os.ErrClosed
	}
	a.rouse() // who waits leaves
	return a.lastOut()
}

// lastOut frees the slot once no claim is open.
func (a *Attachment) lastOut() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.leaveIfDone()
}

func (a *Attachment) leaveIfDone() error {
	if !a.closed.Load() || a.left {
		return nil
	}
	var open uint64
	for _, p := range a.all {
		open += p.open.Load()
	}
	if open != a.dropped {
		return nil
	}
	a.left = true
	err := a.ring.seg.Guarded(func() error {
		for _, p := range a.all {
			p.publish()
			p.lease = nil
		}
		a.slotHalf(slotPID).Store(0)
		_, err := a.sweep()
		return err
	})
	return errors.Join(err, a.locks.Close(), a.ring.seg.Close())
}

func (a *Attachment) slotWord(off int64) *atomic.Uint64 {
	return a.ring.seg.Word64(rosterAt(a.slot) + off)
}

func (a *Attachment) slotHalf(off int64) *atomic.Uint32 {
	return a.ring.seg.Word32(rosterAt(a.slot) + off)
}

func rosterAt(slot int) int64 { return offRoster + int64(slot)*slotSize }
