package tracer

import (
	"fmt"
	"path"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// A spot is what is known of an address, as in this process.
type spot struct {
	class    class
	syscall  bool // a SYSCALL instruction
	known    bool // whether syscall says so
	function string
	file     string
	line     int
	offset   uintptr
}

type class int

const (
	outside class = iota // the runtime, other modules, the vDSO
	glue                 // this module's, but out of scope: the victim's part
	memory               // reads and writes for its caller: in scope if the caller is
	inside               // in scope
)

// Functions that are part of the instruction that calls them: whatever they do, they do to the
// caller's memory.
var memoryFunctions = map[string]bool{
	"runtime.memmove":              true,
	"runtime.memclrNoHeapPointers": true,
	"runtime.duffcopy":             true,
	"runtime.duffzero":             true,
}

// at returns what is known of an address.
func (t *Tracer) at(pc uintptr) *spot {
	if s, ok := t.spots[pc]; ok {
		return s
	}
	s := &spot{}
	t.spots[pc] = s
	f := frameAt(pc)
	if f.Entry == 0 {
		return s
	}
	// The frame is that of the innermost call inlined here. The function that holds the code is
	// found at some instruction of it that is its own, its return at the latest.
	s.file, s.line, s.offset = f.File, f.Line, pc-f.Entry
	for own := f.Entry; ; own++ {
		if f = frameAt(own); f.Func != nil {
			s.function = f.Function
			break
		}
	}
	switch {
	case pc-s.offset == t.begin, pc-s.offset == t.end:
		s.class = glue
	case t.Scope(s.function):
		s.class = inside
	case memoryFunctions[s.function],
		strings.HasPrefix(s.function, "internal/runtime/atomic."), strings.HasPrefix(s.function, "sync/atomic."):
		s.class = memory
	case strings.HasPrefix(s.function, module) || strings.HasPrefix(s.function, "main."):
		s.class = glue
	}
	return s
}

func frameAt(pc uintptr) runtime.Frame {
	f, _ := runtime.CallersFrames([]uintptr{pc + 1}).Next()
	return f
}

func (s *spot) String() string {
	return fmt.Sprintf("%s (%s:%d)", path.Base(s.function), path.Base(s.file), s.line)
}

// isSyscall tells whether a SYSCALL instruction stands at an address.
func (v *Victim) isSyscall(pc uintptr, s *spot) (bool, error) {
	if s.known {
		return s.syscall, nil
	}
	word, err := v.peek(v.there(pc))
	if err != nil {
		return false, err
	}
	const syscall = 0x050f
	s.syscall, s.known = word&0xffff == syscall, s.function != ""
	return s.syscall, nil
}

// Those that the library is likely to make.
var syscallNames = map[int]string{
	unix.SYS_FUTEX: "futex", unix.SYS_READ: "read", unix.SYS_WRITE: "write", unix.SYS_CLOSE: "close", unix.SYS_FCNTL: "fcntl",
	unix.SYS_MMAP: "mmap", unix.SYS_MUNMAP: "munmap", unix.SYS_MADVISE: "madvise", unix.SYS_OPENAT: "openat", unix.SYS_OPEN: "open",
	unix.SYS_LINKAT: "linkat", unix.SYS_UNLINKAT: "unlinkat", unix.SYS_RENAMEAT2: "renameat2", unix.SYS_FTRUNCATE: "ftruncate",
	unix.SYS_FALLOCATE: "fallocate", unix.SYS_FSTAT: "fstat", unix.SYS_NEWFSTATAT: "newfstatat", unix.SYS_FSTATFS: "fstatfs",
	unix.SYS_MEMFD_CREATE: "memfd_create", unix.SYS_EVENTFD2: "eventfd2", unix.SYS_PPOLL: "ppoll", unix.SYS_POLL: "poll",
	unix.SYS_NANOSLEEP: "nanosleep", unix.SYS_SCHED_YIELD: "sched_yield", unix.SYS_GETPID: "getpid", unix.SYS_GETTID: "gettid",
	unix.SYS_CLOCK_GETTIME: "clock_gettime", unix.SYS_PIDFD_OPEN: "pidfd_open", unix.SYS_EPOLL_CTL: "epoll_ctl",
	unix.SYS_EPOLL_PWAIT: "epoll_pwait", unix.SYS_FLOCK: "flock", unix.SYS_TGKILL: "tgkill", unix.SYS_CLONE: "clone",
	unix.SYS_FCHMOD: "fchmod", unix.SYS_DUP3: "dup3", unix.SYS_GETRANDOM: "getrandom", unix.SYS_RT_SIGPROCMASK: "rt_sigprocmask",
	unix.SYS_MPROTECT: "mprotect", unix.SYS_MSYNC: "msync", unix.SYS_PREAD64: "pread64", unix.SYS_PWRITE64: "pwrite64",
	unix.SYS_EPOLL_CREATE1: "epoll_create1", unix.SYS_SCHED_GETAFFINITY: "sched_getaffinity", unix.SYS_UNLINK: "unlink",
}

func syscallName(number int) string {
	if name, ok := syscallNames[number]; ok {
		return name
	}
	return fmt.Sprintf("syscall %d", number)
}
