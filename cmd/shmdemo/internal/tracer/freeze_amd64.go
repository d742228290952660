package tracer

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A frozen thread is one of the victim's others, traced too as long as it is held.
type frozen struct {
	tid    int
	signal unix.Signal // that it stopped on, to have when it is let go
}

// letOthersRun lets the frozen threads go while the main thread sleeps in a syscall. They execute the same
// code, and must not come to the breakpoints, which are meant for the main thread and would kill them: so there
// are none until that has stopped again. It does before it executes another instruction, as it runs from
// syscall to syscall.
func (v *Victim) letOthersRun() error {
	if len(v.frozen) == 0 {
		return nil
	}
	if err := v.lift(v.frozen[0].tid); err != nil {
		return err
	}
	v.thawed = true
	return v.thaw()
}

// holdOthers freezes them again, now that the main thread has stopped.
func (v *Victim) holdOthers() error {
	if !v.thawed {
		return nil
	}
	if err := v.freeze(); err != nil {
		return err
	}
	return v.lower()
}

// freeze stops the victim's other threads.
func (v *Victim) freeze() error {
	v.thawed = false
	known := map[int]bool{v.PID: true}
	for _, f := range v.frozen {
		known[f.tid] = true
	}
	// A thread that is not stopped yet may make another.
	for {
		tasks, err := os.ReadDir("/proc/" + strconv.Itoa(v.PID) + "/task")
		if err != nil {
			return fmt.Errorf("tracer: %w", err)
		}
		news := len(v.frozen)
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil || known[tid] {
				continue
			}
			known[tid] = true
			switch err := unix.PtraceSeize(tid); err {
			case nil:
				v.frozen = append(v.frozen, frozen{tid: tid})
			case unix.ESRCH, unix.EPERM: // it is ending: for no other reason may we trace one thread and not the other
			default:
				return fmt.Errorf("tracer: PTRACE_SEIZE: %w", err)
			}
		}
		if len(v.frozen) == news {
			return nil
		}
		for i := news; i < len(v.frozen); i++ {
			if err := unix.PtraceInterrupt(v.frozen[i].tid); err != nil && err != unix.ESRCH {
				return fmt.Errorf("tracer: PTRACE_INTERRUPT: %w", err)
			}
		}
		seized := v.frozen[news:]
		v.frozen = v.frozen[:news]
		for _, f := range seized {
			status, err := wait(f.tid)
			if err != nil {
				return fmt.Errorf("tracer: wait4: %w", err)
			}
			if !status.Stopped() { // it has ended, and is reaped now
				continue
			}
			const eventStop = 128 // PTRACE_EVENT_STOP
			if int(status)>>16 != eventStop {
				f.signal = status.StopSignal()
			}
			v.frozen = append(v.frozen, f)
		}
	}
}

// thaw lets the frozen threads go.
func (v *Victim) thaw() error {
	threads := v.frozen
	v.frozen = nil
	for _, f := range threads {
		switch err := unix.PtraceDetach(f.tid); err {
		case nil:
		case unix.ESRCH: // it is dying, or dead
			v.frozen = append(v.frozen, f)
			continue
		default:
			return fmt.Errorf("tracer: PTRACE_DETACH: %w", err)
		}
		if f.signal != 0 {
			if err := unix.Tgkill(v.PID, f.tid, f.signal); err != nil && err != unix.ESRCH {
				return fmt.Errorf("tracer: tgkill: %w", err)
			}
		}
	}
	return nil
}

// reapFrozen takes note of the end of the threads that were frozen when the process was killed. The
// end of the whole is not told before.
func (v *Victim) reapFrozen() error {
	threads := v.frozen
	v.frozen = nil
	for _, f := range threads {
		for {
			status, err := wait(f.tid)
			if err == unix.ECHILD || err == nil && !status.Stopped() {
				break
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// wait waits for one of the victims' threads. Its error is the plain errno.
func wait(tid int) (status unix.WaitStatus, err error) {
	for {
		if _, err = unix.Wait4(tid, &status, unix.WALL, nil); err != unix.EINTR {
			return status, err
		}
	}
}
