package shm

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/label"
)

// ProcessStart returns when process pid started, in clock ticks since boot. Together with pid it
// names a process for good, where pid alone may be another one's by now. A process that has exited
// but was not waited for still has one. The error is fs.ErrNotExist if there is no such process in
// this pid namespace.
func ProcessStart(pid int) (ticks uint64, err error) {
	defer wrapf(&err, "start of process %d", pid)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, unix.ESRCH) { // it went away between open and read
		err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return 0, err
	}
	return parseStart(stat)
}

// OwnStart returns what ProcessStart returns for this process to those who share its pid namespace. It
// asks for no number: /proc may be that of another namespace, in which ours is another process's. The
// error is fs.ErrNotExist where there is no /proc.
func OwnStart() (ticks uint64, err error) {
	defer wrapf(&err, "start of this process")
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, err
	}
	return parseStart(stat)
}

// parseStart takes the 22nd field. The second, the program's name in parentheses, may hold
// anything, also spaces and parentheses; what follows the last one is numbers and a letter.
func parseStart(stat []byte) (uint64, error) {
	const after = 22 - 3 // counted from the third field
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) <= after {
		return 0, fmt.Errorf("malformed stat line %q", stat)
	}
	return strconv.ParseUint(string(fields[after]), 10, 64)
}

// PIDNamespace returns a number for the namespace in which this process's pids have a meaning, 0 if
// it cannot be known. Pids of processes with another number must not be looked up here.
func PIDNamespace() uint64 { return pidNamespace() }

var pidNamespace = sync.OnceValue(func() uint64 {
	var st unix.Stat_t
	if unix.Stat("/proc/self/ns/pid", &st) != nil {
		return 0
	}
	return st.Ino
})

// WatchDeath calls fn once, on a goroutine of its own, when process pid has exited: all of its
// threads have stopped, whether or not its parent has waited for it. start is what ProcessStart
// returned for it, and guards against a pid that was reused; 0 leaves that out. No thread is held
// while it waits.
//
// stop releases the watch. It may be called more than once, also from fn, and need not be called
// after it. It waits for nobody: if the process had died before, fn may begin after stop has returned.
//
// The error is os.ErrProcessDone if there is no such process, or another one with its pid: it has
// died, if it ever was in this pid namespace. It is errors.ErrUnsupported on a kernel without pidfd
// (before 5.3).
func WatchDeath(pid int, start uint64, fn func()) (stop func(), err error) {
	defer wrapf(&err, "watch process %d", pid)
	pidfd, err := openPidfd(pid, start)
	if err != nil {
		return nil, err
	}
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, pidfd.Close())
	}
	var settled atomic.Bool // by death or by stop, whichever comes first
	go func() {
		label.Watch.Set()
		dead := conn.Read(isReadable) == nil // otherwise stop has closed it
		if settled.CompareAndSwap(false, true) {
			pidfd.Close()
			if dead {
				fn()
			}
		}
	}()
	return func() {
		if settled.CompareAndSwap(false, true) {
			pidfd.Close()
		}
	}, nil
}

// openPidfd opens a descriptor that becomes readable when pid exits. That it is the right process
// is checked after it is open: from then on the descriptor cannot come to mean another.
func openPidfd(pid int, start uint64) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.EINVAL) { // kernels before 5.10
		if fd, err = unix.PidfdOpen(pid, 0); err == nil {
			unix.SetNonblock(fd, true) // if not, pollable finds out
		}
	}
	if errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("%w: %w", os.ErrProcessDone, err)
	}
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	pidfd, err := pollable(fd, "pidfd")
	if err != nil || start == 0 {
		return pidfd, err
	}
	switch now, err := ProcessStart(pid); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.Join(os.ErrProcessDone, err, pidfd.Close())
	case err != nil:
		return nil, errors.Join(err, pidfd.Close())
	case now != start:
		err := fmt.Errorf("%w: the pid is another process's, started at %d instead of %d",
			os.ErrProcessDone, now, start)
		return nil, errors.Join(err, pidfd.Close())
	}
	return pidfd, nil
}

// isReadable is how the runtime's poller is asked for readiness without reading.
func isReadable(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n := 0
	err := retryEINTR(func() (err error) { n, err = unix.Poll(fds, 0); return err })
	return err == nil && n > 0
}
