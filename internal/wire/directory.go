package wire

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"

	"github.com/shmrouter/shmrouter/shm"
)

var (
	// ErrNoDirectory says that the segment has no directory of this version: no router ever used it, or one
	// of another version did.
	ErrNoDirectory = errors.New("wire: segment has no directory of this version")

	// ErrDamaged says that the directory contradicts itself or the size of its area.
	ErrDamaged = errors.New("wire: directory is damaged")

	// ErrSpent says that a segment has no connection id left, after 2^40-1 of them.
	ErrSpent = errors.New("wire: all connection ids are used up")
)

// State is what a router says about itself. A router that died says Running for ever.
type State uint32

const (
	None    State = 0 // not started yet
	Running State = 1
	Stopped State = 2 // by Stop, for good: a new start makes a new epoch
)

// String returns the state in lower case.
func (s State) String() string {
	switch s {
	case None:
		return "none"
	case Running:
		return "running"
	case Stopped:
		return "stopped"
	}
	return fmt.Sprintf("State(%d)", uint32(s))
}

// Config is what a router decides when it makes a directory.
type Config struct {
	Entries    int    // a power of two up to MaxPipes, see UserSize
	MaxMessage uint64 // bytes of the largest message that the router puts together; 0: no limit
	Resume     bool   // another router may go on where this one died
}

// Directory is the application area of a segment. All methods may be called concurrently, and only while the
// caller keeps the segment mapped. On a segment whose file somebody may truncate, calls belong inside
// shm.Segment.Guarded.
type Directory struct {
	seg     *shm.Segment
	off     int64
	entries int

	// fixed once the magic is written, copied when the directory was opened
	maxMessage uint64
	resume     bool

	epoch  *atomic.Uint64
	state  *atomic.Uint32
	notice *atomic.Uint32
	life   *atomic.Uint64
	nextID *atomic.Uint64
	ends   *atomic.Uint32
}

// Create makes a directory in the area of size bytes at off of a fresh segment, with a random epoch and the
// state None.
func Create(seg *shm.Segment, off, size int64, c Config) (*Directory, error) {
	if !fits(c.Entries, size) {
		return nil, fmt.Errorf("wire: no directory of %d entries in %d bytes", c.Entries, size)
	}
	d := newDirectory(seg, off, c.Entries)
	d.maxMessage, d.resume = c.MaxMessage, c.Resume
	return d, seg.Guarded(func() error {
		d.epoch.Store(randomEpoch())
		d.state.Store(uint32(None))
		d.nextID.Store(1)
		seg.Word64(off + offMaxMessage).Store(c.MaxMessage)
		seg.Word32(off + offEntries).Store(uint32(c.Entries))
		if c.Resume {
			seg.Word32(off + offResume).Store(1)
		}
		seg.Word64(off + offMagic).Store(magic) // pairs with the load in Open
		return nil
	})
}

// Open finds the directory that Create made in the area of size bytes at off. The error is ErrNoDirectory or
// ErrDamaged, or shm.ErrFault.
func Open(seg *shm.Segment, off, size int64) (d *Directory, err error) {
	if size < offTable+entrySize {
		return nil, fmt.Errorf("%w: its area has %d bytes", ErrNoDirectory, size)
	}
	err = seg.Guarded(func() error {
		if m := seg.Word64(off + offMagic).Load(); m != magic {
			return fmt.Errorf("%w: it begins with %#x instead of %#x", ErrNoDirectory, m, uint64(magic))
		}
		entries := int(seg.Word32(off + offEntries).Load())
		if !fits(entries, size) {
			return fmt.Errorf("%w: %d entries in %d bytes", ErrDamaged, entries, size)
		}
		d = newDirectory(seg, off, entries)
		d.maxMessage = seg.Word64(off + offMaxMessage).Load()
		d.resume = seg.Word32(off+offResume).Load() != 0
		if d.epoch.Load() == 0 {
			return fmt.Errorf("%w: its epoch is 0", ErrDamaged)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// LooksLikeDirectory tells of an area that Open finds no directory in whether it is laid out as one all the same, and
// begins neither with zeros, as one that is being made, nor as a directory of another version. The caller guards it.
func LooksLikeDirectory(seg *shm.Segment, off, size int64) bool {
	if size < offTable+entrySize {
		return false
	}
	if m := seg.Word64(off + offMagic).Load(); m == 0 || m>>16 == magic>>16 {
		return false
	}
	d := newDirectory(seg, off, int(seg.Word32(off+offEntries).Load()))
	return fits(d.entries, size) && d.epoch.Load() != 0 && d.State() <= Stopped && d.NextID() != 0
}

func fits(entries int, size int64) bool {
	return entries >= 1 && entries <= MaxPipes && bits.OnesCount(uint(entries)) == 1 && offTable+int64(entries)*entrySize <= size
}

func newDirectory(seg *shm.Segment, off int64, entries int) *Directory {
	return &Directory{
		seg: seg, off: off, entries: entries,
		epoch:  seg.Word64(off + offEpoch),
		state:  seg.Word32(off + offState),
		notice: seg.Word32(off + offNotice),
		life:   seg.Word64(off + offLife),
		nextID: seg.Word64(off + offNextID),
		ends:   seg.Word32(off + offEnds),
	}
}

func randomEpoch() uint64 {
	for {
		var b [8]byte
		rand.Read(b[:]) // never fails, says its documentation
		if e := binary.NativeEndian.Uint64(b[:]); e != 0 {
			return e
		}
	}
}

// Len returns the number of entries, a power of two.
func (d *Directory) Len() int { return d.entries }

// Epoch returns the random number of this start of the router, never 0.
func (d *Directory) Epoch() uint64 { return d.epoch.Load() }

// MaxMessage returns the size in bytes of the largest message; 0 is no limit.
func (d *Directory) MaxMessage() uint64 { return d.maxMessage }

// Resume reports whether another router may go on here, in which case every message is one frame.
func (d *Directory) Resume() bool { return d.resume }

// State returns what the router says about itself.
func (d *Directory) State() State { return State(d.state.Load()) }

// SetState is the router's. It wakes nobody: see Notify.
func (d *Directory) SetState(s State) { d.state.Store(uint32(s)) }

// Serves reports whether the router of this epoch has started and has not stopped. Two loads, for every send.
func (d *Directory) Serves(epoch uint64) bool {
	return State(d.state.Load()) == Running && d.epoch.Load() == epoch
}

// Life returns how many times a router has resumed here.
func (d *Directory) Life() uint64 { return d.life.Load() }

// RaiseLife is for a router that resumes; it returns the new number.
func (d *Directory) RaiseLife() uint64 { return d.life.Add(1) }

// TakeID is the router's, and returns a connection id that was never used in this segment, from 1 on. The
// error is ErrSpent.
func (d *Directory) TakeID() (uint64, error) {
	id := d.nextID.Add(1) - 1
	if id == 0 || id > MaxID { // 0: somebody else wrote here
		d.nextID.Store(MaxID + 1)
		return 0, ErrSpent
	}
	return id, nil
}

// NextID returns the id that TakeID would return.
func (d *Directory) NextID() uint64 { return d.nextID.Load() }

// Offset returns where an entry below Len begins, in bytes from the segment's beginning.
func (d *Directory) Offset(index uint32) int64 { return d.at(index, 0) }
