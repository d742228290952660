package tracer

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/shm"
)

// The page that a victim shares with the test: a counter, a word to sleep on, and room to copy to.
const (
	pageSize  = 64 << 10
	wordCount = 0
	wordGo    = 64
	wordSum   = 128
	copyFrom  = 4 << 10
	copyTo    = 32 << 10
	copyBytes = 20 << 10
	copyShare = 300
)

const (
	loops  = 7
	writes = 5
	shares = 2000
)

// The operations of victims. Their functions are the scope, by their names: op…
var operations = map[string]func(s *shm.Segment){
	"count": opCount,
	"copy":  opCopy,
	"wait":  opWait,
	"write": opWrite,
	"exit":  opExit,
	"other": opOther,
	"share": opShare,
}

func init() {
	roles["victim"] = func() error {
		f := os.NewFile(3, "page")
		s, err := shm.FromFile(f)
		if err != nil {
			return err
		}
		operation, ok := operations[os.Getenv("OPERATION")]
		if !ok {
			os.Exit(1)
		}
		for {
			Begin()
			operation(s)
			End()
		}
	}
}

//go:noinline
func opCount(s *shm.Segment) {
	for i := range uint64(loops) {
		s.Word64(wordCount).Store(i + 1)
		s.Word64(wordSum).Add(i)
	}
}

//go:noinline
func opCopy(s *shm.Segment) {
	b := s.Bytes()
	copy(b[copyTo:copyTo+copyBytes], b[copyFrom:])
}

//go:noinline
func opWait(s *shm.Segment) {
	for s.Word32(wordGo).Load() == 0 {
		shm.FutexWait(s.Word32(wordGo), 0, 0)
	}
	s.Word32(wordGo).Store(0)
}

//go:noinline
func opWrite(s *shm.Segment) {
	for range writes {
		unix.Write(-1, s.Bytes()[:1])
	}
}

//go:noinline
func opExit(s *shm.Segment) {
	s.Word64(wordCount).Store(1)
	os.Exit(3)
}

// opOther waits for a goroutine, which another thread has to run.
//
//go:noinline
func opOther(s *shm.Segment) {
	done := make(chan bool)
	go func() {
		runtime.LockOSThread()
		s.Word64(wordSum).Add(1)
		close(done)
	}()
	<-done
	s.Word64(wordCount).Store(1)
}

// opShare waits for another thread, which meanwhile executes much of what it executes itself before and after.
//
//go:noinline
func opShare(s *shm.Segment) {
	opMove(s, wordCount)
	done := make(chan bool)
	go func() {
		runtime.LockOSThread()
		for range shares {
			opMove(s, wordSum)
		}
		close(done)
	}()
	<-done
	opMove(s, wordCount)
}

//go:noinline
func opMove(s *shm.Segment, word int64) {
	b := s.Bytes()
	copy(b[copyTo+32*word:][:copyShare], b[copyFrom:])
	unix.Getppid()
	s.Word64(word).Add(1)
}

// newTracer makes a tracer of the test's goroutine.
func newTracer(t testing.TB) *Tracer {
	t.Helper()
	tracer, err := New()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tracer.Close()) })
	require.NoError(t, tracer.Pin(someCPU(t)))
	tracer.Scope = func(function string) bool { return strings.Contains(function, "/tracer.op") }
	return tracer
}

func newPage(t testing.TB) *shm.Segment {
	t.Helper()
	s, err := shm.NewMemfd("page", pageSize, pageSize)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// victim is the command of a process that repeats an operation.
func victim(page *shm.Segment, operation string) *exec.Cmd {
	f, err := page.File()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=victim", "OPERATION="+operation)
	cmd.ExtraFiles = []*os.File{f}
	cmd.Stderr = os.Stderr
	return cmd
}

// start starts a victim.
func start(t testing.TB, tracer *Tracer, page *shm.Segment, operation string) *Victim {
	t.Helper()
	cmd := victim(page, operation)
	v, err := tracer.Start(cmd)
	cmd.ExtraFiles[0].Close()
	if errors.Is(err, ErrNotPermitted) {
		t.Skip(err)
	}
	require.NoError(t, err)
	return v
}
