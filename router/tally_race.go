//go:build race

package router

import "sync/atomic"

// tally is a counter that one goroutine at a time writes, and any may read: see tally_unsafe.go. For the race
// detector a plain store beside atomic loads of the same word is a race to it.
type tally struct{ atomic.Uint64 }

func (t *tally) add(n uint64) { t.Store(t.Load() + n) }
