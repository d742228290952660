package shm

import (
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The operations are the shared ones: without FUTEX_PRIVATE_FLAG the kernel knows a word by its
// file and offset, so that any process that maps it, at whatever address, meets the others there.
const (
	futexWake       = 1
	futexWaitBitset = 9
	matchAny        = 0xffffffff
)

// errFutexFault is made beforehand, as FutexWait does not allocate.
var errFutexFault = fmt.Errorf("shm: futex wait: %w", ErrFault)

// FutexWait sleeps while *w is seen, until FutexWake on the same word, or the deadline: nanoseconds
// of Now, 0 for none. The kernel compares *w with seen after it has queued the caller, so a wake
// between the caller's look and its sleep is not lost. A signal does not end it, and the runtime
// sends those, but costs it its place in the queue.
//
// A nil error means nothing but "look again": woken, or the value was another. ErrDeadline says that
// the deadline has passed; the value may have changed since, without a wake. ErrFault says that the
// word's memory is gone.
//
// It takes up one thread while it sleeps, but lets other goroutines run, and does not allocate.
func FutexWait(w *atomic.Uint32, seen uint32, deadline int64) error {
	for {
		var errno unix.Errno
		if deadline == 0 {
			_, _, errno = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(w)), futexWaitBitset, uintptr(seen), 0, 0, matchAny)
		} else {
			until := unix.NsecToTimespec(max(deadline, 1)) // the kernel takes no negative time
			_, _, errno = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(w)), futexWaitBitset, uintptr(seen),
				uintptr(unsafe.Pointer(&until)), 0, matchAny)
		}
		switch errno {
		case unix.EINTR:
			continue
		case 0, unix.EAGAIN:
			return nil
		case unix.ETIMEDOUT:
			return ErrDeadline
		case unix.EFAULT:
			return errFutexFault
		}
		return os.NewSyscallError("futex", errno)
	}
}

// FutexWake wakes at most n of those who wait on w, and returns how many, 0 also if w's memory is
// gone. It never sleeps, which is why it may do without telling the scheduler, and does not
// allocate.
func FutexWake(w *atomic.Uint32, n int) int {
	if n <= 0 {
		return 0 // the kernel would wake one
	}
	woken, _, errno := unix.RawSyscall(unix.SYS_FUTEX, uintptr(unsafe.Pointer(w)), futexWake, uintptr(min(n, math.MaxInt32)))
	if errno != 0 {
		return 0
	}
	return int(woken)
}
