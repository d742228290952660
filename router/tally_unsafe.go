//go:build !race

package router

import (
	"sync/atomic"
	"unsafe"
)

// tally is a counter that one goroutine at a time writes, and any may read. sync/atomic has only stores that
// order everything before them, which on amd64 cost as much as a locked addition; this needs no order.
type tally struct{ atomic.Uint64 }

func (t *tally) add(n uint64) { *(*uint64)(unsafe.Pointer(&t.Uint64)) = t.Load() + n }
