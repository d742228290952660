package shm

import (
	"math/rand/v2"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/quota"
)

// Now returns the kernel's monotonic clock, CLOCK_MONOTONIC, in nanoseconds. It is the same clock
// in every process of a machine (of a time namespace, strictly), and agrees between them to about a
// microsecond. It makes no system call and does not allocate.
func Now() int64 { return clock.kernel + int64(time.Since(clock.runtime)) }

// clock ties the runtime's clock, which reads the same source without a system call but counts from
// the start of the process, to the kernel's.
var clock = newClockTie()

// clockTie is one instant on both clocks.
type clockTie struct {
	runtime time.Time
	kernel  int64
}

// newClockTie reads one clock between two readings of the other, and keeps the closest of a few
// attempts: a thread may lose its processor in between.
func newClockTie() clockTie {
	var best clockTie
	width := int64(-1)
	for range 10 {
		before := monotonic()
		now := time.Now()
		after := monotonic()
		if width < 0 || after-before < width {
			width = after - before
			best = clockTie{now, before + width/2}
		}
	}
	return best
}

func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("shm: no monotonic clock: " + err.Error()) // every Linux has one
	}
	return ts.Nano()
}

// pauseStep bounds one stretch of assembly, in which a goroutine cannot be preempted: a few
// microseconds where PAUSE is slow.
const pauseStep = 32

// Pause tells the processor n times that this is a spin loop (PAUSE, YIELD): between nothing and
// about 50 ns each, by model. The goroutine keeps its processor.
func Pause(n int) {
	for ; n > pauseStep; n -= pauseStep {
		pause(pauseStep)
	}
	if n > 0 {
		pause(uint32(n))
	}
}

// Yield lets the threads that are waiting for this processor run, those of other processes too. The
// goroutine does not come back before the kernel gives the thread its turn again: in a fraction of a
// microsecond if nobody else wants the processor, and after time slices of others if somebody keeps
// it. Other goroutines of this process are not let run in place of this one; runtime.Gosched does that.
func Yield() { unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// spin caches the answer of CanSpin.
var spin atomic.Bool

func init() { spin.Store(canSpin()) }

// CanSpin reports whether waiting by spinning makes sense: whether somebody else can run meanwhile,
// on another processor. It costs a few nanoseconds. A change of GOMAXPROCS is noticed after some
// tens of calls; the kernel's limits (affinity, and quotas of control groups) are those that the
// process started with.
func CanSpin() bool {
	// One call in 64 looks again, because runtime.GOMAXPROCS takes the scheduler's lock. By chance
	// and not by a count, which would be one more line that all processors write.
	if rand.Uint32()%64 == 0 {
		if now := canSpin(); now != spin.Load() {
			spin.Store(now)
		}
	}
	return spin.Load()
}

// quotaAtStart is how many processors the control groups allowed this process when it started, +Inf
// for all. The runtime reads them as well, but GOMAXPROCS is at least 2 then, and with a quota of one
// processor who spins uses up the time of those it waits for.
var quotaAtStart = quota.Processors(os.DirFS("/"))

// canSpin looks at the processors that the kernel lets the process run on, at those that Go uses,
// and at how much of them control groups allow.
func canSpin() bool { return runtime.NumCPU() > 1 && runtime.GOMAXPROCS(0) > 1 && quotaAtStart >= 2 }
