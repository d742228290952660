package shm

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// fileLocks holds bytes of a file through a description of its own.
type fileLocks struct {
	segment *Segment

	// The last one is in use. The descriptors of the others were closed by somebody else, their
	// mappings still hold bytes.
	opened []*description
}

// description is an open file description with byte locks. It lives as long as its descriptor or
// its mapping: the mapping is what a stray close cannot reach. (The kernel's other trap, that
// closing any descriptor of a file drops the process's locks on it, is one of the older kind of
// lock, which belongs to processes.)
type description struct {
	fd    int
	mark  int64              // its file position, at random: how to know that fd still is this one
	page  []byte             // mapped without access, and not given to forked children
	bytes map[int64]struct{} // locked through it
}

// openDescription opens the segment's file once more.
func (s *Segment) openDescription() (_ *description, err error) {
	fd, err := s.reopen()
	if err != nil {
		return nil, err
	}
	var undo undoList
	defer undo.run()
	undo.add(func() { unix.Close(fd) })

	d := &description{fd: fd, bytes: make(map[int64]struct{})}
	if d.mark, err = unix.Seek(fd, 1+rand.Int64N(1<<31-1), unix.SEEK_SET); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoLocks, os.NewSyscallError("lseek", err))
	}
	if d.page, err = unix.Mmap(fd, 0, s.pageSize, unix.PROT_NONE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoLocks, os.NewSyscallError("mmap", err))
	}
	undo.add(func() { unix.Munmap(d.page) })
	if err := unix.Madvise(d.page, unix.MADV_DONTFORK); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoLocks, os.NewSyscallError("madvise", err))
	}
	undo.keep()
	return d, nil
}

// intact reports whether the descriptor still is this description. One call, cheaper than the lock
// calls that follow it, and unlike device and inode number it also tells two descriptions of one
// file apart.
func (d *description) intact() bool {
	pos, err := unix.Seek(d.fd, 0, unix.SEEK_CUR)
	return err == nil && pos == d.mark
}

// fcntl makes one lock call on n bytes from b (0: all that follow), and returns the type that the
// kernel leaves behind.
func (d *description) fcntl(cmd int, kind int16, b, n int64) (int16, error) {
	lk := unix.Flock_t{Type: kind, Start: b, Len: n}
	err := retryEINTR(func() error { return unix.FcntlFlock(uintptr(d.fd), cmd, &lk) })
	return lk.Type, os.NewSyscallError("fcntl", err)
}

func (d *description) lock(b int64) (bool, error) {
	_, err := d.fcntl(unix.F_OFD_SETLK, unix.F_WRLCK, b, 1)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	d.bytes[b] = struct{}{}
	return true, nil
}

func (d *description) unlock(b int64) error {
	delete(d.bytes, b)
	_, err := d.fcntl(unix.F_OFD_SETLK, unix.F_UNLCK, b, 1)
	return err
}

func (d *description) held(b int64) (bool, error) {
	kind, err := d.fcntl(unix.F_OFD_GETLK, unix.F_WRLCK, b, 1)
	return err == nil && kind != unix.F_UNLCK, err
}

// close frees all bytes at once, whoever else might still have the description, such as a child
// between fork and exec.
func (d *description) close() (err error) {
	if d.intact() {
		_, err = d.fcntl(unix.F_OFD_SETLK, unix.F_UNLCK, 0, 0)
		err = errors.Join(err, os.NewSyscallError("close", unix.Close(d.fd)))
	}
	return errors.Join(err, os.NewSyscallError("munmap", unix.Munmap(d.page)))
}

// usable returns a description whose descriptor is still ours. If somebody closed the last one, it
// opens another; the bytes that were locked through the lost one stay locked.
func (l *fileLocks) usable() (*description, error) {
	if n := len(l.opened); n > 0 {
		last := l.opened[n-1]
		if last.intact() {
			return last, nil
		}
		l.dropIfEmpty(last)
	}
	d, err := l.segment.openDescription()
	if err != nil {
		return nil, err
	}
	l.opened = append(l.opened, d)
	return d, nil
}

func (l *fileLocks) lock(b int64) (bool, error) {
	d, err := l.usable()
	if err != nil {
		return false, err
	}
	return d.lock(b)
}

func (l *fileLocks) held(b int64) (bool, error) {
	d, err := l.usable()
	if err != nil {
		return false, err
	}
	return d.held(b)
}

func (l *fileLocks) unlock(b int64) error {
	for _, d := range l.opened {
		if _, ok := d.bytes[b]; !ok {
			continue
		}
		if d.intact() {
			return d.unlock(b)
		}
		// Without its descriptor the kernel takes no more requests for it, but it forgets the whole
		// when it is unmapped.
		if delete(d.bytes, b); len(d.bytes) > 0 {
			return fmt.Errorf("%w one by one: somebody closed the descriptor, and %d more have to be unlocked first",
				ErrNoLocks, len(d.bytes))
		}
		return l.dropIfEmpty(d)
	}
	return nil
}

// dropIfEmpty gives up a description that is lost, unless it still holds bytes.
func (l *fileLocks) dropIfEmpty(d *description) error {
	if len(d.bytes) > 0 {
		return nil
	}
	l.opened = slices.DeleteFunc(l.opened, func(other *description) bool { return other == d })
	return d.close()
}

func (l *fileLocks) close() (err error) {
	for _, d := range l.opened {
		err = errors.Join(err, d.close())
	}
	return err
}

// checkLocks opens a second description and has probeLocks compare it with d, once per segment.
func (s *Segment) checkLocks(d *description) (err error) {
	s.mu.Lock()
	done := s.lockable
	s.mu.Unlock()
	if done {
		return nil
	}
	other, err := s.openDescription()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, other.close()) }()
	if err := probeLocks(d, other); err != nil {
		return err
	}
	s.mu.Lock()
	s.lockable = true
	s.mu.Unlock()
	return nil
}

// probeLocks checks that b sees what a locks and unlocks. Some network and user space file systems
// accept the calls and do nothing.
func probeLocks(a, b lockBackend) error {
	// far from any byte in use, and at random, so that two that probe do not meet
	at := int64(1)<<61 + rand.Int64N(1<<60)
	locked, err1 := a.lock(at)
	seen, err2 := b.held(at)
	err3 := a.unlock(at)
	still, err4 := b.held(at)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return fmt.Errorf("%w: the file system refuses them: %w", ErrNoLocks, err)
	}
	if !locked || !seen || still {
		return fmt.Errorf("%w: the file system does not keep them apart by description: %w", ErrNoLocks, errors.ErrUnsupported)
	}
	return nil
}

// reopen opens the segment's file as another description, by whatever still leads to it: the data
// descriptor, the path, and, for the privileged, the mapping itself.
func (s *Segment) reopen() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return -1, os.ErrClosed
	}
	var ways []string
	var cause error // of the first way that should have worked
	if s.file.isBehind(s.fd) {
		ways = append(ways, procFD(s.fd))
	} else {
		cause = unix.EBADF
	}
	if s.path != "" {
		ways = append(ways, s.path)
	}
	end := s.address() + uintptr(len(s.mem))
	ways = append(ways, fmt.Sprintf("/proc/self/map_files/%x-%x", s.address(), end))
	for _, way := range ways {
		fd, err := s.openSame(way)
		if err == nil {
			return fd, nil
		}
		if cause == nil {
			cause = err
		}
	}
	return -1, fmt.Errorf("%w: %s: %w", ErrNoLocks, reopenReason(cause), cause)
}

// openSame opens way, if it leads to this segment's file. The stat comes first, as opening
// something else may have effects.
func (s *Segment) openSame(way string) (int, error) {
	var st unix.Stat_t
	if err := unix.Stat(way, &st); err != nil {
		return -1, os.NewSyscallError("stat", err)
	}
	if inodeOf(&st) != s.file {
		return -1, ErrReplaced
	}
	fd, err := openFile(way, unix.O_RDWR|unix.O_NOCTTY)
	if err != nil {
		return -1, err
	}
	if !s.file.isBehind(fd) {
		unix.Close(fd)
		return -1, ErrReplaced
	}
	return fd, nil
}

func reopenReason(cause error) string {
	_, err := os.Stat("/proc/self/fd")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "the file cannot be opened a second time, because /proc is not mounted"
	case errors.Is(cause, fs.ErrPermission):
		return fmt.Sprintf("this process (uid %d) may not open the file a second time, it belongs to another user", os.Geteuid())
	case cause == unix.EBADF:
		return "somebody closed the segment's descriptor, and nothing else leads to its file"
	}
	return "the file cannot be opened a second time"
}
