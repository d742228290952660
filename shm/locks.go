package shm

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Locks is one party in the question who is alive: the kernel frees a party's bytes when its
// process is gone, whatever it died of. Each Locks is an open file description of its own; that,
// not the process, is what owns a byte, and two Locks of one process exclude each other. Bytes are
// numbers from 0, with no relation to the segment's content or size.
//
// All methods may be called concurrently. A Locks that is dropped without Close keeps its bytes
// until the process ends.
type Locks struct {
	name string

	mu      sync.Mutex
	backend lockBackend        // guarded by mu; nil: closed
	own     map[int64]struct{} // guarded by mu; the bytes locked here
}

// lockBackend is the kernel's table, or the heap's in its place. held does not count a byte of its
// own.
type lockBackend interface {
	lock(b int64) (bool, error)
	unlock(b int64) error
	held(b int64) (bool, error)
	close() error
}

// OpenLocks opens a party that holds nothing yet. It needs /proc, or on a Named segment the path,
// to open the file a second time; and it checks, once per segment, that the file system tells
// descriptions apart. The error is ErrNoLocks, with a sentence on the reason, ErrReadOnly on a View, or
// os.ErrClosed after Close. The Locks live on after the segment's Close.
func (s *Segment) OpenLocks() (_ *Locks, err error) {
	defer wrapf(&err, "locks of segment %s", s.name)
	if s.refs.Load() == 0 {
		return nil, os.ErrClosed
	}
	if s.readOnly {
		return nil, ErrReadOnly
	}
	l := &Locks{name: s.name, own: make(map[int64]struct{})}
	if s.kind == Heap {
		l.backend = &heapLocks{table: s.heap}
		return l, nil
	}
	d, err := s.openDescription()
	if err != nil {
		return nil, err
	}
	if err := s.checkLocks(d); err != nil {
		return nil, errors.Join(err, d.close())
	}
	l.backend = &fileLocks{segment: s, opened: []*description{d}}
	return l, nil
}

// TryLock locks byte b exclusively. It returns false if another description holds it, and true if
// it is already held here. Errors: os.ErrClosed after Close, unix.EINVAL for a byte below 0, ErrNoLocks, and
// the kernel's.
func (l *Locks) TryLock(b int64) (ok bool, err error) {
	defer wrapf(&err, "lock byte %d of segment %s", b, l.name)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.check(b); err != nil {
		return false, err
	}
	if _, mine := l.own[b]; mine {
		return true, nil
	}
	if ok, err = l.backend.lock(b); ok {
		l.own[b] = struct{}{}
	}
	return ok, err
}

// Unlock gives byte b back; one that is not held here is left as it is. If somebody else closed the
// descriptor through which b was locked, b can only be freed together with all bytes locked through
// it: until the last of these is unlocked, the error is ErrNoLocks.
func (l *Locks) Unlock(b int64) (err error) {
	defer wrapf(&err, "unlock byte %d of segment %s", b, l.name)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.check(b); err != nil {
		return err
	}
	if _, mine := l.own[b]; !mine {
		return nil
	}
	delete(l.own, b)
	return l.backend.unlock(b)
}

// Held asks whether another description, in this process or another, holds byte b: whether that
// party is alive. A byte held here is not held by another. After SIGKILL it turns false within
// milliseconds, once all of the process's threads have stopped. It does not allocate. Errors: as TryLock's.
func (l *Locks) Held(b int64) (held bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err = l.check(b); err == nil {
		if _, mine := l.own[b]; mine {
			return false, nil
		}
		held, err = l.backend.held(b)
	}
	if err != nil {
		return false, fmt.Errorf("shm: query byte %d of segment %s: %w", b, l.name, err)
	}
	return held, nil
}

// Close frees all bytes held here. A second Close is os.ErrClosed.
func (l *Locks) Close() (err error) {
	defer wrapf(&err, "close locks of segment %s", l.name)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.backend == nil {
		return os.ErrClosed
	}
	err = l.backend.close()
	l.backend, l.own = nil, nil
	return err
}

func (l *Locks) check(b int64) error {
	if l.backend == nil {
		return os.ErrClosed
	}
	if b < 0 {
		return fmt.Errorf("negative byte number: %w", unix.EINVAL)
	}
	return nil
}
