package bench

import (
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// pinProcess keeps all threads of this process, and those to come, on one
// processor. GOMAXPROCS stays as it was on starting, since a process that knew
// itself alone on a processor would not spin; the other side has its own.
func pinProcess(cpu int) error {
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0)) // from here on the runtime does not adapt it
	set := oneCPU(cpu)
	// New threads inherit from the one that starts them: done when a round
	// finds nobody new.
	for pinned := map[int]bool{}; ; {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		fresh := false
		for _, t := range tasks {
			tid, err := strconv.Atoi(t.Name())
			if err != nil || pinned[tid] {
				continue
			}
			pinned[tid], fresh = true, true
			if err := unix.SchedSetaffinity(tid, set); err != nil && err != unix.ESRCH {
				return os.NewSyscallError("sched_setaffinity", err)
			}
		}
		if !fresh {
			return nil
		}
	}
}

// CanPin says why this process may not choose its processor, which is an error of
// the kernel's; nil if it may.
func CanPin() error {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return os.NewSyscallError("sched_getaffinity", err)
	}
	return os.NewSyscallError("sched_setaffinity", unix.SchedSetaffinity(0, &set)) // what it is already
}

func oneCPU(cpu int) *unix.CPUSet {
	var set unix.CPUSet
	set.Set(cpu)
	return &set
}

// twoCPUs returns the first two processors that this process may use; the
// second is -1 where there is only one.
func twoCPUs() (a, b int) {
	a, b = -1, -1
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return a, b
	}
	for cpu := range 1024 {
		switch {
		case !set.IsSet(cpu):
		case a < 0:
			a = cpu
		default:
			return a, cpu
		}
	}
	return a, b
}
