package shm

import (
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// inode is what makes two descriptors the same file.
type inode struct{ dev, ino uint64 }

func inodeOf(st *unix.Stat_t) inode { return inode{uint64(st.Dev), st.Ino} }

func (f inode) String() string { return fmt.Sprintf("file:%x:%x", f.dev, f.ino) }

// isBehind reports whether fd is open and this file. Numbers are reused: a program that closes
// descriptors it does not own may have given ours to somebody else.
func (f inode) isBehind(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && inodeOf(&st) == f
}

// isAt reports whether path, not following a link in its last element, names this file.
func (f inode) isAt(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && inodeOf(&st) == f
}

// statSegment checks that fd is a file that can be a segment.
func statSegment(fd int) (inode, int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return inode{}, 0, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return inode{}, 0, ErrNotRegular
	}
	if st.Size == 0 {
		return inode{}, 0, ErrEmpty
	}
	return inodeOf(&st), st.Size, checkSize(st.Size)
}

func checkSize(size int64) error {
	if size <= 0 || size%int64(os.Getpagesize()) != 0 || size > math.MaxInt {
		return fmt.Errorf("%w: %d bytes", ErrSize, size)
	}
	return nil
}

// dupFile returns a close-on-exec duplicate of fd; the caller closes it.
func dupFile(fd int, name string) (*os.File, error) {
	dup, err := dupNumber(fd)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(dup), name), nil
}

// dupNumber stays clear of standard input, output and error, whose numbers may be free.
func dupNumber(fd int) (int, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err == unix.EINVAL { // 3 is not within RLIMIT_NOFILE
		err = unix.EMFILE
	}
	return dup, os.NewSyscallError("fcntl", err)
}

// allocStep bounds one fallocate: it starts over when a signal arrives, and a large one might never
// get through.
const allocStep = 16 << 20

// allocate gives the first n bytes of a file their pages.
func allocate(fd int, n int64) error {
	for off := int64(0); off < n; off += allocStep {
		step := min(allocStep, n-off)
		err := retryEINTR(func() error { return unix.Fallocate(fd, 0, off, step) })
		if errors.Is(err, unix.EOPNOTSUPP) {
			return writeZeros(fd, off, n)
		}
		if err != nil {
			return spaceError("fallocate", err)
		}
	}
	return nil
}

// writeZeros does the same where the file system has no fallocate, and holds nothing yet.
func writeZeros(fd int, off, end int64) error {
	zeros := make([]byte, 1<<20)
	for off < end {
		var n int
		err := retryEINTR(func() (err error) {
			n, err = unix.Pwrite(fd, zeros[:min(int64(len(zeros)), end-off)], off)
			return err
		})
		if err != nil {
			return spaceError("pwrite", err)
		}
		off += int64(n)
	}
	return nil
}

// spaceError marks what a smaller segment might not meet: a full file system, a quota, and a bound on
// the size of files, RLIMIT_FSIZE for one.
func spaceError(call string, err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
		return fmt.Errorf("%w: %w", ErrNoSpace, os.NewSyscallError(call, err))
	}
	return os.NewSyscallError(call, err)
}

// retryEINTR repeats a call that a signal interrupted: the runtime itself sends them, to preempt.
func retryEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// undoList takes back the steps of a constructor that fails, last first. Deferred, it also does so
// when the caller's code panics.
type undoList []func()

func (u *undoList) add(step func()) { *u = append(*u, step) }

func (u *undoList) run() {
	for i := len(*u) - 1; i >= 0; i-- {
		(*u)[i]()
	}
}

// keep forgets the steps: the constructor has succeeded.
func (u *undoList) keep() { *u = nil }
