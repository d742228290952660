//go:build amd64 && !race

package ring

import (
	"sync/atomic"
	"unsafe"
)

// storeRelease stores v such that nobody sees it before the stores that came
// before it. On amd64 any store is such, while sync/atomic's is a locked
// exchange that waits for the processor's store buffer. The compiler emits
// stores of a function in the order of the source; TestCommitIsAStore looks at
// what it made of send and commit.
func storeRelease(w *atomic.Uint64, v uint64) { *(*uint64)(unsafe.Pointer(w)) = v }

// storesLate says that others may see a storeRelease after what its goroutine
// loads next was loaded.
const storesLate = true
