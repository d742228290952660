package tracer

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/internal/hosttest"
	"golang.org/x/sys/unix"
)

func count(t testing.TB, directory string) int {
	entries, err := os.ReadDir(directory)
	require.NoError(t, err)
	return len(entries)
}

// Many kills leave nothing behind: no process, dead or alive, no thread, no descriptor.
func TestProcessNothingLeaks(t *testing.T) {
	kills := 500
	if testing.Short() {
		kills = 50
	}
	tracer, page := newTracer(t), newPage(t)
	v := begun(t, tracer, page, "count")
	trace := record(t, v, nil)
	kill(t, v)
	one := func(i int) {
		v := start(t, tracer, page, "count")
		switch i % 10 {
		case 0: // as it is, somewhere in its start
		case 1:
			require.NoError(t, v.ToBegin())
		default:
			require.NoError(t, v.ToBegin())
			reached, err := v.RunTo(trace.Points[i%len(trace.Points)], nil)
			require.NoError(t, err)
			require.True(t, reached)
		}
		kill(t, v)
	}
	for i := range 20 { // what the runtime and its pools keep
		one(i)
	}
	descriptors, threads := count(t, "/proc/self/fd"), count(t, "/proc/self/task")
	for i := range kills {
		one(i)
	}
	require.Equal(t, descriptors, count(t, "/proc/self/fd"))
	require.LessOrEqual(t, count(t, "/proc/self/task"), threads+2, "the runtime may take another")
	var status unix.WaitStatus
	_, err := unix.Wait4(-1, &status, unix.WNOHANG|unix.WALL, nil)
	require.Equal(t, unix.ECHILD, err, "a child is left")
	require.Empty(t, tracer.victims)
}

func someCPU(t testing.TB) int {
	var set unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &set))
	for cpu := range len(set) * 64 {
		if set.IsSet(cpu) {
			return cpu
		}
	}
	t.Fatal("no processor")
	return 0
}

// Tracers on different threads do not see each other's victims. Close kills what is left.
func TestProcessSeveralTracers(t *testing.T) {
	page := newPage(t)
	var group sync.WaitGroup
	failures := make(chan error, 4)
	lane := func() error {
		tracer, err := New()
		if err != nil {
			return err
		}
		tracer.Scope = func(function string) bool { return strings.Contains(function, "/tracer.op") }
		var left []*Victim
		for range 3 {
			v, err := tracer.Start(victim(page, "count"))
			if err != nil {
				return err
			}
			left = append(left, v)
			if err := v.ToBegin(); err != nil {
				return err
			}
			trace, err := v.Record(nil)
			if err != nil {
				return err
			}
			if err := v.ToBegin(); err != nil {
				return err
			}
			for _, p := range trace.Points[len(trace.Points)-10:] {
				if reached, err := v.RunTo(p, nil); !reached || err != nil {
					return fmt.Errorf("reached %v: %v, %w", p, reached, err)
				}
				if err := errors.Join(v.ToEnd(nil), v.ToBegin()); err != nil {
					return err
				}
			}
		}
		if err := tracer.Close(); err != nil {
			return err
		}
		for _, v := range left {
			if err := unix.Kill(v.PID, 0); err != unix.ESRCH {
				return fmt.Errorf("victim %d is left: %w", v.PID, err)
			}
		}
		return nil
	}
	for range 4 {
		group.Go(func() { failures <- lane() })
	}
	group.Wait()
	for range 4 {
		require.NoError(t, <-failures)
	}
}

// A victim whose tracer dies, dies.
func TestProcessTracerDies(t *testing.T) {
	pid := make(chan int)
	page := newPage(t)
	go func() {
		defer close(pid)
		tracer, err := New()
		if err != nil {
			return
		}
		if v, err := tracer.Start(victim(page, "count")); err == nil && v.ToBegin() == nil {
			pid <- v.PID
		}
	}() // its thread ends with it
	victim, ok := <-pid
	require.True(t, ok)
	<-pid
	_, err := unix.Wait4(victim, nil, unix.WALL, nil)
	require.NoError(t, err)
	require.Equal(t, unix.ESRCH, unix.Kill(victim, 0))
}

func TestProcessAnotherExecutable(t *testing.T) {
	tracer := newTracer(t)
	_, err := tracer.Start(exec.Command("/bin/sh", "-c", "exit"))
	require.ErrorContains(t, err, "another executable")
	_, err = tracer.Start(exec.Command("/nowhere/to/be/found"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NotErrorIs(t, err, ErrNotPermitted)
	require.Empty(t, tracer.victims)
}

func TestMarkersWithoutTracer(t *testing.T) {
	Begin()
	End()
}

// Where ptrace is refused, the error says that.
func TestProcessNotPermitted(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=forbidden")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "ptrace is not permitted here")
}

func init() {
	roles["forbidden"] = func() error {
		if err := hosttest.Forbid(unix.SYS_PTRACE); err != nil {
			return err
		}
		tracer, err := New()
		if err != nil {
			return err
		}
		_, err = tracer.Start(exec.Command("/proc/self/exe"))
		if !errors.Is(err, ErrNotPermitted) {
			return fmt.Errorf("not ErrNotPermitted: %v", err)
		}
		fmt.Println(err)
		return nil
	}
}
