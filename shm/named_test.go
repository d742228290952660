package shm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/shmrouter/shmrouter/internal/hosttest"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The two ways to build a file that nobody sees yet.
var strategies = map[string]func(string) (int, string, error){"unnamed": openUnnamed, "hidden": openHidden}

func forStrategies(t *testing.T, test func(t *testing.T, create func(string, int64, func(*Segment) error) (*Segment, error))) {
	for name, open := range strategies {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			test(t, func(path string, size int64, init func(*Segment) error) (*Segment, error) {
				return createNamed(path, size, init, open)
			})
		})
	}
}

type creator = func(string, int64, func(*Segment) error) (*Segment, error)

func TestCreateNamed(t *testing.T) {
	forStrategies(t, func(t *testing.T, create creator) {
		path := filepath.Join(t.TempDir(), "segment")
		defer unix.Umask(unix.Umask(0o777))
		var locks *Locks
		s, err := create(path, 16*page, func(s *Segment) (err error) {
			require.NoFileExists(t, path, "not before it is finished")
			s.Word64(0).Store(99)
			if locks, err = s.OpenLocks(); err == nil {
				_, err = locks.TryLock(3)
			}
			return err
		})
		require.NoError(t, err)
		defer s.Close()
		defer locks.Close()
		require.Equal(t, path, s.Path())
		require.Equal(t, "segment", s.Name())

		var st unix.Stat_t
		require.NoError(t, unix.Lstat(path, &st))
		require.Equal(t, uint32(unix.S_IFREG|0o600), st.Mode)
		require.GreaterOrEqual(t, st.Blocks*512, 16*page, "all of it allocated")
		require.Equal(t, uint64(1), uint64(st.Nlink))
		require.Equal(t, []string{"segment"}, names(t, filepath.Dir(path)))

		again, err := OpenNamed(path)
		require.NoError(t, err)
		defer again.Close()
		require.Equal(t, Named, again.Kind())
		require.Equal(t, s.Identity(), again.Identity())
		require.Equal(t, uint64(99), again.Word64(0).Load())
		other, err := again.OpenLocks()
		require.NoError(t, err)
		defer other.Close()
		held, err := other.Held(3)
		require.NoError(t, err)
		require.True(t, held, "what init locked stays locked")
	})
}

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestCreateNamedRefusesWhatIsThere(t *testing.T) {
	forStrategies(t, func(t *testing.T, create creator) {
		for name, put := range map[string]func(path string) error{
			"file":          func(path string) error { return os.WriteFile(path, []byte("mine"), 0o600) },
			"directory":     func(path string) error { return os.Mkdir(path, 0o700) },
			"link":          func(path string) error { return os.Symlink("/dev/null", path) },
			"dangling link": func(path string) error { return os.Symlink("nowhere", path) },
		} {
			for when, early := range map[string]bool{"before": true, "meanwhile": false} {
				path := filepath.Join(t.TempDir(), "x")
				if early {
					require.NoError(t, put(path))
				}
				_, err := create(path, page, func(*Segment) error {
					require.False(t, early, "no work for nothing")
					return put(path)
				})
				require.ErrorIs(t, err, fs.ErrExist, "%s %s", name, when)
				require.Equal(t, []string{"x"}, names(t, filepath.Dir(path)))
			}
		}
	})
}

func TestCreateNamedLeavesNothingBehind(t *testing.T) {
	forStrategies(t, func(t *testing.T, create creator) {
		path := filepath.Join(t.TempDir(), "x")
		cause := errors.New("no")
		_, err := create(path, page, func(s *Segment) error { return cause })
		requireOnly(t, err, cause)
		require.Empty(t, names(t, filepath.Dir(path)))

		require.PanicsWithValue(t, "init panics", func() {
			create(path, page, func(*Segment) error { panic("init panics") })
		})
		require.Empty(t, names(t, filepath.Dir(path)))

		_, err = create(filepath.Join(path, "y"), page, nil)
		requireOnly(t, err, fs.ErrNotExist)
	})
}

// Many create at one path, others open it: one wins, and nobody sees an unfinished one.
func TestCreateNamedRace(t *testing.T) {
	forStrategies(t, func(t *testing.T, create creator) {
		path := filepath.Join(t.TempDir(), "x")
		var wins, opened atomic.Int32
		var creators, openers sync.WaitGroup
		for range 4 {
			openers.Go(func() {
				for opened.Load() == 0 {
					s, err := OpenNamed(path)
					if errors.Is(err, fs.ErrNotExist) {
						continue
					}
					if err != nil || s.Word64(2*page-8).Load() != 7 {
						t.Errorf("unfinished: %v", err)
					}
					s.Close()
					opened.Add(1)
				}
			})
		}
		for range 8 {
			creators.Go(func() {
				s, err := create(path, 2*page, func(s *Segment) error { s.Word64(2*page - 8).Store(7); return nil })
				if err == nil {
					wins.Add(1)
					s.Close()
				} else if !errors.Is(err, fs.ErrExist) {
					t.Error(err)
				}
			})
		}
		creators.Wait()
		openers.Wait()
		require.Equal(t, int32(1), wins.Load())
		require.Equal(t, []string{"x"}, names(t, filepath.Dir(path)))
	})
}

func TestOpenNamedRefuses(t *testing.T) {
	noLeaks(t)
	write := func(size int64) func(string) error {
		return func(path string) error { return os.WriteFile(path, make([]byte, size), 0o600) }
	}
	tests := []struct {
		name string
		put  func(path string) error
		want error
	}{
		{"nothing", func(string) error { return nil }, fs.ErrNotExist},
		{"empty", write(0), ErrEmpty},
		{"small", write(1), ErrSize},
		{"odd", write(page + 8), ErrSize},
		{"directory", func(path string) error { return os.Mkdir(path, 0o700) }, ErrNotRegular},
		{"pipe", func(path string) error { return unix.Mkfifo(path, 0o600) }, ErrNotRegular},
		{"socket", func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) }, ErrNotRegular},
		{"dangling link", func(path string) error { return os.Symlink("nowhere", path) }, ErrNotRegular},
		{"link to a good one", func(path string) error {
			return errors.Join(write(page)(path+".good"), os.Symlink(path+".good", path))
		}, ErrNotRegular},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x")
			require.NoError(t, test.put(path))
			_, err := OpenNamed(path)
			requireOnly(t, err, test.want)
		})
	}
}

func TestUnlink(t *testing.T) {
	noLeaks(t)
	s := newSegment(t, Named)
	aside := s.Path() + ".aside"
	require.NoError(t, os.Rename(s.Path(), aside))
	requireOnly(t, s.Unlink(), fs.ErrNotExist)

	require.NoError(t, os.WriteFile(s.Path(), nil, 0o600))
	requireOnly(t, s.Unlink(), ErrReplaced)
	require.FileExists(t, s.Path())

	require.NoError(t, os.Rename(aside, s.Path()))
	require.NoError(t, s.Unlink())
	require.NoFileExists(t, s.Path())
	s.Bytes()[0] = 1 // the memory stays

	requireOnly(t, newSegment(t, Memfd).Unlink(), ErrNoPath)
	requireOnly(t, newSegment(t, Heap).Unlink(), ErrNoPath)
}

func TestNamedPathsAreAbsolute(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	t.Chdir(dir)
	s, err := CreateNamed("relative", page, nil)
	require.NoError(t, err)
	defer s.Close()
	again, err := OpenNamed("./relative")
	require.NoError(t, err)
	defer again.Close()
	t.Chdir(t.TempDir())
	require.Equal(t, s.Path(), again.Path())
	require.NoError(t, again.Unlink())
	require.Empty(t, names(t, dir))
}

func TestDefaultDir(t *testing.T) {
	dir := DefaultDir()
	path := filepath.Join(dir, fmt.Sprintf("shm-test-%d", os.Getpid()))
	s, err := CreateNamed(path, page, nil)
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Unlink())
}

// A full file system is an error when the segment is created, not a SIGBUS when it is used.
func TestFullFileSystem(t *testing.T) {
	needRoot(t, "mount a small tmpfs", "full-disk")
	w := startWorker(t, "full-disk", t.TempDir(), &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS})
	w.expect("ok")
	w.finish()
}

func roleFullDisk() {
	dir := os.Getenv(argEnv)
	check(unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"))
	path := filepath.Join(dir, "x")
	for name, open := range strategies {
		_, err := createNamed(path, 1<<20, func(*Segment) error { panic("too far") }, open)
		if !errors.Is(err, ErrNoSpace) || !errors.Is(err, unix.ENOSPC) {
			say("error: %s: %v", name, err)
			os.Exit(1)
		}
		if left := must(os.ReadDir(dir)); len(left) > 0 {
			say("error: left behind: %v", left)
			os.Exit(1)
		}
	}
	s := must(CreateNamed(path, 128<<10, nil)) // and there is room again
	for i := range s.Bytes() {
		s.Bytes()[i] = 1
	}
	say("ok")
}

// A file system without fallocate gets its pages by writing.
func TestFileSystemWithoutFallocate(t *testing.T) {
	needRoot(t, "mount a ramfs", "ramfs")
	w := startWorker(t, "ramfs", t.TempDir(), &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS})
	w.expect("ok")
	w.finish()
}

func roleRamfs() {
	dir := os.Getenv(argEnv)
	check(unix.Mount("ramfs", dir, "ramfs", 0, ""))
	f := must(os.Create(filepath.Join(dir, "probe")))
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 1); !errors.Is(err, unix.EOPNOTSUPP) {
		say("error: this file system was chosen for not having fallocate: %v", err)
		os.Exit(1)
	}
	const size = 3<<20 + 64<<10
	s := must(CreateNamed(filepath.Join(dir, "x"), size, nil))
	s.Word64(size - 8).Store(1)
	must(s.OpenLocks())
	say("ok")
}

// Another user can neither open a named segment nor lock an inherited one, and is told so.
func TestOtherUser(t *testing.T) {
	needRoot(t, "start a process as another user", "stranger")
	noLeaks(t)
	dir, err := os.MkdirTemp("", "shm-test-")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o755))
	named, err := CreateNamed(filepath.Join(dir, "x"), page, nil)
	require.NoError(t, err)
	defer named.Close()
	_, files := handOver(t, newSegment(t, Memfd))
	w := startWorker(t, "stranger", named.Path(), hosttest.Nobody(), files...)
	require.Contains(t, w.expect("locks"), "belongs to another user")
	w.finish()
}

func roleStranger() {
	if _, err := OpenNamed(os.Getenv(argEnv)); !errors.Is(err, fs.ErrPermission) {
		say("error: named: %v", err)
	}
	if _, err := CreateNamed(os.Getenv(argEnv)+".mine", page, nil); !errors.Is(err, fs.ErrPermission) {
		say("error: create: %v", err)
	}
	s := must(FromFile(os.NewFile(3, "inherited"))) // the memory was given to it
	s.Bytes()[0] = 1
	_, err := s.OpenLocks()
	if !errors.Is(err, ErrNoLocks) || !errors.Is(err, fs.ErrPermission) {
		say("error: locks: %v", err)
	}
	say("locks %v", err)
}
