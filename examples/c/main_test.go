package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/internal/inspect"
	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
)

// What the test binary does instead of tests, where a test starts it again: the producers in Go.
const roleVariable = "SHMROUTER_C_TEST_ROLE"

var roles = map[string]func(r *ring.Ring, args []string) error{
	"stress": workStress,
	"claim":  workClaim,
}

func TestMain(m *testing.M) {
	if name := os.Getenv(roleVariable); name != "" {
		r, err := ring.OpenPath(os.Args[1])
		if err == nil {
			err = roles[name](r, os.Args[2:])
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if compiled != "" {
		os.RemoveAll(compiled)
	}
	os.Exit(code)
}

// The example as its first lines say it is run.
func TestMessagesFromC(t *testing.T) {
	producer := compile(t, "producer/producer.c")
	program := filepath.Join(t.TempDir(), "c")
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.Command(program, producer)
	var said, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &stderr
	require.NoError(t, cmd.Run(), "%s", &stderr)
	for id := range producers {
		require.Contains(t, said.String(), fmt.Sprintf("received %d blocks of producer %d, whole and in order\n", messages, id))
		require.Contains(t, stderr.String(), fmt.Sprintf("producer %d sent %d\n", id, messages))
	}
	stderr.Reset()
	cmd = exec.Command(program, "/bin/false")
	cmd.Stderr = &stderr
	require.Error(t, cmd.Run())
	require.Contains(t, stderr.String(), "exit status 1")

	path := ringtest.Path(t)
	r := newRing(t, path)
	out, err = exec.Command(producer, path, "1000", "0").CombinedOutput() // more than the ring holds
	require.Error(t, err)
	require.Contains(t, string(out), "full, and nobody consumes")
	require.Contains(t, string(out), "producer 0 sent "+fmt.Sprint(r.Capacity()/ring.Granule/7))
}

var (
	compiling sync.Mutex
	compiled  string // the directory
)

// compile compiles a program in C and returns its path.
func compile(t testing.TB, source string) string {
	t.Helper()
	cc := ""
	for _, name := range []string{os.Getenv("CC"), "cc", "gcc", "clang"} {
		if path, err := exec.LookPath(name); err == nil && cc == "" {
			cc = path
		}
	}
	if cc == "" {
		t.Skip("no C compiler here: neither cc nor gcc nor clang is in PATH, and CC is not set")
	}
	compiling.Lock()
	defer compiling.Unlock()
	var err error
	if compiled == "" {
		compiled, err = os.MkdirTemp("", "shmrouter-c-")
		require.NoError(t, err)
	}
	program := filepath.Join(compiled, strings.TrimSuffix(filepath.Base(source), ".c"))
	if _, err := os.Stat(program); err == nil {
		return program
	}
	// Bound at the start: what the loader does at a function's first call would be stepped through.
	out, err := exec.Command(cc, "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wl,-z,now", "-o", program, source).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return program
}

// newRing makes a ring of 64 KiB in a file. When the test has ended well, it is whole, and no slot is held.
func newRing(t testing.TB, path string) *ring.Ring {
	t.Helper()
	r, err := ring.Create(path, ringtest.Tiny)
	require.NoError(t, err)
	t.Cleanup(func() {
		defer r.Close()
		if t.Failed() {
			return
		}
		require.Empty(t, findings(t, path))
		for slot := range ring.MaxSlots {
			freed(t, r, slot)
		}
	})
	return r
}

// freed waits until the kernel has freed a slot whose process was killed: that may come after its end was told, where
// somebody else just looks at it in /proc.
func freed(t testing.TB, r *ring.Ring, slot int) {
	t.Helper()
	ringtest.Until(t, fmt.Sprintf("slot %d to be free", slot), func() bool {
		held, err := r.SlotHeld(slot)
		require.NoError(t, err)
		return !held
	})
}

// findings is what shmctl check has to say.
func findings(t testing.TB, path string) []inspect.Finding {
	t.Helper()
	seg, err := inspect.Open(path)
	require.NoError(t, err)
	defer seg.Close()
	found, err := seg.Check()
	require.NoError(t, err)
	return found
}

// process is a producer's, in C or in Go, that answers by lines.
type process struct {
	t     testing.TB
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
	once  sync.Once
	err   error
}

func startC(t testing.TB, args ...string) *process {
	t.Helper()
	return start(t, exec.Command(compile(t, "testdata/driver.c"), args...))
}

func startGo(t testing.TB, role string, args ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	return start(t, cmd)
}

// start starts a process that is killed at the end of the test.
func start(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, lines: make(chan string, 64)}
	cmd.Stderr = os.Stderr
	var err error
	p.in, err = cmd.StdinPipe()
	require.NoError(t, err)
	out, w, err := os.Pipe() // so that Wait does not wait for children that have it
	require.NoError(t, err)
	cmd.Stdout = w
	err = cmd.Start()
	w.Close()
	require.NoError(t, err)
	go func() {
		defer out.Close()
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	t.Cleanup(func() { p.kill() })
	return p
}

// obedient is a driver that does what it is told.
func obedient(t testing.TB, path string, id int) *process {
	t.Helper()
	p := startC(t, "obey", path, fmt.Sprint(id))
	require.Regexp(t, `slot \d+`, p.hear())
	return p
}

func (p *process) hear() string {
	p.t.Helper()
	select {
	case line, ok := <-p.lines:
		require.True(p.t, ok, "the process has ended")
		return line
	case <-time.After(ringtest.Patience):
		require.FailNow(p.t, "the process says nothing")
	}
	return ""
}

func (p *process) tell(format string, args ...any) {
	p.t.Helper()
	_, err := fmt.Fprintf(p.in, format+"\n", args...)
	require.NoError(p.t, err)
}

func (p *process) ask(format string, args ...any) string {
	p.t.Helper()
	p.tell(format, args...)
	return p.hear()
}

func (p *process) kill() error {
	p.cmd.Process.Kill()
	return p.wait()
}

func (p *process) wait() error {
	p.once.Do(func() { p.err = p.cmd.Wait() })
	return p.err
}

// receive takes n messages, waiting for them.
func receive(t testing.TB, c *ring.Consumer, n int) []ringtest.Message {
	t.Helper()
	return ringtest.Receive(t, c, n)
}

// requireNumbers requires whole messages of one sender with these numbers.
func requireNumbers(t testing.TB, got []ringtest.Message, sender int, from, to uint64) {
	t.Helper()
	require.Len(t, got, int(to-from+1))
	for i, m := range got {
		id, number, err := ringtest.Verify(m.Data)
		require.NoError(t, err)
		require.EqualValues(t, sender, id)
		require.EqualValues(t, sender, m.Meta)
		require.Equal(t, from+uint64(i), number)
	}
}

// workClaim claims and stays there, to be killed.
func workClaim(r *ring.Ring, _ []string) error {
	a, err := r.Attach()
	if err != nil {
		return err
	}
	claim, err := a.NewProducer().Claim(context.Background(), 1000, 0)
	if err != nil {
		return err
	}
	fmt.Println("claimed", claim.Position())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// startAt puts a fresh ring at a position, as if it had come there by records of one granule: each word carries the
// tag of the last lap that passed it. Offsets and shifts are those of docs/protocol.md.
func startAt(t testing.TB, r *ring.Ring, pos uint64) {
	t.Helper()
	const skip, granule = 3, 1
	seg, size := r.Segment(), uint64(r.Capacity()/ring.Granule)
	for p := pos - min(pos, size); p != pos; p++ {
		tag := (p/size + 1) & (1<<35 - 1)
		seg.Word64(45056 + int64(p%size)*16).Store(skip | tag<<2 | 255<<37 | granule<<45)
	}
	seg.Word64(8192).Store(pos) // head
	seg.Word64(4096).Store(pos) // hint
}
