package shm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// NewMemfd creates a segment of size bytes in a memfd called name (at most 249 bytes, shown in
// /proc, of no further meaning). The first reserve bytes get their pages now; the rest gets them
// when first touched, and counts against the memory limits of whoever touches it. Its size is
// sealed: nobody who has the descriptor can ever truncate it. It is readable and writable by this
// user only, closed on exec unless it is handed over with File, and gone with its last descriptor
// and mapping.
//
// The error is ErrSize for a size that is not a positive multiple of the page size, or a reserve
// beyond it, and ErrNoSpace if the pages cannot be had.
func NewMemfd(name string, size, reserve int64) (_ *Segment, err error) {
	defer wrapf(&err, "create memfd %q", name)
	if err := checkReserve(size, reserve); err != nil {
		return nil, err
	}
	return newMemfd(name, size, reserve, 0, nil)
}

func checkReserve(size, reserve int64) error {
	if err := checkSize(size); err != nil {
		return err
	}
	if reserve < 0 || reserve > size {
		return fmt.Errorf("%w: reserving %d of %d bytes", ErrSize, reserve, size)
	}
	return nil
}

// newMemfd creates the file with flags besides the usual ones. advise, unless nil, is called
// before the first reserve bytes get their pages.
func newMemfd(name string, size, reserve int64, flags int, advise func(fd int, size, reserve int64)) (*Segment, error) {
	var undo undoList
	defer undo.run()

	fd, err := memfdCreate(name, flags)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	undo.add(func() { unix.Close(fd) })
	if err := unix.Fchmod(fd, 0o600); err != nil {
		return nil, os.NewSyscallError("fchmod", err)
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		return nil, spaceError("ftruncate", err)
	}
	if advise != nil {
		advise(fd, size, reserve)
	}
	if err := allocate(fd, reserve); err != nil {
		return nil, err
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	s, err := mapFile(Memfd, fd, name, "")
	if err != nil {
		return nil, err
	}
	undo.keep()
	return s, nil
}

// memfdCreate asks for a memfd that cannot be executed, which kernels before 6.3 do not know and
// some later ones insist on.
func memfdCreate(name string, flags int) (int, error) {
	flags |= unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(name, flags)
	}
	return fd, err
}

// FromFile maps a segment from a descriptor, usually an inherited one. It duplicates f, which stays
// the caller's to close. A file whose seals forbid shrinking is a Memfd; any other is Named,
// whether or not it has a path: somebody may truncate it.
//
// The error is os.ErrClosed if f is closed, ErrNotRegular if it is no file, ErrEmpty or ErrSize if
// its size is not a segment's, and fs.ErrPermission if it is not open for reading and writing.
func FromFile(f *os.File) (_ *Segment, err error) {
	defer wrapf(&err, "segment from descriptor %s", f.Name())
	var undo undoList
	defer undo.run()

	fd, err := dupFD(f)
	if err != nil {
		return nil, err
	}
	undo.add(func() { unix.Close(fd) })
	kind := Named
	if seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0); err == nil && seals&unix.F_SEAL_SHRINK != 0 {
		kind = Memfd
	}
	name, path := nameOf(fd)
	s, err := mapFile(kind, fd, name, path)
	if err != nil {
		return nil, err
	}
	undo.keep()
	return s, nil
}

// dupFD duplicates f's descriptor without f.Fd, which may change the mode of the description.
func dupFD(f *os.File) (int, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var dupErr error
	if err := conn.Control(func(raw uintptr) { fd, dupErr = dupNumber(int(raw)) }); err != nil {
		return -1, os.ErrClosed // the only reason there is, but not in its chain
	}
	return fd, dupErr
}

// nameOf finds the name of a memfd, or the path of a file that has one.
func nameOf(fd int) (name, path string) {
	target, err := os.Readlink(procFD(fd))
	if err != nil {
		return fmt.Sprintf("descriptor %d", fd), ""
	}
	if memfd, ok := strings.CutPrefix(target, "/memfd:"); ok {
		return strings.TrimSuffix(memfd, " (deleted)"), ""
	}
	if file, _, err := statSegment(fd); err == nil && file.isAt(target) {
		path = target
	}
	return filepath.Base(target), path
}

// procFD is a path that opens the same file again, as another description.
func procFD(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
