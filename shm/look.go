package shm

import (
	"os"

	mmap "github.com/edsrzf/mmap-go"
	"golang.org/x/sys/unix"
)

// View maps the segment behind f for reading only: for tools that look at a segment that is other
// processes' affair. f need not be open for writing; it is duplicated and stays the caller's to close.
// What the file holds is not looked at. A store to the memory is a fault, and OpenLocks is ErrReadOnly.
// The Kind is Named whatever the file is, since nobody knows who may truncate it: every access belongs
// inside Guarded. A page that the file does not have yet gets allocated when it is read, as for everybody
// else who maps it.
//
// The error is os.ErrClosed if f is closed, ErrNotRegular if it is no file, and ErrEmpty or ErrSize if
// its size is not a segment's.
func View(f *os.File) (_ *Segment, err error) {
	defer wrapf(&err, "view %s", f.Name())
	var undo undoList
	defer undo.run()

	fd, err := dupFD(f)
	if err != nil {
		return nil, err
	}
	undo.add(func() { unix.Close(fd) })
	name, path := nameOf(fd)
	s, err := mapFileFor(mmap.RDONLY, Named, fd, name, path)
	if err != nil {
		return nil, err
	}
	undo.keep()
	return s, nil
}

// LockHeld asks whether anybody, this process included, holds byte b: Locks.Held for those who hold
// nothing and open nothing. It takes no lock, not for an instant, and works on a View. The error is
// ErrNoFile on the heap, os.ErrClosed after Close, or the kernel's.
func (s *Segment) LockHeld(b int64) (held bool, err error) {
	defer wrapf(&err, "query byte %d of segment %s", b, s.name)
	if s.kind == Heap {
		return false, ErrNoFile
	}
	if b < 0 {
		return false, unix.EINVAL
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 || !s.file.isBehind(s.fd) {
		return false, os.ErrClosed
	}
	lk := unix.Flock_t{Type: unix.F_WRLCK, Start: b, Len: 1}
	err = retryEINTR(func() error { return unix.FcntlFlock(uintptr(s.fd), unix.F_OFD_GETLK, &lk) })
	return err == nil && lk.Type != unix.F_UNLCK, os.NewSyscallError("fcntl", err)
}
