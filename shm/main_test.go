package shm

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The test binary also plays the other processes: started with roleEnv, it runs one of these
// instead of the tests.
var roles = map[string]func(){
	"inherit":   roleInherit,
	"holder":    roleHolder,
	"closer":    roleCloser,
	"launcher":  roleLauncher,
	"stranger":  roleStranger,
	"no-proc":   roleNoProc,
	"full-disk": roleFullDisk,
	"ramfs":     roleRamfs,
	"waiter":    roleWaiter,
	"barriers":  roleBarriers,
	"pinger":    rolePinger,
	"renamed":   roleRenamed,

	"starved":     roleStarved,
	"spent":       roleSpent,
	"small-files": roleSmallFiles,
	"narrow":      roleNarrow,
	"careless":    roleCareless,
	"umask":       roleUmask,
	"odd-paths":   roleOddPaths,
	"refused":     roleRefused,
	"forbidden":   roleForbidden,
	"chroot":      roleChroot,
	"apart":       roleApart,
}

const (
	roleEnv = "SHM_TEST_ROLE"
	argEnv  = "SHM_TEST_ARG"
)

// played has the roles that some test used, or said why it could not.
var played sync.Map

func TestMain(m *testing.M) {
	if role, ok := os.LookupEnv(roleEnv); ok {
		play, known := roles[role]
		if !known {
			fmt.Printf("error: unknown role %q\n", role)
			os.Exit(2)
		}
		play()
		os.Exit(0)
	}
	// The runtime's poller opens its descriptors with its first use, and the leak checks should not
	// count them.
	e, err := NewEvent()
	if err != nil {
		panic(err)
	}
	e.Close()

	code := m.Run()
	for role := range roles {
		if _, ok := played.Load(role); !ok && code == 0 && !filtered() {
			fmt.Printf("role %q is used by no test\n", role)
			code = 1
		}
	}
	os.Exit(code)
}

func filtered() bool {
	return slices.ContainsFunc(os.Args[1:], func(arg string) bool {
		name, value, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		switch name {
		case "test.run", "test.skip", "test.list":
			return value != ""
		}
		return false
	})
}

// worker is a process in a role. It talks in lines, and ends when its input does.
type worker struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	waited bool
}

// startWorker starts a role with files as its descriptors from 3 on. It is killed when the test
// ends.
func startWorker(t *testing.T, role, arg string, attr *syscall.SysProcAttr, files ...*os.File) *worker {
	t.Helper()
	played.Store(role, true)
	cmd := exec.Command("/proc/self/exe") // which another uid may run, too
	cmd.Env = append(os.Environ(), roleEnv+"="+role, argEnv+"="+arg,
		"GORACE=atexit_sleep_ms=0") // a second for each worker under -race, otherwise
	cmd.ExtraFiles = files
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	w := &worker{t: t, cmd: cmd, in: in, out: bufio.NewScanner(out)}
	t.Cleanup(w.kill)
	return w
}

// expect reads the next line, which begins with prefix, and returns the rest.
func (w *worker) expect(prefix string) string {
	w.t.Helper()
	require.True(w.t, w.out.Scan(), "worker ended instead of saying %q: %v", prefix, w.out.Err())
	require.True(w.t, strings.HasPrefix(w.out.Text(), prefix), "want %q, got %q", prefix, w.out.Text())
	return strings.TrimSpace(strings.TrimPrefix(w.out.Text(), prefix))
}

func (w *worker) tell(line string) {
	w.t.Helper()
	_, err := fmt.Fprintln(w.in, line)
	require.NoError(w.t, err)
}

func (w *worker) pid() int { return w.cmd.Process.Pid }

// signalKill sends SIGKILL and leaves a zombie, until kill.
func (w *worker) signalKill() {
	w.t.Helper()
	require.NoError(w.t, w.cmd.Process.Kill())
}

func (w *worker) kill() {
	if !w.waited {
		w.waited = true
		w.cmd.Process.Kill()
		w.in.Close()
		w.cmd.Wait()
	}
}

// finish lets the worker end by itself, which has to succeed.
func (w *worker) finish() {
	w.t.Helper()
	w.waited = true
	w.in.Close()
	require.NoError(w.t, w.cmd.Wait())
}

// What roles are written with.

var stdin = bufio.NewScanner(os.Stdin)

func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// hear returns the next line; when the tests have gone, so does the worker.
func hear() string {
	if !stdin.Scan() {
		os.Exit(0)
	}
	return stdin.Text()
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		say("error: %v", err)
		os.Exit(1)
	}
}

// inherited maps what was handed over as descriptor 3, or, if there is an argument, the file at
// that path.
func inherited() *Segment {
	if path := os.Getenv(argEnv); path != "" {
		return must(OpenNamed(path))
	}
	f := os.NewFile(3, "inherited")
	s := must(FromFile(f))
	check(f.Close())
	return s
}

// What tests are written with.

var page = int64(os.Getpagesize())

// eventually repeats cond until it is true. Only a failing test runs into the limit.
func eventually(t *testing.T, cond func() bool, what string) {
	t.Helper()
	for start := time.Now(); !cond(); runtime.Gosched() {
		require.Less(t, time.Since(start), 20*time.Second, what)
	}
}

// newSegment makes a segment of two pages of each kind, closed with the test.
func newSegment(t *testing.T, kind Kind) *Segment {
	t.Helper()
	var s *Segment
	var err error
	switch kind {
	case Memfd:
		s, err = NewMemfd("shm-test", 2*page, 2*page)
	case Named:
		s, err = CreateNamed(filepath.Join(t.TempDir(), "segment"), 2*page, nil)
	case Heap:
		s, err = NewHeap(2 * page)
	}
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// handOver returns what startWorker needs for a segment: an argument, or a file.
func handOver(t *testing.T, s *Segment) (arg string, files []*os.File) {
	t.Helper()
	if s.Kind() == Named {
		return s.Path(), nil
	}
	f, err := s.File()
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return "", []*os.File{f}
}

func forKinds(t *testing.T, kinds []Kind, test func(t *testing.T, kind Kind)) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			noLeaks(t)
			test(t, kind)
		})
	}
}

var (
	allKinds  = []Kind{Memfd, Named, Heap}
	fileKinds = []Kind{Memfd, Named}
)

// noLeaks checks at the end of the test that it left no descriptor and no mapping of a segment.
func noLeaks(t *testing.T) {
	t.Helper()
	before := openThings(t)
	t.Cleanup(func() {
		var after []string
		eventually(t, func() bool { after = openThings(t); return len(after) <= len(before) },
			"leaked") // a goroutine may be about to close something
		if len(after) > len(before) {
			t.Errorf("before %q\nafter %q", before, after)
		}
	})
}

func openThings(t *testing.T) (things []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.HasPrefix(target, "/proc/") { // not the listing itself
			things = append(things, e.Name()+" "+target)
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	for line := range strings.Lines(string(maps)) {
		if mode := strings.Fields(line)[1]; strings.HasSuffix(mode, "s") { // shared: a segment or a page for its locks
			things = append(things, line)
		}
	}
	return things
}

// needRoot skips what only root can try, and excuses the roles that it would have used.
func needRoot(t *testing.T, what string, excused ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		for _, role := range excused {
			played.Store(role, false)
		}
		t.Skip("needs root, to " + what)
	}
}

func TestUnknownRoleFails(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=no such role")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Contains(t, string(out), "unknown role")
}

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}
