package bench

import (
	_ "unsafe" // for go:linkname
)

// now is the kernel's CLOCK_MONOTONIC in nanoseconds, the same in every process,
// without a system call. shm.Now is the same clock, but each process ties it to
// the runtime's once, and that may be off by as much as a message takes.
//
//go:linkname now runtime.nanotime
func now() int64
