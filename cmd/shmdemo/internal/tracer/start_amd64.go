package tracer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Tracer starts victims and steers them. It belongs to the goroutine that made it, which it locks
// to its thread: to the kernel, the thread is the tracer. There may be several.
type Tracer struct {
	// Scope tells of a function, by its name with the package's path, whether each of its
	// instructions is a point. The default is this module without its commands.
	Scope func(function string) bool
	// Patience is how long a victim may run, or sleep, without coming to the next stop.
	Patience time.Duration

	victims map[*Victim]bool
	entry   uint64             // of this executable, as loaded
	spots   map[uintptr]*spot  // what is known of addresses
	text    map[uintptr]uint64 // words of code without breakpoints, likewise
	begin   uintptr
	end     uintptr
}

// A Victim is a process that a Tracer has started. Its methods are for the tracer's goroutine.
type Victim struct {
	PID int

	t       *Tracer
	cmd     *exec.Cmd
	bias    uint64          // its addresses are this much above ours
	armed   map[uint64]bool // breakpoints
	state   state
	frozen  []frozen           // other threads that are held
	begun   bool               // it stands at Begin
	thawed  bool               // they were let go within the operation, until the main thread's next stop
	lifted  []uint64           // breakpoints that are not in the code meanwhile
	pending []unix.Signal      // came while they could not be passed on
	swallow int                // SIGSTOPs of Stop that are still to come
	status  syscall.WaitStatus // how it ended, once it has
	err     error              // the same, in words
}

type state int

const (
	running state = iota // or asleep in the kernel
	stopped              // and to be continued by ptrace
	gone                 // and reaped
)

// New makes a tracer of the calling goroutine's thread, for good.
func New() (*Tracer, error) {
	entry, err := entryPoint(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("tracer: %w", err)
	}
	runtime.LockOSThread()
	return &Tracer{
		Scope:    library,
		Patience: 10 * time.Second,
		victims:  map[*Victim]bool{},
		entry:    entry,
		spots:    map[uintptr]*spot{},
		text:     map[uintptr]uint64{},
		begin:    reflect.ValueOf(begin).Pointer(),
		end:      reflect.ValueOf(end).Pointer(),
	}, nil
}

const module = "github.com/shmrouter/shmrouter/"

func library(function string) bool {
	return strings.HasPrefix(function, module) && !strings.HasPrefix(function, module+"cmd/")
}

// Pin binds the tracer's thread, and the victims that it starts from then on, to one processor:
// handing over to and fro is then no more than a switch.
func (t *Tracer) Pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	return os.NewSyscallError("sched_setaffinity", unix.SchedSetaffinity(0, &set))
}

// Close kills the victims that are left. The goroutine remains on its thread.
func (t *Tracer) Close() error {
	var errs []error
	for v := range t.victims {
		_, err := v.Kill()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Start starts a victim, which must be this executable. It runs freely until it comes to Begin.
// The command's Wait is Kill's business.
func (t *Tracer) Start(cmd *exec.Cmd) (*Victim, error) {
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(slices.Clip(cmd.Env), victimEnvironment...)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Ptrace = true
	if err := cmd.Start(); err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
			return nil, fmt.Errorf("%w (%w)", ErrNotPermitted, err)
		}
		return nil, fmt.Errorf("tracer: %w", err)
	}
	v := &Victim{PID: cmd.Process.Pid, t: t, cmd: cmd, armed: map[uint64]bool{}}
	t.victims[v] = true
	if err := v.setUp(); err != nil {
		_, kill := v.Kill()
		return nil, errors.Join(err, kill)
	}
	return v, nil
}

// setUp takes the victim from its execve to its own code.
func (v *Victim) setUp() error {
	sig, err := v.await(nil)
	if err != nil {
		return err
	}
	if sig != unix.SIGTRAP {
		return fmt.Errorf("tracer: victim %d stopped by %v, not by execve", v.PID, sig)
	}
	if err := unix.PtraceSetOptions(v.PID, unix.PTRACE_O_EXITKILL|unix.PTRACE_O_TRACESYSGOOD); err != nil {
		return v.failed("PTRACE_SETOPTIONS", err)
	}
	entry, err := entryPoint(v.PID)
	if err != nil {
		return fmt.Errorf("tracer: %w", err)
	}
	v.bias = entry - v.t.entry
	if v.bias%uint64(os.Getpagesize()) != 0 {
		return fmt.Errorf("tracer: the victim is another executable: entry point %#x, and here %#x", entry, v.t.entry)
	}
	for _, marker := range []uintptr{v.t.begin, v.t.end} {
		if err := v.arm(v.there(marker)); err != nil {
			return err
		}
	}
	return v.cont(0)
}

// there translates an address of this process to the victim's, here one of the victim's.
func (v *Victim) there(pc uintptr) uint64 { return uint64(pc) + v.bias }
func (v *Victim) here(pc uint64) uintptr  { return uintptr(pc - v.bias) }

// entryPoint returns where a process's executable begins, which tells where it was loaded.
func entryPoint(pid int) (uint64, error) {
	const atEntry = 9
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/auxv", pid))
	if err != nil {
		return 0, err
	}
	words := make([]uint64, len(b)/8)
	if err := binary.Read(bytes.NewReader(b), binary.LittleEndian, words); err != nil {
		return 0, err
	}
	for i := 0; i+1 < len(words); i += 2 {
		if words[i] == atEntry {
			return words[i+1], nil
		}
	}
	return 0, fmt.Errorf("no entry point in /proc/%d/auxv", pid)
}
