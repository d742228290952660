package hosttest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Limit sets a soft limit of this process, and returns what sets it back.
func Limit(resource int, soft uint64) (restore func(), err error) {
	var before unix.Rlimit
	if err := unix.Getrlimit(resource, &before); err != nil {
		return nil, err
	}
	now := before
	now.Cur = min(soft, before.Max)
	if err := unix.Setrlimit(resource, &now); err != nil {
		return nil, err
	}
	return func() {
		if err := unix.Setrlimit(resource, &before); err != nil {
			panic(err)
		}
	}, nil
}

// Descriptors leaves this process free descriptors, and no more, until restore. The numbers below
// those that are open are filled, since the limit is one of numbers.
func Descriptors(free int) (restore func(), err error) {
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	fillers := []int{null}
	release := func() {
		for _, fd := range fillers {
			unix.Close(fd)
		}
	}
	highest, err := highestDescriptor()
	for err == nil && slices.Max(fillers) <= highest {
		var fd int
		if fd, err = unix.FcntlInt(uintptr(null), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			fillers = append(fillers, fd)
		}
	}
	if err != nil {
		release()
		return nil, err
	}
	reset, err := Limit(unix.RLIMIT_NOFILE, uint64(slices.Max(fillers)+1+free))
	if err != nil {
		release()
		return nil, err
	}
	return func() { reset(); release() }, nil
}

func highestDescriptor() (highest int, err error) {
	entries, err := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil {
			highest = max(highest, fd)
		}
	}
	return highest, err
}

// Starve calls try with no descriptor to spare, then with one, with two, until it succeeds, and
// returns how many times it failed. It is an error if try fails with anything but EMFILE, does not
// say which call it was, leaves a descriptor or shared mapping, or never fails. What try returns
// undoes its success, with the limit lifted, and then nothing may be left either; nil if it is to stay.
func Starve(try func() (undo func() error, err error)) (failures int, err error) {
	before := Open()
	for free := range 64 {
		restore, err := Descriptors(free)
		if err != nil {
			return failures, err
		}
		undo, err := try()
		restore()
		if err == nil {
			if undo != nil {
				err = errors.Join(undo(), OpenLike(before))
			}
			if err == nil && failures == 0 {
				err = errors.New("it takes no descriptor")
			}
			return failures, err
		}
		failures++
		if !errors.Is(err, unix.EMFILE) {
			return failures, fmt.Errorf("with %d descriptors: not EMFILE: %w", free, err)
		}
		if !namesCall(err) {
			return failures, fmt.Errorf("with %d descriptors: which call? %w", free, err)
		}
		if err := OpenLike(before); err != nil {
			return failures, fmt.Errorf("after a failure with %d descriptors: %w", free, err)
		}
	}
	return failures, errors.New("it never succeeds")
}

// namesCall reports whether an error says what was being done when the kernel refused.
func namesCall(err error) bool {
	var call *os.SyscallError
	var path *fs.PathError
	return errors.As(err, &call) || errors.As(err, &path)
}

// wakePoller has the runtime open what its poller keeps.
func wakePoller() {
	if r, w, err := os.Pipe(); err == nil {
		r.SetReadDeadline(time.Now())
		r.Close()
		w.Close()
	}
}

// Open lists this process's descriptors and shared mappings.
func Open() (things []string) {
	wakePoller() // whose descriptors are the runtime's
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.HasPrefix(target, "/proc/") { // not the listing itself
			things = append(things, e.Name()+" "+target)
		}
	}
	maps, _ := os.ReadFile("/proc/self/maps")
	for line := range bytes.Lines(maps) {
		if f := bytes.Fields(line); bytes.HasSuffix(f[1], []byte("s")) {
			things = append(things, string(bytes.Join(f, []byte(" "))))
		}
	}
	return things
}

// Patience is how long OpenLike waits.
var Patience = 10 * time.Second

// OpenLike waits until this process has no more open than before: goroutines may be about to close
// something. The error lists what is too much.
func OpenLike(before []string) error {
	var after []string
	for start := time.Now(); time.Since(start) < Patience; runtime.Gosched() {
		if after = Open(); len(after) <= len(before) {
			return nil
		}
	}
	return fmt.Errorf("left open: %q", slices.DeleteFunc(after, func(s string) bool { return slices.Contains(before, s) }))
}
