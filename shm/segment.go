package shm

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	mmap "github.com/edsrzf/mmap-go"
	"golang.org/x/sys/unix"
)

// Kind says what holds a segment's memory.
type Kind int

const (
	Memfd Kind = iota // an unnamed file whose size is sealed
	Named             // a file at a path, which somebody may truncate
	Heap              // this process's own heap, for tests
)

// String returns the kind in lower case.
func (k Kind) String() string {
	switch k {
	case Memfd:
		return "memfd"
	case Named:
		return "named"
	case Heap:
		return "heap"
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

// Segment is a piece of shared memory of fixed size, a multiple of the page size, that starts on a
// page.
//
// All methods may be called concurrently. The memory belongs to the segment: pointers and slices
// into it are valid until the last reference is closed, and do not themselves keep it mapped. A
// Segment that is dropped without Close stays mapped, since nobody can know whether such a pointer
// still exists.
type Segment struct {
	kind     Kind
	name     string
	identity string
	mem      []byte
	pageSize int
	mapped   mmap.MMap // exactly what Map returned, for Unmap; nil on the heap
	file     inode     // zero on the heap
	token    *raceToken
	heap     *heapLockTable // nil unless on the heap
	readOnly bool           // made by View
	refs     atomic.Int64

	mu       sync.Mutex
	fd       int    // guarded by mu; the data description, never locked; -1: closed, or none
	path     string // guarded by mu; the temporary name while a named segment is being built, if it has one
	lockable bool   // guarded by mu; the file system was seen to do byte locks
}

// mapFile maps all of the file behind fd. On success the segment owns fd; on failure the caller
// still does.
func mapFile(kind Kind, fd int, name, path string) (*Segment, error) {
	return mapFileFor(mmap.RDWR, kind, fd, name, path)
}

func mapFileFor(access int, kind Kind, fd int, name, path string) (*Segment, error) {
	file, size, err := statSegment(fd)
	if err != nil {
		return nil, err
	}
	mapped, err := mapShared(fd, int(size), access)
	if err != nil {
		return nil, err
	}
	// The memory of a router is other people's messages: it does not belong in a core dump.
	if err := unix.Madvise(mapped, unix.MADV_DONTDUMP); err != nil {
		return nil, errors.Join(os.NewSyscallError("madvise", err), mapped.Unmap())
	}
	s := &Segment{kind: kind, name: name, identity: file.String(), mem: mapped, mapped: mapped, file: file, fd: fd, path: path}
	s.pageSize, s.readOnly = filePageSize(fd), access == mmap.RDONLY
	s.token = takeToken(s.identity)
	s.refs.Store(1)
	return s, nil
}

// mapShared maps through a descriptor of its own, which is closed at once: the mapping keeps the
// description, and an os.File over the segment's descriptor would close that number when it is
// collected, whoever owns it by then.
func mapShared(fd, size, access int) (mmap.MMap, error) {
	f, err := dupFile(fd, "segment")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	mapped, err := mmap.MapRegion(f, size, access, 0, 0)
	return mapped, os.NewSyscallError("mmap", err)
}

// Kind says what holds the memory.
func (s *Segment) Kind() Kind { return s.kind }

// Size returns the size in bytes. It never changes.
func (s *Segment) Size() int64 { return int64(len(s.mem)) }

// Name returns a name for messages to people: that of the memfd, or the last element of the path.
func (s *Segment) Name() string { return s.name }

// Path returns the absolute path of a Named segment, or "" where there is none. Within the init
// function of CreateNamed it is not final. The path may meanwhile be gone, or name another file.
func (s *Segment) Path() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.path
}

// Identity returns a string that is the same for two segments exactly if they share their memory,
// in one process or in several: device and inode number of the file, or the address on the heap. It
// is unique among segments that exist at the same time.
func (s *Segment) Identity() string { return s.identity }

// Bytes returns the whole memory, owned by the segment and shared with every process that maps it.
// It panics if the segment is closed.
func (s *Segment) Bytes() []byte {
	s.mustBeOpen()
	return s.mem
}

// File returns a new descriptor of the file, to be handed to another process, as in
// exec.Cmd.ExtraFiles. The caller owns and closes it. It is the description that this segment maps,
// and no lock is ever taken through it, so whoever inherits it cannot keep a lock alive. The error
// is ErrNoFile for a heap segment, and os.ErrClosed after Close or if somebody else has closed the
// segment's descriptor.
func (s *Segment) File() (f *os.File, err error) {
	defer wrapf(&err, "file of segment %s", s.name)
	if s.kind == Heap {
		return nil, ErrNoFile
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 || !s.file.isBehind(s.fd) {
		return nil, os.ErrClosed
	}
	return dupFile(s.fd, s.name)
}

// Retain adds a reference, to be given back by one more Close. The error is os.ErrClosed if the
// last one is gone already.
func (s *Segment) Retain() error {
	for {
		n := s.refs.Load()
		if n == 0 {
			return fmt.Errorf("shm: retain segment %s: %w", s.name, os.ErrClosed)
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return nil
		}
	}
}

// Close gives back one reference; the last one unmaps the memory, after which every pointer into it
// is invalid. The caller sees to it that nobody uses one any more. The file of a Named segment
// stays: see Unlink. Closing more often than Retain allows is os.ErrClosed, without effect. Locks
// of the segment live on until they are closed themselves.
func (s *Segment) Close() error {
	for {
		n := s.refs.Load()
		if n == 0 {
			return fmt.Errorf("shm: close segment %s: %w", s.name, os.ErrClosed)
		}
		if s.refs.CompareAndSwap(n, n-1) {
			if n > 1 {
				return nil
			}
			return s.unmap()
		}
	}
}

func (s *Segment) unmap() (err error) {
	defer wrapf(&err, "close segment %s", s.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token.release(s.identity)
	if s.kind == Heap {
		return nil // the collector frees it, when the last pointer is gone
	}
	if s.file.isBehind(s.fd) { // otherwise somebody closed it, and the number may be another file's by now
		err = os.NewSyscallError("close", unix.Close(s.fd))
	}
	s.fd = -1
	return errors.Join(err, os.NewSyscallError("munmap", s.mapped.Unmap()))
}

// mustBeOpen panics on a use after Close that would otherwise be a fault, or worse, a write to
// whatever is mapped there by then.
func (s *Segment) mustBeOpen() {
	if s.refs.Load() == 0 {
		panic("shm: use of closed segment " + s.name)
	}
}
