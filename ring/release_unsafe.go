//go:build amd64 && !race

package ring

import (
	"sync/atomic"
	"unsafe"
)

// storeRelease stores v such that nobody sees it before the stores that came
// before it. On amd64 any store is such, while sync/atomic's is a locked
// exchange that waits for the processor's store buffer. The compiler must not
// move it either: it stands in a function of its own that is not inlined.
func storeRelease(w *atomic.Uint64, v uint64) { *(*uint64)(unsafe.Pointer(w)) = v }

// storesLate says that others may see a storeRelease after what its goroutine
// loads next was loaded.
const storesLate = true
