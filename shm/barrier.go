package shm

import (
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A barrier makes every other process that has joined pass a full memory barrier, so that who acts
// often can do without one and who acts rarely pays for both: membarrier(2), global expedited. Where
// a registered process is running it costs an interrupt of its processor, otherwise a system call.
const (
	barrierQuery    = 0
	barrierGlobal   = 1 << 1
	barrierRegister = 1 << 2
)

var (
	joined  atomic.Bool
	joining = sync.OnceValue(func() <-chan struct{} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			joined.Store(membarrier(barrierRegister) == nil)
		}()
		return done
	})
)

// JoinBarriers registers this process with the kernel, so that the [Barrier] of any process reaches
// its threads. That takes the kernel some milliseconds, once; the channel is closed when it has
// answered, and [BarriersJoined] says what: no, where it has no such call or a filter forbids it.
func JoinBarriers() <-chan struct{} { return joining() }

// BarriersJoined reports whether every [Barrier] from now on, by whatever process, reaches this one.
func BarriersJoined() bool { return joined.Load() }

// Barrier returns when every thread that was running in a process that has joined has passed a full
// memory barrier since the call; a thread that was not running passes one before it runs again. The
// caller passes one too. The error is the kernel's, where it has no such call or a filter forbids it
// (CanBarrier). It does not allocate.
func Barrier() error { return membarrier(barrierGlobal) }

// CanBarrier reports whether Barrier works in this process.
func CanBarrier() bool { return canBarrier() }

var canBarrier = sync.OnceValue(func() bool {
	able, _, errno := unix.RawSyscall(unix.SYS_MEMBARRIER, barrierQuery, 0, 0)
	return errno == 0 && able&barrierGlobal != 0 && able&barrierRegister != 0
})

func membarrier(command uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, command, 0, 0); errno != 0 {
		return os.NewSyscallError("membarrier", errno)
	}
	return nil
}
