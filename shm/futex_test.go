package shm

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestFutexWaitReturns(t *testing.T) {
	forKinds(t, allKinds, func(t *testing.T, kind Kind) {
		w := newSegment(t, kind).Word32(0)
		w.Store(5)
		require.NoError(t, FutexWait(w, 4, 0), "another value: look again")
		require.NoError(t, FutexWait(w, 4, 1), "even after the deadline")
		for _, deadline := range []int64{-1 << 63, -1, 1, Now() - 1} {
			require.Equal(t, os.ErrDeadlineExceeded, FutexWait(w, 5, deadline))
		}
		deadline := Now() + int64(5*time.Millisecond)
		for !errors.Is(FutexWait(w, 5, deadline), ErrDeadline) {
			require.Less(t, Now(), deadline+int64(10*time.Second))
		}
		require.GreaterOrEqual(t, Now(), deadline-int64(time.Millisecond))
		require.Zero(t, FutexWake(w, 1))
		require.Zero(t, FutexWake(w, 0))
		require.Zero(t, FutexWake(w, -1))
	})
}

// Waiter and waker meet at one word through two mappings of the file.
func TestFutexWakesAsManyAsAsked(t *testing.T) {
	forKinds(t, allKinds, func(t *testing.T, kind Kind) {
		s := newSegment(t, kind)
		other := s
		if kind != Heap {
			f, err := s.File()
			require.NoError(t, err)
			defer f.Close()
			other, err = FromFile(f)
			require.NoError(t, err)
			defer other.Close()
		}
		const waiters = 5
		var group sync.WaitGroup
		for range waiters {
			group.Go(func() {
				for w := Word32Low(s.Word64(128)); w.Load() == 0; {
					if err := FutexWait(w, 0, 0); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		w := Word32Low(other.Word64(128))
		// A wake without a new value sends them back to sleep: so the count tells that both found
		// each other.
		eventually(t, func() bool { return FutexWake(w, 1) == 1 }, "nobody to wake")
		eventually(t, func() bool { return FutexWake(w, 2) == 2 }, "not two to wake")
		other.Word64(128).Store(1)
		FutexWake(w, math.MaxInt) // all: who is not asleep yet sees the new value
		group.Wait()
	})
}

func TestFutexAcrossProcesses(t *testing.T) {
	forKinds(t, fileKinds, func(t *testing.T, kind Kind) {
		s := newSegment(t, kind)
		arg, files := handOver(t, s)
		w := startWorker(t, "waiter", arg, nil, files...)
		w.expect("waiting")
		eventually(t, func() bool { return FutexWake(s.Word32(0), 1) == 1 }, "nobody to wake")
		w.expect("woken")
		for s.Word32(4).Load() == 0 { // and the other way round
			require.NoError(t, FutexWait(s.Word32(4), 0, 0))
		}
		w.finish()
	})
}

func roleWaiter() {
	s := inherited()
	say("waiting")
	check(FutexWait(s.Word32(0), 0, Now()+int64(20*time.Second)))
	say("woken")
	s.Word32(4).Store(1)
	FutexWake(s.Word32(4), 1)
	hear()
}

// Signals interrupt the wait again and again: they do not end it, and do not move its end.
func TestFutexDeadlineUnderSignals(t *testing.T) {
	w := newSegment(t, Memfd).Word32(0)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	thread := unix.Gettid()
	var done atomic.Bool
	var storm sync.WaitGroup
	storm.Go(func() {
		for !done.Load() {
			unix.Tgkill(os.Getpid(), thread, unix.SIGURG)
			runtime.Gosched()
		}
	})
	sleeps := func() int64 { // of this thread
		var u unix.Rusage
		require.NoError(t, unix.Getrusage(unix.RUSAGE_THREAD, &u))
		return u.Nvcsw
	}
	defer storm.Wait()
	defer done.Store(true)
	for slept, end := int64(0), Now()+int64(20*time.Second); slept < 2; { // once is a sleep that no signal met
		require.Less(t, Now(), end, "no signal arrived")
		before, deadline := sleeps(), Now()+int64(30*time.Millisecond)
		require.ErrorIs(t, FutexWait(w, 0, deadline), ErrDeadline)
		late := Now() - deadline
		require.GreaterOrEqual(t, late, -int64(time.Millisecond))
		require.Less(t, late, int64(10*time.Second))
		slept = sleeps() - before
	}
}

func TestFutexDoesNotAllocate(t *testing.T) {
	w := newSegment(t, Memfd).Word32(0)
	past := Now() - 1
	for name, call := range map[string]func(){
		"wait until the past":   func() { FutexWait(w, 0, past) },
		"wait on another value": func() { FutexWait(w, 1, 0) },
		"wake":                  func() { FutexWake(w, 1) },
		"now":                   func() { Now() },
		"can spin":              func() { CanSpin() },
		"pause":                 func() { Pause(100) },
		"yield":                 Yield,
	} {
		require.Zero(t, testing.AllocsPerRun(100, call), name)
	}
}

func TestNowIsTheKernelsClock(t *testing.T) {
	const slack = int64(100 * time.Microsecond)
	last := int64(0)
	for range 1000 {
		before := monotonic()
		now := Now()
		after := monotonic()
		require.GreaterOrEqual(t, now, before-slack)
		require.LessOrEqual(t, now, after+slack)
		require.GreaterOrEqual(t, now, last)
		last = now
	}
}

func TestCanSpinFollowsGOMAXPROCS(t *testing.T) {
	before := runtime.GOMAXPROCS(1)
	defer func() {
		runtime.GOMAXPROCS(before)
		eventually(t, func() bool { return CanSpin() == canSpin() }, "old answer")
	}()
	eventually(t, func() bool { return !CanSpin() }, "one processor, and still spinning")
	runtime.GOMAXPROCS(2)
	eventually(t, func() bool { return CanSpin() == (runtime.NumCPU() > 1) }, "old answer")
}

// Two that spin for each other need two processors.
func TestCanSpinFollowsQuota(t *testing.T) {
	defer func(q float64) { quotaAtStart = q }(quotaAtStart)
	quotaAtStart = math.Inf(1)
	can := canSpin()
	for _, q := range []float64{0.1, 1, 1.9} {
		quotaAtStart = q
		assert.False(t, canSpin(), "%v processors", q)
	}
	for _, q := range []float64{2, 8} {
		quotaAtStart = q
		assert.Equal(t, can, canSpin(), "%v processors", q)
	}
}

// It returns, whatever it is asked for.
func TestPause(t *testing.T) {
	for _, n := range []int{-1, 0, 1, pauseStep, pauseStep + 1, 10 * pauseStep} {
		Pause(n)
	}
}

func BenchmarkNow(b *testing.B) {
	for b.Loop() {
		Now()
	}
}

func BenchmarkCanSpin(b *testing.B) {
	for b.Loop() {
		CanSpin()
	}
}

func BenchmarkPause(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				Pause(n)
			}
		})
	}
}

func BenchmarkFutexWakeNobody(b *testing.B) {
	s, err := NewMemfd("bench", page, page)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for b.Loop() {
		FutexWake(s.Word32(0), 1)
	}
}

func BenchmarkHeld(b *testing.B) {
	s, err := NewMemfd("bench", page, page)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	l, err := s.OpenLocks()
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	for b.Loop() {
		l.Held(1)
	}
}

func BenchmarkPing(b *testing.B) {
	e, err := NewEvent()
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	for b.Loop() {
		e.Ping()
	}
}
