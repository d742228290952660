package shm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestSegmentMemory(t *testing.T) {
	forKinds(t, allKinds, func(t *testing.T, kind Kind) {
		s := newSegment(t, kind)
		require.Equal(t, kind, s.Kind())
		require.Equal(t, 2*page, s.Size())
		require.Len(t, s.Bytes(), int(2*page))
		require.Equal(t, int(2*page), cap(s.Bytes()))
		require.Zero(t, uintptr(s.Base())%uintptr(page), "base on a page")
		require.NotEmpty(t, s.Name())
		for _, b := range s.Bytes() {
			require.Zero(t, b)
		}

		s.Word64(8).Store(0x1122334455667788)
		require.Equal(t, uint32(0x55667788), Word32Low(s.Word64(8)).Load())
		s.Bytes()[2*page-1] = 7
		require.NotZero(t, s.Word32(2*page-4).Load())
		require.NotZero(t, s.Word64(2*page-8).Load())
	})
}

func TestSegmentWordRefusesBadOffsets(t *testing.T) {
	s := newSegment(t, Heap)
	for _, off := range []int64{-8, -1, 1, 4, 7, 2*page - 4, 2 * page, 1 << 62, -1 << 63} {
		require.Panics(t, func() { s.Word64(off) }, "64 bits at %d", off)
	}
	for _, off := range []int64{-4, 1, 2, 3, 2*page - 3, 2 * page, 1<<63 - 4} {
		require.Panics(t, func() { s.Word32(off) }, "32 bits at %d", off)
	}
}

func TestSegmentReferences(t *testing.T) {
	forKinds(t, allKinds, func(t *testing.T, kind Kind) {
		s := newSegment(t, kind)
		require.NoError(t, s.Retain())
		require.NoError(t, s.Close())
		s.Bytes()[0] = 1 // one reference is left
		require.NoError(t, s.Close())

		require.ErrorIs(t, s.Close(), os.ErrClosed)
		require.ErrorIs(t, s.Retain(), os.ErrClosed)
		_, err := s.OpenLocks()
		require.ErrorIs(t, err, os.ErrClosed)
		_, err = s.File()
		require.Error(t, err)
		for _, use := range []func(){func() { s.Bytes() }, func() { s.Base() }, func() { s.Word64(0) }, func() { s.Word32(0) }} {
			require.PanicsWithValue(t, "shm: use of closed segment "+s.Name(), use)
		}
		require.Equal(t, 2*page, s.Size(), "size outlives the memory")
	})
}

func TestSegmentIdentity(t *testing.T) {
	noLeaks(t)
	seen := map[string]bool{}
	for _, kind := range allKinds {
		for range 2 {
			s := newSegment(t, kind)
			require.False(t, seen[s.Identity()], "two segments called %s", s.Identity())
			seen[s.Identity()] = true
			if kind == Heap {
				continue
			}
			f, err := s.File()
			require.NoError(t, err)
			defer f.Close()
			again, err := FromFile(f)
			require.NoError(t, err)
			defer again.Close()
			require.Equal(t, s.Identity(), again.Identity())
			require.NotEqual(t, s.Base(), again.Base())
			require.Equal(t, s.RaceToken(), again.RaceToken())
		}
	}
	require.NotEqual(t, newSegment(t, Heap).RaceToken(), newSegment(t, Heap).RaceToken())
}

func TestSizesRefused(t *testing.T) {
	noLeaks(t)
	path := filepath.Join(t.TempDir(), "x")
	for _, size := range []int64{0, -1, -page, 1, page - 1, page + 1} {
		_, err := NewMemfd("x", size, 0)
		require.ErrorIs(t, err, ErrSize)
		_, err = NewHeap(size)
		require.ErrorIs(t, err, ErrSize)
		_, err = CreateNamed(path, size, nil)
		require.ErrorIs(t, err, ErrSize)
	}
	for _, reserve := range []int64{-1, page + 1} {
		_, err := NewMemfd("x", page, reserve)
		require.ErrorIs(t, err, ErrSize)
	}
	_, err := NewMemfd(strings.Repeat("x", 300), page, 0)
	require.ErrorIs(t, err, unix.EINVAL)
	require.NoFileExists(t, path)
}

func TestMemfdIsSealedAndPrivate(t *testing.T) {
	noLeaks(t)
	s, err := NewMemfd("sealed", 64*page, 3*page)
	require.NoError(t, err)
	defer s.Close()
	f, err := s.File()
	require.NoError(t, err)
	defer f.Close()

	require.ErrorIs(t, f.Truncate(page), unix.EPERM, "shrink")
	require.ErrorIs(t, f.Truncate(65*page), unix.EPERM, "grow")
	require.ErrorIs(t, os.Truncate(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), 0), unix.EPERM, "by another description")
	_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE)
	require.ErrorIs(t, err, unix.EPERM, "further seals")

	var st unix.Stat_t
	require.NoError(t, unix.Fstat(int(f.Fd()), &st))
	require.Equal(t, uint32(0o600), st.Mode&0o777)
	require.GreaterOrEqual(t, st.Blocks*512, 3*page, "reserved")
	require.Less(t, st.Blocks*512, 64*page, "the rest is sparse")
	for _, fd := range []int{s.fd, int(f.Fd())} {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		require.NoError(t, err)
		require.Equal(t, unix.FD_CLOEXEC, flags&unix.FD_CLOEXEC)
	}
	mode, flags := mapping(t, s.address())
	require.Equal(t, "rw-s", mode)
	require.Contains(t, flags, "dd", "kept out of core dumps")
}

// mapping returns what the kernel says of the mapping that begins at addr: its mode, and the flags of madvise.
func mapping(t *testing.T, addr uintptr) (mode string, flags []string) {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	require.NoError(t, err)
	_, rest, ok := strings.Cut("\n"+string(smaps), fmt.Sprintf("\n%x-", addr))
	require.True(t, ok, "nothing is mapped at %x", addr)
	mode = strings.Fields(rest)[1]
	_, rest, _ = strings.Cut(rest, "VmFlags:")
	line, _, _ := strings.Cut(rest, "\n")
	return mode, strings.Fields(line)
}

func TestFromFile(t *testing.T) {
	forKinds(t, fileKinds, func(t *testing.T, kind Kind) {
		s := newSegment(t, kind)
		f, err := s.File()
		require.NoError(t, err)
		defer f.Close()
		again, err := FromFile(f)
		require.NoError(t, err)
		defer again.Close()
		require.Equal(t, kind, again.Kind())
		require.Equal(t, s.Name(), again.Name())
		require.Equal(t, s.Path(), again.Path())
		again.Bytes()[5] = 5
		require.Equal(t, byte(5), s.Bytes()[5])
		_, err = f.Stat()
		require.NoError(t, err, "still the caller's")
	})
}

func TestFromFileUnlinked(t *testing.T) {
	noLeaks(t)
	s := newSegment(t, Named)
	require.NoError(t, s.Unlink())
	f, err := s.File()
	require.NoError(t, err)
	defer f.Close()
	again, err := FromFile(f)
	require.NoError(t, err)
	defer again.Close()
	require.Equal(t, Named, again.Kind())
	require.Empty(t, again.Path())
	require.ErrorIs(t, again.Unlink(), ErrNoPath)
}

func TestFromFileRefuses(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	file := func(size int64, flags int) func() *os.File {
		return func() *os.File {
			path := filepath.Join(dir, "file")
			require.NoError(t, os.WriteFile(path, make([]byte, size), 0o600))
			f, err := os.OpenFile(path, flags, 0)
			require.NoError(t, err)
			return f
		}
	}
	tests := []struct {
		name string
		open func() *os.File
		want error
	}{
		{"empty", file(0, os.O_RDWR), ErrEmpty},
		{"odd size", file(page+1, os.O_RDWR), ErrSize},
		{"read only", file(page, os.O_RDONLY), fs.ErrPermission},
		{"write only", file(page, os.O_WRONLY), fs.ErrPermission},
		{"closed", func() *os.File { f := file(page, os.O_RDWR)(); f.Close(); return f }, os.ErrClosed},
		{"directory", func() *os.File { f, _ := os.Open(dir); return f }, ErrNotRegular},
		{"pipe", func() *os.File { r, w, _ := os.Pipe(); w.Close(); return r }, ErrNotRegular},
		{"device", func() *os.File { f, _ := os.OpenFile("/dev/null", os.O_RDWR, 0); return f }, ErrNotRegular},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := test.open()
			defer f.Close()
			_, err := FromFile(f)
			requireOnly(t, err, test.want)
		})
	}
}

// requireOnly checks that err is want and none of the other errors that this package tells apart.
func requireOnly(t *testing.T, err, want error) {
	t.Helper()
	require.ErrorIs(t, err, want)
	for _, other := range []error{ErrSize, ErrEmpty, ErrNotRegular, ErrNoSpace, ErrNoFile, ErrNoPath, ErrReplaced, ErrNoLocks, ErrFault,
		ErrDeadline, os.ErrClosed, os.ErrProcessDone, fs.ErrExist, fs.ErrNotExist, fs.ErrPermission} {
		if other != want {
			require.False(t, errors.Is(err, other), "%v is also %v", err, other)
		}
	}
	require.Contains(t, err.Error(), "shm: ")
}

func TestFileOfHeap(t *testing.T) {
	_, err := newSegment(t, Heap).File()
	requireOnly(t, err, ErrNoFile)
}

// A child gets the description, sees the same memory, and takes locks of its own.
func TestInheritAcrossExec(t *testing.T) {
	forKinds(t, fileKinds, func(t *testing.T, kind Kind) {
		s := newSegment(t, kind)
		f, err := s.File()
		require.NoError(t, err)
		defer f.Close()
		s.Word64(64).Store(41)
		w := startWorker(t, "inherit", "", nil, f)
		require.Equal(t, fmt.Sprint(kind, " ", s.Name(), " ", s.Identity()), w.expect("segment"))
		require.Equal(t, uint64(42), s.Word64(64).Load())
		w.finish()
	})
}

func roleInherit() {
	s := inherited()
	s.Word64(64).Add(1)
	l := must(s.OpenLocks())
	must(l.TryLock(0))
	check(l.Close())
	say("segment %s %s %s", s.Kind(), s.Name(), s.Identity())
	check(s.Close())
}

// Somebody closes every descriptor, and the numbers come to belong to others: these must survive
// our Close.
func TestStrayCloseOfDataDescriptor(t *testing.T) {
	forKinds(t, fileKinds, func(t *testing.T, kind Kind) {
		s := newSegment(t, kind)
		fd := s.fd
		require.NoError(t, unix.Close(fd))
		_, err := s.File()
		requireOnly(t, err, os.ErrClosed)

		openAs(t, fd, "/dev/null")
		defer unix.Close(fd)
		s.Bytes()[0] = 1
		_, err = s.File()
		requireOnly(t, err, os.ErrClosed)
		require.NoError(t, s.Close())
		require.True(t, isOpen(fd))
	})
}

// openAs opens path under the descriptor number fd.
func openAs(t *testing.T, fd int, path string) {
	t.Helper()
	other, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	if other != fd {
		require.NoError(t, unix.Dup3(other, fd, unix.O_CLOEXEC))
		require.NoError(t, unix.Close(other))
	}
}

func TestNoLeaksOverManyCycles(t *testing.T) {
	forKinds(t, allKinds, func(t *testing.T, kind Kind) {
		dir := t.TempDir()
		for i := range 50 {
			s, err := map[Kind]func() (*Segment, error){
				Memfd: func() (*Segment, error) { return NewMemfd("shm-cycle", page, page) },
				Named: func() (*Segment, error) { return CreateNamed(filepath.Join(dir, fmt.Sprint(i)), page, nil) },
				Heap:  func() (*Segment, error) { return NewHeap(page) },
			}[kind]()
			require.NoError(t, err)
			l, err := s.OpenLocks()
			require.NoError(t, err)
			_, err = l.TryLock(1)
			require.NoError(t, err)
			require.NoError(t, l.Close())
			if kind == Named {
				require.NoError(t, s.Unlink())
			}
			require.NoError(t, s.Close())
		}
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, entries)
	})
	require.Empty(t, tokens.by)
}

func TestKindString(t *testing.T) {
	require.Equal(t, []string{"memfd", "named", "heap", "Kind(7)"}, []string{Memfd.String(), Named.String(), Heap.String(), Kind(7).String()})
}
