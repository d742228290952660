package shm

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"
)

// Base returns the address of the first byte, which lies on a page. It panics if the segment is
// closed.
func (s *Segment) Base() unsafe.Pointer {
	s.mustBeOpen()
	return unsafe.Pointer(unsafe.SliceData(s.mem))
}

// address is Base as a number, also of a closed segment.
func (s *Segment) address() uintptr { return addressOf(s.mem) }

func addressOf(mem []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(mem))) }

// Word64 returns the 64-bit word at byte offset off, valid as long as the segment is mapped.
// Offsets come from a layout, never from shared memory: one that is not a multiple of 8 or outside
// the segment panics.
func (s *Segment) Word64(off int64) *atomic.Uint64 {
	return (*atomic.Uint64)(s.word(off, 8))
}

// Word32 returns the 32-bit word at byte offset off, a multiple of 4, under the same rules as
// Word64.
func (s *Segment) Word32(off int64) *atomic.Uint32 {
	return (*atomic.Uint32)(s.word(off, 4))
}

func (s *Segment) word(off, size int64) unsafe.Pointer {
	s.mustBeOpen()
	if off < 0 || off > s.Size()-size || off%size != 0 {
		panic(fmt.Sprintf("shm: no %d-bit word at offset %d of a segment of %d bytes", 8*size, off, s.Size()))
	}
	return unsafe.Pointer(&s.mem[off])
}

// lowHalf is the byte offset of the low 32 bits in a 64-bit word, by this machine's byte order.
var lowHalf = func() uintptr {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return 0
	}
	return 4
}()

// Word32Low returns the half of w that holds its low 32 bits, for waiting on a 64-bit word with
// FutexWait.
func Word32Low(w *atomic.Uint64) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Add(unsafe.Pointer(w), lowHalf))
}

// alignedHeap returns n bytes of zeroed heap memory that start on a page.
func alignedHeap(n int) []byte {
	page := os.Getpagesize()
	mem := make([]byte, n+page-1)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))) & (page - 1)
	return mem[skip : skip+n : skip+n]
}

// RaceToken returns an address on the heap that is the same for all segments of one Identity in
// this process, as long as one of them is open. The race detector does not see what mapped memory
// orders; under -race, give this to runtime.RaceReleaseMerge before a publishing store and to
// runtime.RaceAcquire after the load that saw it.
func (s *Segment) RaceToken() unsafe.Pointer { return unsafe.Pointer(&s.token.target) }
