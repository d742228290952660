package ring_test

import (
	"testing"
	"unsafe"

	"github.com/shmrouter/shmrouter/ring"
)

// inData fails unless b lies in the data area of the ring.
func (s *stage) inData(t testing.TB, r *ring.Ring, b []byte) {
	t.Helper()
	end, _ := r.User()
	first := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	base := uintptr(s.seg.Base())
	from, to := base+uintptr(end-r.Capacity()), base+uintptr(end)
	if first < from || first > to || uintptr(cap(b)) > to-first {
		t.Fatalf("%d bytes at %d of the segment: its data area is %d to %d", cap(b), first-base, from-base, to-base)
	}
}
