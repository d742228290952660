package tracer

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ToBegin lets the victim run to its next Begin.
func (v *Victim) ToBegin() error {
	if v.err != nil {
		return v.err
	}
	if v.begun = false; len(v.frozen) > 0 {
		if err := v.thaw(); err != nil {
			return err
		}
	}
	for {
		at, err := v.run(v.waker(nil))
		if err != nil {
			return err
		}
		switch v.here(at) {
		case v.t.begin:
			if err := v.freeze(); err != nil {
				return err
			}
			again, err := v.askedToYield()
			if err != nil {
				return err
			}
			if !again {
				v.begun = true
				return v.passMarker(0)
			}
			err = errors.Join(v.passMarker(1), v.thaw())
			if err != nil {
				return err
			}
		case v.t.end:
			err = v.passMarker(0)
		default: // a breakpoint left over from a sleep that ended
			err = v.disarm(at)
		}
		if err != nil {
			return err
		}
	}
}

// askedToYield tells whether the runtime has set the goroutine's stack guard to where any stack check
// calls the scheduler.
func (v *Victim) askedToYield() (bool, error) {
	r, err := v.registers()
	if err != nil {
		return false, err
	}
	// What every function's beginning relies on: the goroutine is in R14, and starts with its stack's
	// bounds and this guard.
	high, err := v.peek(r.R14 + 8)
	if err != nil {
		return false, err
	}
	guard, err := v.peek(r.R14 + 16)
	return guard >= high, err
}

// RunTo lets the victim, which stands at Begin, run to a point and stops it there; at InSyscall, it
// sleeps there and is not stopped. It returns false if the operation came to its End before. As in
// Record and ToEnd, onBlocked is called once each time that the victim sleeps in a syscall: it
// makes the world let it go on. Without it the victim must wake by itself.
func (v *Victim) RunTo(p Point, onBlocked func() error) (reached bool, err error) {
	if err := v.leaveBegin(); err != nil {
		return false, err
	}
	target := v.there(p.PC)
	if err := v.arm(target); err != nil {
		return false, err
	}
	waker := v.waker(onBlocked)
	for pass := 0; ; {
		at, err := v.run(waker)
		if err != nil {
			return false, err
		}
		switch {
		case at == target:
			if pass++; pass < p.Pass {
				continue
			}
			if err := v.disarm(target); err != nil {
				return false, err
			}
			if p.Kind == InSyscall {
				return v.intoSyscall(onBlocked)
			}
			return true, nil
		case v.here(at) == v.t.end:
			return false, errors.Join(v.passMarker(0), v.disarm(target))
		default:
			return false, fmt.Errorf("tracer: victim %d came to %v inside of an operation", v.PID, v.t.at(v.here(at)))
		}
	}
}

// leaveBegin is for what counts from Begin.
func (v *Victim) leaveBegin() error {
	if v.err == nil && !v.begun {
		return fmt.Errorf("tracer: victim %d is not at its Begin", v.PID)
	}
	v.begun = false
	return v.err
}

// intoSyscall executes the SYSCALL that the victim is stopped at until it sleeps there.
func (v *Victim) intoSyscall(onBlocked func() error) (bool, error) {
	r, err := v.registers()
	if err != nil {
		return false, err
	}
	const length = 2
	after := r.Rip + length
	if err := v.arm(after); err != nil {
		return false, err
	}
	at, err := v.run(func(s sleeping) (bool, error) { return v.there(s.after) == after, nil })
	if err != nil || v.state == running {
		return err == nil, err
	}
	if err := v.disarm(at); err != nil {
		return false, err
	}
	return false, v.ToEnd(onBlocked)
}

// ToEnd lets the victim go on to its End.
func (v *Victim) ToEnd(onBlocked func() error) error {
	if v.err != nil {
		return v.err
	}
	v.begun = false
	waker := v.waker(onBlocked)
	for {
		at, err := v.run(waker)
		switch {
		case err != nil:
			return err
		case v.here(at) == v.t.end:
			return v.passMarker(0)
		case v.here(at) == v.t.begin:
			return fmt.Errorf("tracer: victim %d came to Begin inside of an operation", v.PID)
		}
		if err := v.disarm(at); err != nil { // where a sleep has ended
			return err
		}
	}
}

// Stop stops a victim that runs, or sleeps at a point InSyscall: its wait is suspended, and goes on
// with ToEnd.
func (v *Victim) Stop() error {
	if v.err != nil || v.state == stopped {
		return v.err
	}
	if err := unix.Tgkill(v.PID, v.PID, unix.SIGSTOP); err != nil {
		return fmt.Errorf("tracer: tgkill: %w", err)
	}
	v.swallow++
	sig, err := v.await(nil)
	if err != nil {
		return err
	}
	switch sig {
	case syscallStop: // where its sleep has ended; the signal is still to come
	case unix.SIGTRAP: // it came to a breakpoint before
		r, err := v.registers()
		if err != nil {
			return err
		}
		r.Rip--
		return v.setRegisters(&r)
	default:
		v.keep(sig)
	}
	return nil
}

// Kill kills the victim, wherever it is, and returns how it ended. What it held, its file locks
// too, is free then.
func (v *Victim) Kill() (syscall.WaitStatus, error) {
	if v.state == gone {
		return v.status, nil
	}
	if err := unix.Kill(v.PID, unix.SIGKILL); err != nil {
		return 0, fmt.Errorf("tracer: kill: %w", err)
	}
	if err := v.reapFrozen(); err != nil {
		return 0, fmt.Errorf("tracer: wait4: %w", err)
	}
	for {
		status, err := wait(v.PID)
		if err != nil {
			return 0, fmt.Errorf("tracer: wait4 of %d: %w", v.PID, err)
		}
		if !status.Stopped() {
			v.bury(status)
			v.err = fmt.Errorf("tracer: victim %d has been killed", v.PID)
			return v.status, nil
		}
	}
}

// ended takes note of an end that nobody asked for.
func (v *Victim) ended(status unix.WaitStatus) error {
	v.bury(status)
	v.err = &ExitError{PID: v.PID, Status: v.status}
	return v.err
}

// bury gives back what belongs to a victim that is reaped.
func (v *Victim) bury(status unix.WaitStatus) {
	v.state, v.status = gone, syscall.WaitStatus(status)
	delete(v.t.victims, v)
	v.cmd.Wait() // fails, as it finds no child; but it closes the command's pipes
	v.cmd.Process.Release()
}

// Exited returns how the victim has ended, if it has and was not killed: an *ExitError.
func (v *Victim) Exited() error {
	var exit *ExitError
	if errors.As(v.err, &exit) {
		return exit
	}
	return nil
}

// A victim that waits for a goroutine of another thread may do so for this long before it is taken
// to wait for the world.
const runtimeSleep = 20 * time.Millisecond

// waker makes the sleeper of an operation.
func (v *Victim) waker(onBlocked func() error) sleeper {
	switches, told := -1, false
	var since time.Time
	return func(s sleeping) (bool, error) {
		if s.switches != switches {
			switches, told, since = s.switches, false, time.Now()
		}
		if told {
			return false, nil
		}
		if v.t.at(s.after).function == "runtime.futex" {
			if err := v.letOthersRun(); err != nil {
				return false, err
			}
			if time.Since(since) < runtimeSleep {
				return false, nil
			}
		}
		told = true
		if onBlocked == nil {
			return false, nil
		}
		return false, onBlocked()
	}
}
