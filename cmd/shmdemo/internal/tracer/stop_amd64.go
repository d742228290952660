package tracer

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A sleeper decides what happens while the victim's main thread sleeps in the kernel. It returns
// true to give up waiting for a stop.
type sleeper func(call sleeping) (bool, error)

// sleeping says where the main thread sleeps.
type sleeping struct {
	number   int     // of the syscall
	after    uintptr // the instruction that it returns to
	switches int     // how often the thread has slept so far: equal as long as it is the same sleep
}

const (
	// Looks for a stop with nothing but a yield between them: enough for a victim that goes from one
	// breakpoint to the next.
	eagerLooks = 40
	// After these, looks are this far apart.
	lookInterval = 20 * time.Microsecond
)

// syscallStop is the signal of a stop at a syscall, before or after it.
const syscallStop = unix.SIGTRAP | 0x80

// await waits for the victim's next stop and returns the signal that made it.
func (v *Victim) await(asleep sleeper) (unix.Signal, error) {
	var since time.Time
	for n := 0; ; n++ {
		var status unix.WaitStatus
		pid, err := unix.Wait4(v.PID, &status, unix.WNOHANG|unix.WALL, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, fmt.Errorf("tracer: wait4 of %d: %w", v.PID, err)
		case pid == v.PID && status.Stopped():
			v.state = stopped
			return status.StopSignal(), v.holdOthers()
		case pid == v.PID:
			return 0, v.ended(status)
		case n < eagerLooks:
			unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
			continue
		}
		if since.IsZero() {
			since = time.Now()
		}
		enough, err := v.lookAsleep(since, asleep)
		if enough || err != nil {
			return 0, err
		}
		unix.Nanosleep(&unix.Timespec{Nsec: int64(lookInterval)}, nil)
	}
}

// lookAsleep sees what a victim does that does not stop.
func (v *Victim) lookAsleep(since time.Time, asleep sleeper) (enough bool, err error) {
	state, switches, err := v.thread()
	if err != nil {
		return false, err
	}
	switch state {
	case 'Z', 'X': // its end is told once the other threads are reaped, which is up to us for those that we trace
		return false, v.reapFrozen()
	case 'S':
		call, ok := v.sleepingIn()
		if _, again, err := v.thread(); ok && err == nil && again == switches && asleep != nil {
			call.switches = switches
			if enough, err := asleep(call); enough || err != nil {
				return enough, err
			}
		}
	}
	if time.Since(since) > v.t.Patience {
		return false, fmt.Errorf("%w: victim %d, state %c, after %v", ErrStuck, v.PID, state, v.t.Patience)
	}
	return false, nil
}

// thread returns the main thread's state, R, S, D, t, Z ..., and how often it went to sleep.
func (v *Victim) thread() (state byte, switches int, err error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(v.PID) + "/status")
	if err != nil {
		return 0, 0, fmt.Errorf("tracer: %w", err)
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte("State:\t")); ok {
			state = rest[0]
		}
		if rest, ok := bytes.CutPrefix(line, []byte("voluntary_ctxt_switches:\t")); ok {
			switches, err = strconv.Atoi(string(bytes.TrimSpace(rest)))
		}
	}
	return state, switches, err
}

// sleepingIn tells where in the kernel the main thread sleeps, if it does.
func (v *Victim) sleepingIn() (sleeping, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(v.PID) + "/syscall")
	f := bytes.Fields(b)
	if err != nil || len(f) < 9 { // "running", or "-1 sp pc" of a stop or a page fault
		return sleeping{}, false
	}
	number, err := strconv.Atoi(string(f[0]))
	pc, err2 := strconv.ParseUint(string(f[8]), 0, 64)
	if err != nil || err2 != nil || number < 0 {
		return sleeping{}, false
	}
	return sleeping{number: number, after: v.here(pc)}, true
}

// failed says why a call of ptrace has failed: mostly as the victim was killed meanwhile.
func (v *Victim) failed(call string, err error) error {
	if err == unix.ESRCH {
		if _, ended := v.await(nil); v.state == gone {
			return ended
		}
	}
	return fmt.Errorf("tracer: %s: %w", call, err)
}

// cont lets the victim run, with a signal. While others are frozen, it stops at each syscall, too.
func (v *Victim) cont(sig unix.Signal) error {
	resume, name := unix.PtraceCont, "PTRACE_CONT"
	if len(v.frozen) > 0 {
		resume, name = unix.PtraceSyscall, "PTRACE_SYSCALL"
	}
	if err := resume(v.PID, int(sig)); err != nil {
		return v.failed(name, err)
	}
	v.state = running
	return nil
}

// step executes one instruction. Signals wait.
func (v *Victim) step(asleep sleeper) error {
	for {
		if err := unix.PtraceSingleStep(v.PID); err != nil {
			return v.failed("PTRACE_SINGLESTEP", err)
		}
		v.state = running
		sig, err := v.await(asleep)
		if err != nil || sig == unix.SIGTRAP {
			return err
		}
		v.keep(sig)
	}
}

// keep keeps a signal for later, unless Stop has sent it.
func (v *Victim) keep(sig unix.Signal) {
	if sig == unix.SIGSTOP && v.swallow > 0 {
		v.swallow--
		return
	}
	v.pending = append(v.pending, sig)
}

// run lets the victim go on to the next breakpoint, and returns its address. Signals are passed on.
func (v *Victim) run(asleep sleeper) (at uint64, err error) {
	if v.state == stopped {
		if err := v.leave(asleep); err != nil {
			return 0, err
		}
	}
	for _, sig := range v.pending {
		if err := unix.Tgkill(v.PID, v.PID, sig); err != nil {
			return 0, fmt.Errorf("tracer: tgkill: %w", err)
		}
	}
	v.pending = v.pending[:0]
	var sig unix.Signal
	for {
		if v.state == stopped {
			if err := v.cont(sig); err != nil {
				return 0, err
			}
		}
		if sig, err = v.await(asleep); err != nil || v.state != stopped {
			return 0, err
		}
		switch sig {
		case syscallStop:
			sig = 0
		case unix.SIGTRAP:
			r, err := v.registers()
			if err != nil {
				return 0, err
			}
			if v.armed[r.Rip-1] {
				r.Rip--
				return r.Rip, v.setRegisters(&r)
			}
		case unix.SIGSTOP:
			if v.swallow > 0 {
				v.swallow--
				sig = 0
			}
		}
	}
}

// leave executes the instruction that the victim is stopped at, if a breakpoint stands there.
func (v *Victim) leave(asleep sleeper) error {
	r, err := v.registers()
	if err != nil {
		return err
	}
	if !v.armed[r.Rip] {
		return nil
	}
	if err := v.disarm(r.Rip); err != nil {
		return err
	}
	if err := v.step(asleep); err != nil {
		return err
	}
	return v.arm(r.Rip)
}
