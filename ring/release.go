//go:build !amd64 || race

package ring

import "sync/atomic"

// storeRelease stores v such that nobody sees it before the stores that came
// before it.
func storeRelease(w *atomic.Uint64, v uint64) { w.Store(v) }

// storesLate says that others may see a storeRelease after what its goroutine
// loads next was loaded. Those of sync/atomic are in one order with its loads.
const storesLate = false
