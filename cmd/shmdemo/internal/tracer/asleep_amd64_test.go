package tracer

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/shm"
)

// A victim that sleeps can be killed, or stopped, in its sleep; the world is asked to wake it, once.
func TestProcessAsleep(t *testing.T) {
	tracer, page := newTracer(t), newPage(t)
	wakes := 0
	wake := func() error {
		wakes++
		time.AfterFunc(5*time.Millisecond, func() { // is not asked again meanwhile
			page.Word32(wordGo).Store(1)
			shm.FutexWake(page.Word32(wordGo), math.MaxInt)
		})
		return nil
	}
	v := begun(t, tracer, page, "wait")
	trace := record(t, v, wake)
	require.Equal(t, 1, wakes)
	inside := ofKind(trace, InSyscall)
	require.Len(t, inside, 1)
	p := inside[0]
	require.Equal(t, unix.SYS_FUTEX, p.Syscall)
	require.Contains(t, p.String(), "asleep in futex, ")
	require.Len(t, ofKind(trace, SyscallEntry), 1)
	exit := ofKind(trace, SyscallExit)
	require.Len(t, exit, 1)

	for _, stop := range []bool{false, true} {
		require.NoError(t, v.ToBegin())
		wakes = 0
		reached, err := v.RunTo(p, wake)
		require.NoError(t, err)
		require.True(t, reached)
		require.Zero(t, wakes)
		state, _, err := v.thread()
		require.NoError(t, err)
		require.Equal(t, "S", string(state))
		if stop {
			require.NoError(t, v.Stop())
			page.Word32(wordGo).Store(1) // without a wake: its wait begins again, and looks
			require.Zero(t, shm.FutexWake(page.Word32(wordGo), 1), "stopped, it does not wait")
			state, _, err := v.thread()
			require.NoError(t, err)
			require.Equal(t, "t", string(state))
		}
		require.NoError(t, v.ToEnd(wake))
		if stop {
			require.Zero(t, wakes)
		} else {
			require.Equal(t, 1, wakes)
		}
	}

	require.NoError(t, v.ToBegin())
	wakes = 0
	reached, err := v.RunTo(exit[0], wake)
	require.NoError(t, err)
	require.True(t, reached)
	require.Equal(t, 1, wakes)
	require.NoError(t, v.ToEnd(nil))

	page.Word32(wordGo).Store(1) // it will not sleep
	require.NoError(t, v.ToBegin())
	reached, err = v.RunTo(p, wake)
	require.NoError(t, err)
	require.False(t, reached)

	require.NoError(t, v.ToBegin())
	reached, err = v.RunTo(p, nil)
	require.NoError(t, err)
	require.True(t, reached)
	kill(t, v)
}

// What sleeps for good, and is not woken, is an error.
func TestProcessStuck(t *testing.T) {
	tracer, page := newTracer(t), newPage(t)
	v := begun(t, tracer, page, "wait")
	tracer.Patience = 20 * 1e6
	require.ErrorIs(t, v.ToEnd(nil), ErrStuck)
	kill(t, v)
}

// A goroutine that waits for another thread's gets there, whatever is frozen.
func TestProcessOtherThreads(t *testing.T) {
	tracer, page := newTracer(t), newPage(t)
	v := begun(t, tracer, page, "other")
	require.NotEmpty(t, v.frozen)
	trace := record(t, v, nil)
	require.NotEmpty(t, trace.Points)
	last := trace.Points[len(trace.Points)-1]
	for range 5 {
		require.NoError(t, v.ToBegin())
		page.Word64(wordCount).Store(0)
		reached, err := v.RunTo(last, nil)
		require.NoError(t, err)
		require.True(t, reached, "%v", last)
		require.NotEmpty(t, v.frozen)
		require.EqualValues(t, 1, page.Word64(wordCount).Load())
		require.NoError(t, v.ToEnd(nil))
	}
	kill(t, v)
}

// A victim that ends by itself is told from one that was killed.
func TestProcessExits(t *testing.T) {
	tracer, page := newTracer(t), newPage(t)
	for name, run := range map[string]func(v *Victim) error{
		"record": func(v *Victim) error { _, err := v.Record(nil); return err },
		"to end": func(v *Victim) error { return v.ToEnd(nil) },
		"run to": func(v *Victim) error { _, err := v.RunTo(Point{PC: tracer.end, Pass: 2}, nil); return err },
	} {
		v := begun(t, tracer, page, "exit")
		err := run(v)
		var exit *ExitError
		require.ErrorAs(t, err, &exit, name)
		require.Equal(t, 3, exit.Status.ExitStatus())
		require.EqualError(t, err, (&ExitError{v.PID, exit.Status}).Error())
		require.Contains(t, err.Error(), "exit status 3")
		require.Equal(t, err, v.Exited())
		require.Equal(t, err, v.ToBegin())
	}
	v := begun(t, tracer, page, "count")
	require.NoError(t, unix.Kill(v.PID, unix.SIGTERM)) // somebody else
	require.ErrorContains(t, v.ToEnd(nil), "terminated (signal 15)")
	v = begun(t, tracer, page, "count")
	require.NoError(t, unix.Kill(v.PID, unix.SIGKILL))
	require.ErrorContains(t, v.ToEnd(nil), "killed (signal 9)")
	v = start(t, tracer, page, "none")
	require.ErrorContains(t, v.ToBegin(), "exit status 1")
}
