//go:build race

package ring

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

// Under the race detector relaxed stores are atomic ones, since a plain store
// beside atomic loads of the same word is a race to it, and hand-overs are
// announced on a heap address: the detector ignores mapped memory, and would
// take what a message publishes for unsynchronised. Everything else is the
// same code as without it.
func storeRelaxed(w *atomic.Uint64, v uint64) { w.Store(v) }

func raceRelease(token unsafe.Pointer) { runtime.RaceReleaseMerge(token) }
func raceAcquire(token unsafe.Pointer) { runtime.RaceAcquire(token) }
