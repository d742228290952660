package ring

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/bits"
	"os"
	"sync/atomic"
	"time"

	"github.com/shmrouter/shmrouter/shm"
)

// Options describe a segment to be made.
type Options struct {
	// Capacity is the size of the data area in bytes: a power of two from
	// MinCapacity to MaxCapacity. 0 means DefaultCapacity. The header table
	// takes a quarter of it on top.
	Capacity int64
	// UserSize is the size in bytes of an area at the segment's end that the
	// ring leaves to the application, zeroed. It is rounded up to pages.
	UserSize int64
	// HugePages has New take huge pages if the system has some to give
	// (shm.NewHugeMemfd says when), or else do without. It is for rings of many
	// megabytes: see docs/decisions/0008-sizes-and-huge-pages.md. Rings in files
	// and on the heap take no notice.
	HugePages bool
}

// Ring is a segment that was formatted or found to be well-formed. Its methods
// may be called from any goroutine.
type Ring struct {
	view
	geometry
	closed atomic.Bool
}

// geometry is what the superblock says, checked.
type geometry struct {
	capacity           int64
	dataOff, userOff   int64
	userSize, fileSize int64
	identity           [16]byte
	created            int64 // nanoseconds since 1970
}

func plan(o Options) (geometry, error) {
	g := geometry{capacity: o.Capacity}
	if g.capacity == 0 {
		g.capacity = DefaultCapacity
	}
	switch {
	case g.capacity < MinCapacity:
		return g, fmt.Errorf("%w: %d bytes", ErrCapacityTooSmall, g.capacity)
	case g.capacity > MaxCapacity:
		return g, fmt.Errorf("%w: %d bytes", ErrCapacityTooLarge, g.capacity)
	case bits.OnesCount64(uint64(g.capacity)) != 1:
		return g, fmt.Errorf("%w: %d bytes", ErrCapacityNotPower, g.capacity)
	case o.UserSize < 0 || o.UserSize > 1<<40:
		return g, fmt.Errorf("%w: %d bytes", ErrUserSize, o.UserSize)
	}
	g.place(o.UserSize)
	return g, nil
}

// place computes the offsets that follow from capacity and user size.
func (g *geometry) place(userSize int64) {
	g.dataOff = tableAt + g.capacity/Granule*entrySize
	g.userOff = g.dataOff + g.capacity
	g.userSize = (userSize + pageSize - 1) &^ (pageSize - 1)
	g.fileSize = g.userOff + g.userSize
}

// SegmentSize tells how large a segment these options need, in bytes, and how
// much of it must be backed by memory from the start (all but the user area).
// The total is a multiple of this system's page, which may be more than the
// 4096 bytes that the layout goes by. Its errors are those of Format.
func SegmentSize(o Options) (total, reserve int64, err error) {
	g, err := plan(o)
	page := int64(os.Getpagesize())
	return (g.fileSize + page - 1) &^ (page - 1), g.userOff, err
}

// Format makes a ring of a zeroed segment of the size that SegmentSize told,
// of which nobody else knows yet. The magic is written last. The Ring holds a
// reference to the segment until it is closed; the caller keeps its own.
// Errors: those about Options (ErrCapacity…, ErrUserSize), ErrTruncated.
func Format(seg *shm.Segment, o Options) (*Ring, error) {
	g, err := plan(o)
	if err != nil {
		return nil, err
	}
	if seg.Size() < g.fileSize {
		return nil, fmt.Errorf("%w: %d bytes, need %d", ErrTruncated, seg.Size(), g.fileSize)
	}
	if _, err := rand.Read(g.identity[:]); err != nil {
		return nil, err
	}
	g.created = time.Now().UnixNano()
	err = seg.Guarded(func() error {
		b := seg.Bytes()[:pageSize]
		order := binary.NativeEndian
		order.PutUint32(b[offOrder:], orderMark)
		order.PutUint32(b[offVersion:], Version)
		order.PutUint64(b[offSegmentSize:], uint64(g.fileSize))
		order.PutUint64(b[offCapacity:], uint64(g.capacity))
		order.PutUint64(b[offTable:], tableAt)
		order.PutUint64(b[offData:], uint64(g.dataOff))
		order.PutUint64(b[offUser:], uint64(g.userOff))
		order.PutUint64(b[offUserSize:], uint64(g.userSize))
		copy(b[offIdentity:], g.identity[:])
		order.PutUint64(b[offCreated:], uint64(g.created))
		order.PutUint32(b[offGranule:], Granule)
		order.PutUint32(b[offSlots:], MaxSlots)
		order.PutUint64(b[offChecksum:], checksum(b))
		// An opener trusts nothing before it has seen the magic: this store
		// pairs with the load in Open.
		seg.Word64(offMagic).Store(order.Uint64(magic[:]))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return newRing(seg, g), nil
}

// Open checks a segment that somebody formatted and makes a Ring of it. The
// Ring holds a reference to the segment until it is closed; the caller keeps
// its own. Errors: ErrTruncated, ErrUnfinished, ErrNotSegment, ErrByteOrder,
// ErrVersion, ErrGeometry, and shm.ErrFault where the file shrank meanwhile.
func Open(seg *shm.Segment) (*Ring, error) {
	if seg.Size() < tableAt {
		return nil, fmt.Errorf("%w: %d bytes", ErrTruncated, seg.Size())
	}
	var g geometry
	err := seg.Guarded(func() error {
		order := binary.NativeEndian
		m := seg.Word64(offMagic).Load()
		b := make([]byte, offChecksum+8)
		copy(b, seg.Bytes()) // one copy, so that what is checked is what is used
		switch {
		case m == 0:
			return ErrUnfinished
		case m != order.Uint64(magic[:]):
			return fmt.Errorf("%w: it begins with %#x", ErrNotSegment, m)
		}
		if mark := order.Uint32(b[offOrder:]); mark == bits.ReverseBytes32(orderMark) {
			return fmt.Errorf("%w: mark %#08x, this host writes %#08x", ErrByteOrder, mark, uint32(orderMark))
		} else if mark != orderMark {
			return fmt.Errorf("%w: byte order mark %#08x", ErrGeometry, mark)
		}
		if v := order.Uint32(b[offVersion:]); v != Version {
			return fmt.Errorf("%w: segment %d, this package %d", ErrVersion, v, Version)
		}
		if sum := order.Uint64(b[offChecksum:]); sum != checksum(b) {
			return fmt.Errorf("%w: checksum %#x, computed %#x", ErrGeometry, sum, checksum(b))
		}
		o := Options{Capacity: int64(order.Uint64(b[offCapacity:])), UserSize: int64(order.Uint64(b[offUserSize:]))}
		var err error
		if g, err = plan(o); err != nil || o.Capacity == 0 {
			return fmt.Errorf("%w: capacity %d, user area %d", ErrGeometry, o.Capacity, o.UserSize)
		}
		if order.Uint64(b[offTable:]) != tableAt ||
			order.Uint64(b[offData:]) != uint64(g.dataOff) ||
			order.Uint64(b[offUser:]) != uint64(g.userOff) ||
			order.Uint64(b[offUserSize:]) != uint64(g.userSize) ||
			order.Uint64(b[offSegmentSize:]) != uint64(g.fileSize) ||
			order.Uint32(b[offGranule:]) != Granule ||
			order.Uint32(b[offSlots:]) != MaxSlots {
			return fmt.Errorf("%w: offsets do not follow from the capacity %d", ErrGeometry, g.capacity)
		}
		if seg.Size() < g.fileSize {
			return fmt.Errorf("%w: %d bytes of %d", ErrTruncated, seg.Size(), g.fileSize)
		}
		copy(g.identity[:], b[offIdentity:])
		g.created = int64(order.Uint64(b[offCreated:]))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return newRing(seg, g), nil
}

func newRing(seg *shm.Segment, g geometry) *Ring {
	seg.Retain()
	return &Ring{view: newView(seg, g.capacity, g.dataOff), geometry: g}
}

// The fixed fields, as Open checks them:
//
//	magic         the bytes "SHMRING1"
//	order         0x01020304
//	version       1
//	capacity      a power of two, 65536 to 1073741824
//	table offset  45056
//	data offset   table offset + 16 for each granule
//	user offset   data offset + capacity
//	user size     a multiple of 4096, 1 TiB at most
//	segment size  user offset + user size; the file is no shorter
//	granule       64
//	slots         255
//	checksum      FNV-1a (64 bits) of bytes 8 to 95

// checksum covers the fixed fields, from the byte order mark to the number of
// slots.
func checksum(superblock []byte) uint64 {
	h := fnv.New64a()
	h.Write(superblock[offOrder:offChecksum])
	return h.Sum64()
}

// Segment returns the memory below the ring. The Ring owns its reference; the
// caller must not close it.
func (r *Ring) Segment() *shm.Segment { return r.seg }

// Capacity is the size of the data area in bytes.
func (r *Ring) Capacity() int64 { return r.capacity }

// MaxFrame is the largest message in bytes: an eighth of the capacity, and
// 16 MiB at most.
func (r *Ring) MaxFrame() int { return int(r.limit * Granule) }

// Identity is the random number that the segment got when it was formatted.
func (r *Ring) Identity() [16]byte { return r.identity }

// Created is when the segment was formatted, by its creator's clock.
func (r *Ring) Created() time.Time { return time.Unix(0, r.created) }

// User returns offset and size in bytes of the application's area.
func (r *Ring) User() (off, size int64) { return r.userOff, r.userSize }

// access runs f on the segment, which stays mapped meanwhile. Errors besides
// those of f: os.ErrClosed, shm.ErrFault.
func (r *Ring) access(f func() error) error {
	if r.closed.Load() {
		return os.ErrClosed
	}
	if err := r.seg.Retain(); err != nil {
		return err
	}
	defer r.seg.Close()
	return r.seg.Guarded(f)
}

// Close gives the reference to the segment back. Attachments and consumers
// made from the Ring have their own. A second Close returns nil, and an error is
// that of unmapping the memory.
func (r *Ring) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	return r.seg.Close()
}
