package shm

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// DefaultDir returns the directory where named segments belong: /dev/shm if this process may create
// files there, else os.TempDir, which may be on a disk.
func DefaultDir() string {
	const dir = "/dev/shm"
	if st, err := os.Stat(dir); err == nil && st.IsDir() && unix.Access(dir, unix.W_OK|unix.X_OK) == nil {
		return dir
	}
	return os.TempDir()
}

// CreateNamed creates a segment of size bytes in a file at path, readable and writable by this user
// only, with all of its pages allocated. It is built without a name: init, which may be nil, fills
// it and takes what locks it wants, and only then does path begin to exist. Whoever opens path sees
// a finished segment, and after a failure, or a panic of init, there is nothing left. What init
// itself opened or retained, it closes before it fails.
//
// The error is fs.ErrExist if there is anything at path, also a dangling link; ErrSize; ErrNoSpace;
// fs.ErrNotExist or fs.ErrPermission from the directory; or what init returned.
//
// Where the file system cannot create unnamed files, or /proc is missing, a hidden name beside
// path, beginning with a dot, takes their place, and is left behind if the process is killed
// meanwhile.
func CreateNamed(path string, size int64, init func(*Segment) error) (*Segment, error) {
	return createNamed(path, size, init, openUnnamed)
}

// createNamed is CreateNamed with a choice of the first attempt, open.
func createNamed(path string, size int64, init func(*Segment) error,
	open func(path string) (int, string, error)) (_ *Segment, err error) {
	defer wrapf(&err, "create %s", path)
	if err := checkSize(size); err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil { // the working directory may change
		return nil, err
	}
	if _, err := os.Lstat(path); err == nil { // a courtesy, before any work: publish decides
		return nil, fs.ErrExist
	}
	var undo undoList
	defer undo.run()

	fd, temp, err := open(path)
	if err != nil {
		return nil, err
	}
	closeFD := func() { unix.Close(fd) }
	undo.add(func() { closeFD() })
	if temp != "" {
		undo.add(func() { unix.Unlink(temp) })
	}
	if err := unix.Fchmod(fd, 0o600); err != nil { // whatever the umask took away
		return nil, os.NewSyscallError("fchmod", err)
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		return nil, spaceError("ftruncate", err)
	}
	if err := allocate(fd, size); err != nil {
		return nil, err
	}
	s, err := mapFile(Named, fd, filepath.Base(path), temp)
	if err != nil {
		return nil, err
	}
	closeFD = func() { s.Close() } // which owns fd now
	if init != nil {
		if err := init(s); err != nil {
			return nil, err
		}
	}
	if err := publish(fd, temp, path); err != nil {
		return nil, err
	}
	s.moveTo(path)
	undo.keep()
	return s, nil
}

// openUnnamed opens a file without a name in the directory of path, or else one with a temporary
// name, which it returns.
func openUnnamed(path string) (fd int, temp string, err error) {
	if _, err := os.Stat("/proc/self/fd"); err != nil { // needed to give it its name
		return openHidden(path)
	}
	fd, err = openFile(filepath.Dir(path), unix.O_TMPFILE|unix.O_RDWR)
	for _, unsupported := range []error{unix.EOPNOTSUPP, unix.EISDIR, unix.EINVAL} { // it depends
		if errors.Is(err, unsupported) {
			return openHidden(path)
		}
	}
	return fd, "", err
}

// openHidden creates a file under a name beside path that nobody else has.
func openHidden(path string) (fd int, temp string, err error) {
	for range 100 {
		temp = filepath.Join(filepath.Dir(path), fmt.Sprintf(".shm-%016x", rand.Uint64()))
		fd, err = openFile(temp, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_NOFOLLOW)
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return fd, temp, err
}

func openFile(path string, flags int) (fd int, err error) {
	err = retryEINTR(func() (err error) {
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC, 0o600)
		return err
	})
	return fd, os.NewSyscallError("open", err)
}

// publish gives the finished file its path, at one instant, unless there is something already.
func publish(fd int, temp, path string) error {
	if temp == "" {
		return os.NewSyscallError("linkat", unix.Linkat(unix.AT_FDCWD, procFD(fd), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW))
	}
	err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return os.NewSyscallError("renameat2", err)
	}
	if err := unix.Link(temp, path); err != nil { // file systems without the above
		return os.NewSyscallError("link", err)
	}
	unix.Unlink(temp) // path stands, whether or not this works
	return nil
}

// moveTo makes path the segment's own. A description that was opened without a name, or under
// another, never learns its path; one that is opened by path knows it, and tells those who inherit
// it.
func (s *Segment) moveTo(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.path = path
	if fd, err := s.openSame(path); err == nil { // otherwise it has been removed already, and the old one does
		unix.Close(s.fd)
		s.fd = fd
	}
}

// OpenNamed maps the segment in the file at path, for reading and writing.
//
// The error is fs.ErrNotExist or fs.ErrPermission; ErrNotRegular for a symbolic link, which is
// never followed, or anything else that is no file; ErrEmpty, or ErrSize for a size that is not a
// multiple of the page size. What the file holds is not looked at.
func OpenNamed(path string) (_ *Segment, err error) {
	defer wrapf(&err, "open %s", path)
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	// Looked at before it is opened, since opening a device may have effects; and again afterwards,
	// since it may have changed.
	st, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, ErrNotRegular
	}
	var undo undoList
	defer undo.run()

	fd, err := openFile(path, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
	if errors.Is(err, unix.ELOOP) {
		return nil, ErrNotRegular
	}
	if err != nil {
		return nil, err
	}
	undo.add(func() { unix.Close(fd) })
	if err := unix.SetNonblock(fd, false); err != nil { // it was for a pipe in the file's place
		return nil, os.NewSyscallError("fcntl", err)
	}
	s, err := mapFile(Named, fd, filepath.Base(path), path)
	if err != nil {
		return nil, err
	}
	undo.keep()
	return s, nil
}

// Unlink removes the segment's path, if that still is its file; the memory stays until everybody
// has closed it. The error is ErrNoPath if it has none, ErrReplaced if the path names another file,
// fs.ErrNotExist if it is gone. Between looking and removing, another file might take its place:
// who shares a directory with such neighbours has to agree with them.
func (s *Segment) Unlink() (err error) {
	defer wrapf(&err, "unlink segment %s", s.name)
	path := s.Path()
	if s.kind != Named || path == "" {
		return ErrNoPath
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return os.NewSyscallError("lstat", err)
	}
	if inodeOf(&st) != s.file {
		return ErrReplaced
	}
	return os.NewSyscallError("unlink", unix.Unlink(path))
}
