package inspect

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// ErrName says that a text names no segment: it is neither a path nor PID:FD.
var ErrName = errors.New("not a path, and not PID:FD")

// Segment is a segment that is looked at. It is for one goroutine.
type Segment struct {
	Name string // as it was asked for
	ID   FileID
	Ring *ring.Ring

	// Dir is the router's directory of pipes, nil if there is none; DirErr says why: wire.ErrNoDirectory for a
	// ring that is used without a router, wire.ErrDamaged.
	Dir    *wire.Directory
	DirErr error

	file *os.File
	link string // what the descriptor's link in /proc says
}

// FileID is what makes two files the same one.
type FileID struct {
	Dev uint64
	Ino uint64
}

// String is what shm.Segment.Identity returns.
func (id FileID) String() string { return fmt.Sprintf("file:%x:%x", id.Dev, id.Ino) }

// Locate returns the path at which to open what a name means: a path is itself, PID:FD a descriptor of
// a process. The error is ErrName.
func Locate(name string) (string, error) {
	pid, fd, ok := strings.Cut(name, ":")
	if ok && isNumber(pid) && isNumber(fd) {
		return fmt.Sprintf("/proc/%s/fd/%s", pid, fd), nil
	}
	if name == "" || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%q: %w", name, ErrName)
	}
	return name, nil
}

func isNumber(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= 0 && s[0] != '+' && s[0] != '-'
}

// Open looks at the segment of that name, a path or PID:FD. Errors: ErrName; fs.ErrNotExist and
// fs.ErrPermission; shm.ErrNotRegular, shm.ErrEmpty; and those of ring.Open.
func Open(name string) (_ *Segment, err error) {
	path, err := Locate(name)
	if err != nil {
		return nil, err
	}
	file, err := openRegular(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, reason(err))
	}
	s, err := open(name, file)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// reason drops the path that is told already.
func reason(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}

// openRegular opens a file for reading that is looked at first, since opening a device may have effects. The
// links in /proc/PID/fd are followed, others are not.
func openRegular(path string) (*os.File, error) {
	look := os.Lstat
	flags := os.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	if isDescriptor(path) {
		look = os.Stat
	} else {
		flags |= unix.O_NOFOLLOW
	}
	st, err := look(path)
	if err != nil {
		return nil, err
	}
	if st.Mode().Type() == fs.ModeSymlink {
		return nil, fmt.Errorf("%w: a link, and links are not followed", shm.ErrNotRegular)
	}
	if !st.Mode().IsRegular() {
		return nil, shm.ErrNotRegular
	}
	return os.OpenFile(path, flags, 0)
}

func isDescriptor(path string) bool {
	ok, _ := filepath.Match("/proc/*/fd/*", path)
	return ok
}

// open maps what it knows to be there: the first bytes are read before anything is mapped, so that of a file
// with holes, which is no segment, no page comes to be by looking.
func open(name string, file *os.File) (_ *Segment, err error) {
	s := &Segment{Name: name, file: file}
	if s.ID, err = idOf(file); err != nil {
		return nil, err
	}
	s.link, _ = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	first := make([]byte, 8)
	n, err := file.ReadAt(first, 0)
	switch {
	case n == 0 && err == io.EOF:
		return nil, shm.ErrEmpty
	case err != nil && err != io.EOF:
		return nil, reason(err)
	case n == len(first) && [8]byte(first) == [8]byte{}:
		return nil, ring.ErrUnfinished
	case !ring.HasMagic(first[:n]):
		return nil, fmt.Errorf("%w: it begins with %q", ring.ErrNotSegment, first[:n])
	}
	seg, err := shm.View(file)
	if errors.Is(err, shm.ErrSize) {
		return nil, fmt.Errorf("%w: %w", ring.ErrTruncated, shm.ErrSize)
	}
	if err != nil {
		return nil, err
	}
	defer seg.Close() // the ring keeps it
	if s.Ring, err = ring.Open(seg); err != nil {
		return nil, err
	}
	if err := s.allocated(); err != nil {
		s.Ring.Close()
		return nil, err
	}
	s.openDirectory()
	return s, nil
}

// allocated refuses a segment in memory whose maker did not allocate it: all up to the application's area is, always,
// and where it is not a look would do it, for somebody who wrote 4 KiB a thousand times as much.
func (s *Segment) allocated() error {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := errors.Join(unix.Fstatfs(int(s.file.Fd()), &fs), unix.Fstat(int(s.file.Fd()), &st)); err != nil {
		return err
	}
	if off, _ := s.Ring.User(); fs.Type == unix.TMPFS_MAGIC && st.Blocks*512 < off {
		return fmt.Errorf("%w: %d bytes of memory are there, and its maker allocates %d", ring.ErrTruncated, st.Blocks*512, off)
	}
	return nil
}

func (s *Segment) openDirectory() {
	off, size := s.Ring.User()
	if size == 0 || !s.hasPage(off) {
		s.DirErr = wire.ErrNoDirectory
		return
	}
	s.Dir, s.DirErr = wire.Open(s.Ring.Segment(), off, size)
}

// hasPage reports whether the byte at off is backed by memory, which it would be after a look through the
// mapping.
func (s *Segment) hasPage(off int64) bool {
	at, err := unix.Seek(int(s.file.Fd()), off, unix.SEEK_DATA)
	return err == nil && at == off
}

func idOf(f *os.File) (FileID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return FileID{}, err
	}
	return FileID{uint64(st.Dev), st.Ino}, nil
}

// Memfd reports whether the file has no path because it never had one.
func (s *Segment) Memfd() bool { return strings.HasPrefix(s.link, "/memfd:") }

// Path returns the path of the file, or "" if it has none, or has none any more.
func (s *Segment) Path() string {
	if s.Memfd() {
		return ""
	}
	if !leadsTo(s.link, s.ID) {
		return ""
	}
	return s.link
}

// Lost reports whether the name by which it was opened leads to this file no more.
func (s *Segment) Lost() bool {
	path, _ := Locate(s.Name)
	var st unix.Stat_t
	look := unix.Lstat
	if isDescriptor(path) {
		look = unix.Stat
	}
	return look(path, &st) != nil || (FileID{uint64(st.Dev), st.Ino}) != s.ID
}

// Close ends the look.
func (s *Segment) Close() error { return errors.Join(s.Ring.Close(), s.file.Close()) }
