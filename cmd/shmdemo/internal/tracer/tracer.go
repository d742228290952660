// Package tracer stops a process at any instruction of the compiled code, and kills it there. It is
// what the kill sweep stands on: it records which instructions an operation executes, by single
// steps, and then brings fresh processes to one of them each, at full speed, by a breakpoint.
//
// Tracer and victim are the same executable: so what runs is the code as shipped, and the tracer's
// own tables name the victim's addresses, wherever the loader put it. The operation stands between
// Begin and End, on the victim's main thread:
//
//	t, err := tracer.New()                  // for this goroutine and its thread alone
//	v, err := t.Start(exec.Command(...))    // the same executable, as a victim
//	err = v.ToBegin()
//	trace, err := v.Record(nil)             // with a first victim; the others:
//	reached, err := v.RunTo(trace.Points[i], nil)
//	status, err := v.Kill()
//
// From Begin on all other threads of the victim are frozen, in a record as in a run: the runtime's
// sysmon would otherwise ask a traced goroutine, which is slow, to give way, and so put code into
// the operation that full speed does not execute. They are let go while the operation waits for one of them.
//
// It needs Linux on amd64, and the permission to trace.
package tracer

import (
	"errors"
	"fmt"
	"path"
	"syscall"
)

var (
	// ErrNotPermitted says that this process may not trace its children.
	ErrNotPermitted = errors.New("tracer: ptrace is not permitted here: it needs /proc/sys/kernel/yama/ptrace_scope 0 or 1 " +
		"(or CAP_SYS_PTRACE), a seccomp filter that lets ptrace pass (docker: --cap-add SYS_PTRACE), and no other tracer")
	// ErrUnsupported says that there is no tracer for this architecture.
	ErrUnsupported = errors.New("tracer: only linux/amd64 is supported")
	// ErrStuck says that the victim has not come to a stop within the tracer's patience.
	ErrStuck = errors.New("tracer: the victim is stuck")
)

// ExitError says that the victim has ended although nobody asked it to.
type ExitError struct {
	PID    int
	Status syscall.WaitStatus
}

func (e *ExitError) Error() string {
	if e.Status.Signaled() {
		return fmt.Sprintf("tracer: victim %d was ended by %v (signal %d)", e.PID, e.Status.Signal(), int(e.Status.Signal()))
	}
	return fmt.Sprintf("tracer: victim %d ended by itself, exit status %d", e.PID, e.Status.ExitStatus())
}

// A Kind says what stands at a point.
type Kind int

// The kinds of points.
const (
	Instruction  Kind = iota // an instruction in scope: before it
	SyscallEntry             // before a SYSCALL instruction, whoever executes it
	SyscallExit              // after it, before the next instruction
	InSyscall                // asleep in the kernel
	Library                  // code out of scope, called from code in scope: before its first instruction
)

var kindNames = [...]string{"instruction", "before", "after", "asleep in", "library"}

func (k Kind) String() string { return kindNames[k] }

// A Point is a place at which an operation can be stopped: the Pass-th time that it comes to PC.
type Point struct {
	PC      uintptr // as in this process, wherever the victim is loaded
	Pass    int     // counts from Begin, from 1
	Last    bool    // the last of its kind at this place
	Passes  int     // how often the record came to PC in all
	Kind    Kind
	Syscall int // its number, where Kind is of a syscall

	Function string // that PC belongs to, with its package's path
	File     string // and line: of the source, where calls were inlined the innermost
	Line     int
	Offset   uintptr // from the function's entry
	Site     uintptr // the instruction in scope that led out of it, for all kinds but Instruction; 0: none
	From     string  // the same in words
}

// String names the point: ring.(*Producer).claim+0x1a4 (producer.go:153), pass 2 of 7.
func (p Point) String() string {
	where := fmt.Sprintf("%s+%#x (%s:%d)", path.Base(p.Function), p.Offset, path.Base(p.File), p.Line)
	if p.Function == "" {
		where = fmt.Sprintf("%#x", p.PC)
	}
	where += fmt.Sprintf(", pass %d of %d", p.Pass, p.Passes)
	switch p.Kind {
	case Instruction:
		return where
	case Library:
		where = "library, " + where
	default:
		where = fmt.Sprintf("%v %s, %s", p.Kind, syscallName(p.Syscall), where)
	}
	if p.From != "" {
		where += ", from " + p.From
	}
	return where
}

// A Trace is what a record found.
type Trace struct {
	Points   []Point
	Steps    int     // instructions executed between Begin and End
	Distinct int     // of them, at different addresses
	Dropped  []Point // by Common: not in all of the traces
}
