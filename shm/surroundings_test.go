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

	"github.com/shmrouter/shmrouter/internal/hosttest"
)

// Whatever the umask, a segment is its user's to read and write, and nobody else's.
func TestUmask(t *testing.T) {
	for _, umask := range []string{"0", "777"} {
		dir := t.TempDir()
		w := startWorker(t, "umask", umask+" "+dir, nil)
		w.expect("ok")
		w.finish()
	}
}

func roleUmask() {
	var umask int
	var dir string
	must(fmt.Sscanf(os.Getenv(argEnv), "%o %s", &umask, &dir))
	unix.Umask(umask)
	for name, open := range strategies {
		s := must(createNamed(filepath.Join(dir, name), page, nil, open))
		must(s.OpenLocks())
		must(OpenNamed(s.Path()))
		if mode := must(os.Stat(s.Path())).Mode(); mode != 0o600 {
			say("error: %s: mode %v", name, mode)
		}
	}
	s := must(NewMemfd("umask", page, page))
	f := must(s.File())
	if mode := must(f.Stat()).Mode(); mode.Perm() != 0o600 {
		say("error: memfd: mode %v", mode)
	}
	must(s.OpenLocks())
	say("ok")
}

// Working directories that change or go away, and names that are too long or odd.
func TestOddPaths(t *testing.T) {
	dir := t.TempDir()
	w := startWorker(t, "odd-paths", dir, nil)
	w.expect("ok")
	w.finish()
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func roleOddPaths() {
	dir := os.Getenv(argEnv)
	check(os.Chdir(dir))
	refused := func(path string, want error) {
		_, err := CreateNamed(path, page, nil)
		if !errors.Is(err, want) {
			say("error: create %.40q: %v", path, err)
		}
		if _, err := OpenNamed(path); !errors.Is(err, want) && !errors.Is(err, fs.ErrNotExist) {
			say("error: open %.40q: %v", path, err)
		}
	}
	use := func(path string) {
		for _, open := range strategies {
			s := must(createNamed(path, page, nil, open))
			must(must(s.OpenLocks()).TryLock(1))
			same := must(OpenNamed(path))
			if same.Identity() != s.Identity() {
				say("error: %.40q is another segment", path)
			}
			check(os.Chdir("/"))
			check(s.Unlink()) // wherever the process stands
			check(os.Chdir(dir))
		}
	}
	use("relative")
	use("./../" + filepath.Base(dir) + "/dots")
	use(filepath.Join(dir, strings.Repeat("n", unix.NAME_MAX)))
	use(filepath.Join(dir, " new\nline \xff (deleted)"))
	// Longer than a Unix socket's path may be, and nearly as long as a path may.
	deep := dir
	for len(deep) < 3500 {
		deep = filepath.Join(deep, strings.Repeat("d", 250))
	}
	check(os.MkdirAll(deep, 0o700))
	use(filepath.Join(deep, "x"))

	refused(filepath.Join(dir, strings.Repeat("n", unix.NAME_MAX+1)), unix.ENAMETOOLONG)
	refused(strings.Repeat("/d", unix.PathMax), unix.ENAMETOOLONG)
	refused(filepath.Join(dir, "none", "x"), fs.ErrNotExist)
	refused(filepath.Join(dir, "zero\x00byte"), unix.EINVAL)
	if _, err := CreateNamed("", page, nil); !errors.Is(err, fs.ErrExist) { // the working directory itself
		say("error: create nothing: %v", err)
	}
	check(os.WriteFile("file", nil, 0o600))
	refused(filepath.Join(dir, "file", "x"), unix.ENOTDIR)

	// A working directory that is gone: relative paths mean nothing, absolute ones are as before.
	check(os.Mkdir("gone", 0o700))
	check(os.Chdir("gone"))
	check(os.Remove(filepath.Join(dir, "gone")))
	refused("x", fs.ErrNotExist)
	use(filepath.Join(dir, "y"))

	check(os.Chdir("/"))
	for _, e := range must(os.ReadDir(dir)) {
		if strings.HasPrefix(e.Name(), ".shm-") {
			say("error: left behind: %s", e.Name())
		}
		check(os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	say("ok")
}

// Links at a path are never followed, and what they lead to is left alone.
func TestLinksAtThePath(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	victim := at("victim")
	require.NoError(t, os.WriteFile(victim, make([]byte, page), 0o600))
	for link, target := range map[string]string{"to-file": victim, "dangling": at("nowhere"), "to-dir": dir, "loop": at("loop"), "proc": "/proc/self/fd/0"} {
		require.NoError(t, os.Symlink(target, at(link)))
		_, err := CreateNamed(at(link), page, func(*Segment) error { panic("too far") })
		require.ErrorIs(t, err, fs.ErrExist, link)
		_, err = OpenNamed(at(link))
		require.ErrorIs(t, err, ErrNotRegular, link)
	}
	// One that appears while the segment is being built.
	forStrategies(t, func(t *testing.T, create func(string, int64, func(*Segment) error) (*Segment, error)) {
		late := at("late")
		_, err := create(late, page, func(*Segment) error { return os.Symlink(at("nowhere"), late) })
		require.ErrorIs(t, err, fs.ErrExist)
		require.NoError(t, os.Remove(late))
	})
	require.NoFileExists(t, at("nowhere"))

	// One that takes the place of a finished segment: it is neither removed nor followed.
	s, err := CreateNamed(at("x"), page, nil)
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, os.Rename(at("x"), at("moved")))
	require.NoError(t, os.Symlink(victim, at("x")))
	require.ErrorIs(t, s.Unlink(), ErrReplaced)
	l, err := s.OpenLocks()
	require.NoError(t, err, "by the descriptor")
	require.NoError(t, l.Close())
	b, err := os.ReadFile(victim)
	require.NoError(t, err)
	require.Equal(t, make([]byte, page), b)

	// Through a link to the directory, the path is as good as any.
	require.NoError(t, os.Symlink(dir, at("here")))
	through, err := CreateNamed(filepath.Join(at("here"), "z"), page, nil)
	require.NoError(t, err)
	require.NoError(t, through.Unlink())
	require.NoError(t, through.Close())
}

// File systems that refuse: read-only is its own answer, noexec does not matter, and neither does a
// directory that may be entered but not written to, or not even that.
func TestFileSystemsThatRefuse(t *testing.T) {
	w := startWorker(t, "refused", t.TempDir(), hosttest.Apart(t, unix.CLONE_NEWNS))
	w.expect("ok")
	w.finish()
}

func roleRefused() {
	dir := os.Getenv(argEnv)
	const flags = unix.MS_NOEXEC | unix.MS_NOSUID | unix.MS_NODEV
	check(unix.Mount("tmpfs", dir, "tmpfs", flags, "size=1m"))
	path, readOnly := filepath.Join(dir, "x"), filepath.Join(dir, "readonly")
	s := must(CreateNamed(path, page, nil))
	must(s.OpenLocks())
	check(os.Mkdir(readOnly, 0o700))
	check(unix.Mount(dir, readOnly, "", unix.MS_BIND, ""))
	check(unix.Mount("", readOnly, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|flags, ""))
	for name, open := range strategies {
		if _, err := createNamed(filepath.Join(readOnly, "y"), page, nil, open); !errors.Is(err, unix.EROFS) {
			say("error: create, %s: %v", name, err)
		}
	}
	if _, err := OpenNamed(filepath.Join(readOnly, "x")); !errors.Is(err, unix.EROFS) {
		say("error: open: %v", err)
	}
	must(must(OpenNamed(path)).OpenLocks())
	say("ok")
}

// A directory without permission, for a user whom permissions bind.
func TestDirectoryWithoutPermission(t *testing.T) {
	attr := hosttest.Unprivileged()
	dir, err := os.MkdirTemp("", "shm-test-")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o555))
	locked := filepath.Join(dir, "locked")
	if os.Geteuid() == 0 {
		require.NoError(t, os.Mkdir(locked, 0))
	} else {
		require.NoError(t, os.Chmod(dir, 0o755))
		require.NoError(t, os.Mkdir(locked, 0))
		require.NoError(t, os.Chmod(dir, 0o555))
		defer os.Chmod(dir, 0o755)
	}
	w := startWorker(t, "forbidden", dir, attr)
	w.expect("ok")
	w.finish()
}

func roleForbidden() {
	for _, path := range []string{"x", "locked/x"} {
		path = filepath.Join(os.Getenv(argEnv), path)
		for name, open := range strategies {
			if _, err := createNamed(path, page, nil, open); !errors.Is(err, fs.ErrPermission) {
				say("error: create %s, %s: %v", path, name, err)
			}
		}
		if _, err := OpenNamed(path); !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrNotExist) {
			say("error: open %s: %v", path, err)
		}
	}
	say("ok")
}

// A process in a chroot without /proc is told so; there, a path inside is enough, whatever it is
// called outside.
func TestChrootWithoutProc(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	named, err := CreateNamed(filepath.Join(dir, "x"), page, nil)
	require.NoError(t, err)
	defer named.Close()
	watcher := openLocks(t, named)
	_, files := handOver(t, newSegment(t, Memfd))
	w := startWorker(t, "chroot", dir, hosttest.Apart(t, unix.CLONE_NEWNS), files...)
	require.Contains(t, w.expect("memfd"), "/proc is not mounted")
	w.expect("named")
	held, err := watcher.Held(1)
	require.NoError(t, err)
	require.True(t, held)
	w.signalKill()
	eventually(t, func() bool { held, err := watcher.Held(1); return err == nil && !held }, "lock of a dead process")
}

func roleChroot() {
	check(unix.Chroot(os.Getenv(argEnv)))
	check(os.Chdir("/"))
	s := must(FromFile(os.NewFile(3, "inherited")))
	s.Bytes()[0] = 1
	_, err := s.OpenLocks()
	if !errors.Is(err, ErrNoLocks) || !errors.Is(err, fs.ErrNotExist) {
		say("error: %v", err)
	}
	say("memfd %v", err)
	if _, err := OwnStart(); !errors.Is(err, fs.ErrNotExist) {
		say("error: start: %v", err)
	}
	must(must(must(OpenNamed("x")).OpenLocks()).TryLock(1))
	say("named")
	hear()
}

// Locks are seen, and freed by death, from one pid namespace to the other. Pids are not the same
// there, which the number of the namespace says; the start of a process is its own, also where /proc
// still shows the namespace outside.
func TestPIDNamespaces(t *testing.T) {
	for _, proc := range []string{"own", "outer"} {
		t.Run(proc, func(t *testing.T) {
			forKinds(t, fileKinds, func(t *testing.T, kind Kind) {
				s := newSegment(t, kind)
				l := openLocks(t, s)
				arg, files := handOver(t, s)
				w := startWorker(t, "apart", arg, hosttest.Apart(t, unix.CLONE_NEWPID|unix.CLONE_NEWNS), files...)
				w.tell(proc)
				w.expect("locked")
				require.Equal(t, "1", w.expect("pid"))
				require.NotEqual(t, fmt.Sprint(PIDNamespace()), w.expect("namespace"))
				start, err := ProcessStart(w.pid())
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint(start), w.expect("start"))
				held, err := l.Held(7)
				require.NoError(t, err)
				require.True(t, held)
				ok, err := l.TryLock(8)
				require.NoError(t, err)
				require.True(t, ok)
				w.tell("ask")
				require.Equal(t, "true <nil>", w.expect("held"))
				w.signalKill()
				eventually(t, func() bool { held, err := l.Held(7); return err == nil && !held }, "lock of a dead process")
			})
		})
	}
}

func roleApart() {
	if hear() == "own" {
		check(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		check(unix.Mount("proc", "/proc", "proc", 0, ""))
	}
	l := must(inherited().OpenLocks())
	must(l.TryLock(7))
	say("locked")
	say("pid %d", os.Getpid())
	say("namespace %d", PIDNamespace())
	say("start %d", must(OwnStart()))
	hear()
	held, err := l.Held(8)
	say("held %v %v", held, err)
	hear()
}
