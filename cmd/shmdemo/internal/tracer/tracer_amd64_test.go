package tracer

import (
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/shm"
)

// begun starts a victim and takes it to its operation.
func begun(t testing.TB, tracer *Tracer, page *shm.Segment, operation string) *Victim {
	t.Helper()
	v := start(t, tracer, page, operation)
	require.NoError(t, v.ToBegin())
	return v
}

func kill(t testing.TB, v *Victim) {
	t.Helper()
	status, err := v.Kill()
	require.NoError(t, err)
	require.True(t, status.Signaled() && status.Signal() == syscall.SIGKILL, "%v", status)
}

// asShipped skips a test of what exactly is executed where the race detector adds to it.
func asShipped(t testing.TB) {
	if raceDetector {
		t.Skip("this is not the code as shipped: the race detector's calls are in it")
	}
}

func record(t testing.TB, v *Victim, onBlocked func() error) Trace {
	t.Helper()
	trace, err := v.Record(onBlocked)
	require.NoError(t, err)
	return trace
}

// The same operation has the same trace, in one victim and in another, although a record of this one
// takes longer than the runtime's time slice.
func TestProcessRecordsAreEqual(t *testing.T) {
	asShipped(t)
	tracer, page := newTracer(t), newPage(t)
	var traces []Trace
	for range 2 {
		v := begun(t, tracer, page, "copy")
		for range 3 {
			traces = append(traces, record(t, v, nil))
			require.NoError(t, v.ToBegin())
		}
		kill(t, v)
	}
	require.NotEmpty(t, traces[0].Points)
	for _, trace := range traces {
		require.Equal(t, traces[0], trace)
	}
	common := Common(traces...)
	require.Empty(t, common.Dropped)
	require.Equal(t, traces[0].Points, common.Points)
}

// Nor does it change the trace if the runtime has asked the goroutine to give way while it stood at
// its Begin, as the other threads run until the tracer comes to look.
func TestProcessLongAtBegin(t *testing.T) {
	asShipped(t)
	tracer, page := newTracer(t), newPage(t)
	v := begun(t, tracer, page, "count")
	want := record(t, v, nil)
	kill(t, v)
	v = start(t, tracer, page, "count")
	for state := byte(0); state != 't'; {
		var err error
		state, _, err = v.thread()
		require.NoError(t, err)
		time.Sleep(time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond) // five time slices; it must make no difference
	require.NoError(t, v.ToBegin())
	require.Equal(t, want, record(t, v, nil))
	kill(t, v)
}

// In a loop the first, second and last pass are points, outside of it the only one. What calls the
// operation is none.
func TestProcessRecordOfALoop(t *testing.T) {
	asShipped(t)
	tracer, page := newTracer(t), newPage(t)
	v := begun(t, tracer, page, "count")
	trace := record(t, v, nil)
	passes := map[uintptr][]int{}
	for _, p := range trace.Points {
		require.Equal(t, Instruction, p.Kind)
		passes[p.PC] = append(passes[p.PC], p.Pass)
		require.Equal(t, p.Pass == p.Passes, p.Last, "%v", p)
		if !strings.HasPrefix(p.Function, "sync/atomic.") {
			require.Equal(t, "tracer.opCount", path.Base(p.Function))
		}
		require.Less(t, p.Offset, uintptr(4096), "%v", p)
		require.Positive(t, p.Line)
	}
	loop, once := 0, 0
	for _, p := range passes {
		switch {
		case slices.Equal(p, []int{1, 2, loops}):
			loop++
		case slices.Equal(p, []int{1}):
			once++
		default:
			require.Equal(t, []int{1, 2, loops + 1}, p) // the condition
		}
	}
	require.Greater(t, loop, 3)
	require.Positive(t, once)
	require.Regexp(t, `^tracer\.opCount\+0x[0-9a-f]+ \([a-z_0-9]+\.go:\d+\), pass 2 of 7$`,
		trace.Points[slices.IndexFunc(trace.Points, func(p Point) bool {
			return p.Pass == 2 && p.Passes == loops && strings.Contains(p.Function, "opCount")
		})].String())
}

// The victim writes i+1 in the i-th pass of its loop: whatever point of the loop it is stopped at
// for the n-th time, n-1 or n are written, which of them depends on the instruction alone.
func TestProcessRunToIsExact(t *testing.T) {
	asShipped(t)
	tracer, page := newTracer(t), newPage(t)
	v := begun(t, tracer, page, "count")
	trace := record(t, v, nil)
	require.NoError(t, v.ToBegin())
	after := map[uintptr]int{} // in how many points of a place the store has happened
	points := map[uintptr]int{}
	for _, p := range trace.Points {
		if p.Passes < loops {
			continue
		}
		page.Word64(wordCount).Store(0)
		reached, err := v.RunTo(p, nil)
		require.NoError(t, err)
		require.True(t, reached, "%v", p)
		require.Equal(t, p.PC, pcOf(t, v))
		count := int(page.Word64(wordCount).Load())
		points[p.PC]++
		if count == p.Pass {
			after[p.PC]++
		} else {
			require.Equal(t, p.Pass-1, count, "%v", p)
		}
		require.NoError(t, v.ToEnd(nil)) // and goes on as if nothing had been
		require.EqualValues(t, loops, page.Word64(wordCount).Load())
		require.NoError(t, v.ToBegin())
	}
	before := 0
	for pc, n := range points {
		if after[pc] == 0 {
			before++
		} else {
			require.Equal(t, n, after[pc], "sometimes before, sometimes after the store")
		}
	}
	require.Positive(t, before)
	require.Greater(t, len(after), 3)

	p := trace.Points[slices.IndexFunc(trace.Points, func(p Point) bool { return p.Passes == loops })]
	for _, pass := range []int{3, 5, loops} { // those between too
		p.Pass = pass
		page.Word64(wordCount).Store(0)
		reached, err := v.RunTo(p, nil)
		require.NoError(t, err)
		require.True(t, reached)
		require.EqualValues(t, pass-1, page.Word64(wordCount).Load())
		require.NoError(t, v.ToEnd(nil))
		require.NoError(t, v.ToBegin())
	}
	p.Pass = loops + 2
	reached, err := v.RunTo(p, nil)
	require.NoError(t, err)
	require.False(t, reached, "the victim does not come there so often")
	_, err = v.RunTo(p, nil)
	require.ErrorContains(t, err, "not at its Begin")
	_, err = v.Record(nil)
	require.ErrorContains(t, err, "not at its Begin")
	require.NoError(t, v.ToBegin(), "it stood at its End")
	kill(t, v)
}

func pcOf(t testing.TB, v *Victim) uintptr {
	r, err := v.registers()
	require.NoError(t, err)
	return v.here(r.Rip)
}

// Every point can be the end of a victim.
func TestProcessKillEverywhere(t *testing.T) {
	tracer, page := newTracer(t), newPage(t)
	v := begun(t, tracer, page, "write")
	trace := record(t, v, nil)
	kill(t, v)
	for _, p := range trace.Points {
		v := begun(t, tracer, page, "write")
		reached, err := v.RunTo(p, nil)
		require.NoError(t, err)
		require.True(t, reached, "%v", p)
		kill(t, v)
		require.ErrorIs(t, unix.Kill(v.PID, 0), unix.ESRCH)
		again, err := v.Kill()
		require.NoError(t, err, "once more does no harm")
		require.True(t, again.Signaled())
		require.Error(t, v.ToBegin())
	}
}

// memmove is part of what calls it. An instruction that repeats itself counts once.
func TestProcessMemmove(t *testing.T) {
	asShipped(t)
	tracer, page := newTracer(t), newPage(t)
	v := begun(t, tracer, page, "copy")
	trace := record(t, v, nil)
	require.NoError(t, v.ToBegin())
	partial := 0
	b := page.Bytes()
	for i := range copyBytes {
		b[copyFrom+i] = byte(i%250) + 1
	}
	move := 0
	for _, p := range trace.Points {
		if p.Function != "runtime.memmove" {
			continue
		}
		move++
		clear(b[copyTo : copyTo+copyBytes])
		reached, err := v.RunTo(p, nil)
		require.NoError(t, err)
		require.True(t, reached, "%v", p)
		if n := slices.Index(b[copyTo:copyTo+copyBytes], 0); n > 0 {
			partial++
		}
		require.NoError(t, v.ToEnd(nil))
		require.Equal(t, b[copyFrom:copyFrom+copyBytes], b[copyTo:copyTo+copyBytes])
		require.NoError(t, v.ToBegin())
	}
	require.Greater(t, move, 10)
	require.Less(t, trace.Steps, copyBytes/8, "a step for each repetition of MOVSQ")
	t.Logf("%d points in memmove, a part was copied at %d", move, partial)
	kill(t, v)
}

func ofKind(trace Trace, kind Kind) (points []Point) {
	for _, p := range trace.Points {
		if p.Kind == kind {
			points = append(points, p)
		}
	}
	return points
}

// Each syscall has a point before and one after it; what else the runtime does around it has one.
func TestProcessSyscalls(t *testing.T) {
	asShipped(t)
	tracer, page := newTracer(t), newPage(t)
	v := begun(t, tracer, page, "write")
	trace := record(t, v, nil)
	entries, exits := ofKind(trace, SyscallEntry), ofKind(trace, SyscallExit)
	require.Len(t, entries, 3, "first, second, last")
	require.Len(t, exits, 3)
	for i, p := range entries {
		require.Equal(t, unix.SYS_WRITE, p.Syscall)
		require.Equal(t, p.PC+2, exits[i].PC)
		require.Equal(t, p.Pass, exits[i].Pass)
		require.Contains(t, p.From, "tracer.opWrite (")
		require.Contains(t, p.String(), "before write, ")
		require.Contains(t, exits[i].String(), "after write, ")
	}
	require.Equal(t, []int{1, 2, writes}, []int{entries[0].Pass, entries[1].Pass, entries[2].Pass})
	library := ofKind(trace, Library)
	require.Len(t, library, 3, "%v", library)
	require.Regexp(t, `^library, \w+\.\w+\+0x0 \(.*from tracer.opWrite`, library[0].String())
	require.Empty(t, ofKind(trace, InSyscall))
	for _, p := range trace.Points {
		require.Equal(t, p.Kind == Instruction, strings.Contains(p.Function, "/tracer.op"), "%v", p)
	}
	require.NoError(t, v.ToBegin())
	reached, err := v.RunTo(Point{PC: entries[0].PC, Pass: 1, Kind: InSyscall, Syscall: unix.SYS_WRITE}, nil)
	require.NoError(t, err)
	require.False(t, reached, "it does not sleep there")
	for i, p := range append(entries, exits...) {
		require.NoError(t, v.ToBegin())
		reached, err := v.RunTo(p, nil)
		require.NoError(t, err)
		require.True(t, reached)
		r, err := v.registers()
		require.NoError(t, err)
		if i < len(entries) {
			require.EqualValues(t, unix.SYS_WRITE, r.Rax)
		} else {
			require.Equal(t, -int64(unix.EBADF), int64(r.Rax))
		}
		require.NoError(t, v.ToEnd(nil))
	}
	kill(t, v)
}

// Another thread that executes the same instructions, while the main thread waits for it, does not come to the
// breakpoints, nor does the main thread pass one unseen: it is stopped at its own n-th pass.
func TestProcessSharedCode(t *testing.T) {
	asShipped(t)
	tracer, page := newTracer(t), newPage(t)
	v := begun(t, tracer, page, "share")
	page.Word64(wordCount).Store(0)
	page.Word64(wordSum).Store(0)
	trace := record(t, v, nil)
	require.EqualValues(t, 2, page.Word64(wordCount).Load())
	require.EqualValues(t, shares, page.Word64(wordSum).Load())
	stops := 0
	for _, p := range trace.Points {
		instruction := p.Kind == Instruction && strings.HasSuffix(p.Function, ".opMove")
		if !instruction && p.Syscall != unix.SYS_GETPPID {
			continue
		}
		require.NoError(t, v.ToBegin())
		page.Word64(wordCount).Store(0)
		page.Word64(wordSum).Store(0)
		reached, err := v.RunTo(p, nil)
		require.NoError(t, err, "%v", p)
		require.Equal(t, p.PC, pcOf(t, v))
		require.True(t, reached, "%v", p)
		if instruction {
			require.Contains(t, []uint64{uint64(p.Pass) - 1, uint64(p.Pass)}, page.Word64(wordCount).Load(), "%v", p)
			if p.Pass == 1 {
				require.Zero(t, page.Word64(wordSum).Load(), "%v: the other thread has run", p)
			} else {
				require.EqualValues(t, shares, page.Word64(wordSum).Load(), "%v: the other thread has not run", p)
			}
		}
		stops++
		require.NoError(t, v.ToEnd(nil))
		require.EqualValues(t, 2, page.Word64(wordCount).Load())
		require.EqualValues(t, shares, page.Word64(wordSum).Load())
	}
	require.Greater(t, stops, 50)
	kill(t, v)
}
