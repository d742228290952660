//go:build !race

package ring

import (
	"sync/atomic"
	"unsafe"
)

// storeRelaxed writes a word without ordering it: for the hint, whose readers
// accept any older value, and for info words, which are published by their
// record's commit. sync/atomic has sequentially consistent stores
// only, and on amd64 such a store is a locked exchange, as dear as the claim.
func storeRelaxed(w *atomic.Uint64, v uint64) { *(*uint64)(unsafe.Pointer(w)) = v }

func raceRelease(unsafe.Pointer) {}
func raceAcquire(unsafe.Pointer) {}
