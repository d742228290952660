package ring_test

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/stretchr/testify/require"
)

// Where a test needs a process of its own, the test binary plays it: started
// again with roleVariable it runs one of roles instead of the tests. Their
// tests are named TestProcess…, so that emulators that cannot start the binary
// a second time can leave them out.
const roleVariable = "SHMROUTER_RING_TEST_ROLE"

var roles = map[string]func(w *worker) error{
	"claim":         workClaim,
	"claimAndClose": workClaimAndCloseDescriptors,
	"silent":        workSilentCommit,
	"room":          workRoom,
	"consume":       workConsume,
	"soak":          workSoak,
	"send":          workSend,
	"seats":         workSeats,
	"queue":         workQueue,
	"starved":       workStarved,
	"parent":        workParent,
	"flood":         workFlood,
	"narrow":        workNarrow,
	"stepSend":      workStepSend,
	"stepConsume":   workStepConsume,
	"forbidLater":   workForbidLater,

	"historyProducer": workHistoryProducer,
	"historyConsumer": workHistoryConsumer,
}

var rolesUsed sync.Map

func TestMain(m *testing.M) {
	flag.Parse()
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	if name := os.Getenv(logWorkerVariable); name != "" {
		if err := logWorker(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	warmUp()
	before := descriptors()
	code := m.Run()
	if code == 0 {
		code = checkLeaks(before)
	}
	if code == 0 && wholeSuite() {
		for role := range roles {
			if _, used := rolesUsed.Load(role); !used {
				fmt.Printf("no test uses the worker's role %q\n", role)
				code = 1
			}
		}
	}
	os.Exit(code)
}

// wholeSuite tells whether every test was asked for.
func wholeSuite() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.fuzz"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return false
		}
	}
	return !testing.Short()
}

// warmUp makes the runtime open the descriptors that it keeps.
func warmUp() {
	r, w, err := os.Pipe()
	if err == nil {
		r.SetReadDeadline(time.Now())
		r.Close()
		w.Close()
	}
}

// descriptors lists what the process has open: name by number.
func descriptors() map[string]string {
	open := map[string]string{}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name())); err == nil {
			open[e.Name()] = target
		}
	}
	return open
}

// checkLeaks looks for descriptors and mappings of segments that outlived the
// tests. The last ones may be on their way out, in a cleanup.
func checkLeaks(before map[string]string) int {
	var left []string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); runtime.GC() {
		left = nil
		for fd, target := range descriptors() {
			if before[fd] != target && !strings.HasPrefix(target, "anon_inode:[event") && !strings.HasPrefix(target, "/proc/") {
				left = append(left, "descriptor "+fd+" of "+target)
			}
		}
		maps, _ := os.ReadFile("/proc/self/maps")
		for line := range strings.Lines(string(maps)) {
			if strings.Contains(line, "/memfd:shmrouter") || strings.Contains(line, "/ringtest-") {
				left = append(left, "mapping "+strings.TrimSpace(line))
			}
		}
		if len(left) == 0 {
			return 0
		}
	}
	fmt.Println("the tests left open:\n" + strings.Join(left, "\n"))
	return 1
}

// worker is the process's view of a test: the segment it inherited, and lines
// that it exchanges with the test.
type worker struct {
	ring *ring.Ring
	in   *bufio.Reader
	args []string
}

func (w *worker) say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// wait blocks until the test says something, or kills this process.
func (w *worker) wait() (string, error) {
	line, err := w.in.ReadString('\n')
	return strings.TrimSpace(line), err
}

func play(role string) int {
	work, ok := roles[role]
	if !ok {
		fmt.Fprintf(os.Stderr, "no role %q\n", role)
		return 2
	}
	r, err := ring.OpenFile(os.NewFile(3, "segment"))
	if err == nil {
		err = work(&worker{ring: r, in: bufio.NewReader(os.Stdin), args: flag.Args()})
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "worker in role %s: %v\n", role, err)
		return 1
	}
	return 0
}

// child is the test's view of a worker.
type child struct {
	t     testing.TB
	cmd   *exec.Cmd
	lines chan string // what it says; closed at its end
	in    io.WriteCloser

	read chan struct{} // closed when its last line was read
	once sync.Once
	err  error // of Wait
}

// start starts a worker on the segment of r. It is killed when the test ends.
func start(t testing.TB, r *ring.Ring, role string, args ...string) *child {
	t.Helper()
	return startAs(t, r, nil, role, args...)
}

// startAs is start with attributes, such as namespaces.
func startAs(t testing.TB, r *ring.Ring, attr *syscall.SysProcAttr, role string, args ...string) *child {
	t.Helper()
	require.Contains(t, roles, role)
	rolesUsed.Store(role, true)
	file, err := r.File()
	require.NoError(t, err)
	defer file.Close()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.ExtraFiles = []*os.File{file}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = attr
	c := &child{t: t, cmd: cmd, lines: make(chan string, 1<<16)}
	c.in, err = cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	c.read = make(chan struct{})
	go func() {
		defer close(c.read)
		defer close(c.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			c.lines <- s.Text()
		}
	}()
	t.Cleanup(func() { c.kill() })
	return c
}

// hear waits for the worker's next line.
func (c *child) hear() string {
	c.t.Helper()
	select {
	case line, ok := <-c.lines:
		require.True(c.t, ok, "the worker has ended")
		return line
	case <-time.After(ringtest.Patience):
		require.FailNow(c.t, "the worker says nothing")
	}
	return ""
}

func (c *child) tell(line string) {
	c.t.Helper()
	_, err := io.WriteString(c.in, line+"\n")
	require.NoError(c.t, err)
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// kill kills the worker with SIGKILL, if it still runs, and waits for its end.
func (c *child) kill() error {
	c.cmd.Process.Kill()
	return c.wait()
}

func (c *child) wait() error {
	c.once.Do(func() {
		<-c.read // Wait would throw away what was not read yet
		c.err = c.cmd.Wait()
		c.in.Close()
	})
	return c.err
}
