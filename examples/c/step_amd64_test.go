package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
)

var every = flag.Int("every", 0, "TestKilledAnywhere stops a producer at each so many instructions; 0: at about 15 of them")

const (
	stepID, survivorID = 1, 2 // of messages
	stepSize           = 1000
)

// A world is what a life in C meets: words that make it do everything that it can.
var worlds = map[string]struct {
	at      uint64 // the ring's position
	timeout int    // of its send, milliseconds
	prepare func(t *testing.T, r *ring.Ring, survivor *ring.Producer) (before int)
}{
	// Slot 0, which it takes, has left a claim and the turn; the consumer is asleep, it says; and what is left of the
	// lap is too small for the message.
	"after the dead": {3*1024 - 5, 0, func(t *testing.T, r *ring.Ring, _ *ring.Producer) int {
		const pos, busy, idle = 3*1024 - 5, 1, 1
		r.Segment().Word64(45056 + pos%1024*16).Store(busy | (pos/1024+1)<<2 | 0<<37 | 1<<45)
		r.Segment().Word64(4352).Store(7<<8 | 1)
		r.Segment().Word64(8320).Store(idle | 5<<2 | pos<<36)
		return 0
	}},
	"full": {0, 2, func(t *testing.T, _ *ring.Ring, survivor *ring.Producer) (n int) {
		b := make([]byte, 4000)
		for ; ; n++ {
			ringtest.Fill(b, survivorID, uint64(n+1))
			if err := survivor.TrySend(b, survivorID); err != nil {
				require.ErrorIs(t, err, ring.ErrFull)
				return n
			}
		}
	}},
}

// A producer in C is killed at any instruction of its life, from attaching to leaving, or stands there while the others
// go on. They do, and nothing is missing but what it had not sent.
func TestKilledAnywhere(t *testing.T) {
	for name := range worlds {
		t.Run(name, func(t *testing.T) {
			length := liveTo(t, name, -1, false)
			require.Greater(t, length, 500)
			stride := *every
			if stride == 0 {
				stride = length/15 + 1
			}
			tries := 0
			for k := ringtest.Random(t).IntN(stride); k < length; k += stride {
				for _, kill := range []bool{true, false} {
					liveTo(t, name, k, kill)
					tries++
				}
			}
			t.Logf("%d instructions; killed or stopped at one %d times", length, tries)
		})
	}
}

// liveTo runs a life to its instruction k, and judges what became of it. With a k of -1 it runs all of it, and returns
// how many instructions that are.
func liveTo(t *testing.T, name string, k int, kill bool) (length int) {
	path := ringtest.Path(t)
	defer os.Remove(path)
	r, err := ring.Create(path, ringtest.Tiny)
	require.NoError(t, err)
	defer r.Close()
	world := worlds[name]
	startAt(t, r, world.at)
	c, err := r.Consume()
	require.NoError(t, err)
	defer c.Close()
	zero, err := r.Attach()
	require.NoError(t, err)
	seat, err := r.Attach()
	require.NoError(t, err)
	defer seat.Close()
	require.NoError(t, zero.Close())
	survivor := seat.NewProducer()
	sent := uint64(world.prepare(t, r, survivor))
	what := fmt.Sprintf("at instruction %d, killed: %v", k, kill)

	v := begin(t, path, world.timeout)
	defer v.end()
	if k < 0 {
		length = v.stepToEnd()
	} else if !v.step(k) {
		v.said()
		return 0 // lives differ by some instructions, and this one was over before
	}
	if kill {
		v.end()
	}

	// The survivors go on: for more than a lap, unless an open claim of the living is in the way.
	got := map[uint32]uint64{}
	var wrong error
	poll := func() {
		_, err := c.Poll(100, func(f ring.Frame) ring.Action {
			id, number, err := ringtest.Verify(f.Data)
			if err != nil || number != got[id]+1 {
				wrong = errors.Join(wrong, err, fmt.Errorf("%d of %d came behind %d", number, id, got[id]))
			}
			got[id] = number
			return ring.Continue
		})
		require.NoError(t, err, what)
		require.NoError(t, wrong, what)
	}
	b := make([]byte, 4000)
	for range 20 {
		ringtest.Fill(b, survivorID, sent+1)
		err := survivor.TrySend(b, survivorID)
		if err == ring.ErrFull && !kill {
			poll()
			err = survivor.TrySend(b, survivorID)
		} else if err == ring.ErrFull {
			ringtest.Until(t, what, func() bool { poll(); err = survivor.TrySend(b, survivorID); return err != ring.ErrFull })
		}
		if err == ring.ErrFull {
			break
		}
		require.NoError(t, err, what)
		sent++
		poll()
	}
	acked := uint64(0)
	if !kill {
		require.Zero(t, v.finish(), what)
	}
	if v.said() == "+" {
		acked = 1
	}
	ringtest.Until(t, what, func() bool { poll(); return got[survivorID] == sent && got[stepID] >= acked })
	require.LessOrEqual(t, got[stepID], uint64(1), what)
	if !kill {
		require.Equal(t, acked, got[stepID], what)
	}
	require.NoError(t, r.Check(), what)
	freed(t, r, 0)
	heir, err := r.Attach()
	require.NoError(t, err)
	defer heir.Close()
	require.Zero(t, heir.Slot(), "%s: the seat is free", what)
	require.NoError(t, heir.NewProducer().TrySend(nil, 0), what)
	n, err := c.Poll(10, func(f ring.Frame) ring.Action {
		require.Empty(t, f.Data, what)
		return ring.Continue
	})
	require.NoError(t, err, what)
	require.Equal(t, 1, n, what)
	require.Empty(t, findings(t, path), what)
	turn := r.Segment().Word64(4352).Load()
	require.Zero(t, turn, what)
	return length
}

// A victim is a process that this one traces, on a thread that is its own.
type victim struct {
	t    *testing.T
	pid  int
	out  *os.File
	over bool

	before unix.CPUSet // where this thread may run
}

func first(set unix.CPUSet) *unix.CPUSet {
	one := unix.CPUSet{}
	for cpu := range len(set) * 64 {
		if set.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	return &one
}

// begin starts a life and brings it to its first breakpoint.
func begin(t *testing.T, path string, timeout int) *victim {
	program := compile(t, "testdata/driver.c")
	out, w, err := os.Pipe()
	require.NoError(t, err)
	defer w.Close()
	runtime.LockOSThread()
	v := &victim{t: t, out: out}
	require.NoError(t, unix.SchedGetaffinity(0, &v.before))
	require.NoError(t, unix.SchedSetaffinity(0, first(v.before))) // on one processor a step is a switch, and no more
	p, err := os.StartProcess(program,
		[]string{program, "life", path, strconv.Itoa(stepID), strconv.Itoa(stepSize), strconv.Itoa(timeout)},
		&os.ProcAttr{Files: []*os.File{nil, w, os.Stderr}, Sys: &syscall.SysProcAttr{Ptrace: true}})
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		t.Skip("ptrace is not permitted here: ", err)
	}
	require.NoError(t, err)
	v.pid = p.Pid
	p.Release()
	require.Equal(t, unix.SIGTRAP, v.wait().StopSignal(), "exec")
	require.NoError(t, unix.PtraceSetOptions(v.pid, unix.PTRACE_O_EXITKILL))
	require.NoError(t, unix.PtraceCont(v.pid, 0))
	require.Equal(t, unix.SIGTRAP, v.wait().StopSignal(), "the first breakpoint")
	return v
}

func (v *victim) wait() (status unix.WaitStatus) {
	for {
		_, err := unix.Wait4(v.pid, &status, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		require.NoError(v.t, err)
		if v.over = !status.Stopped(); v.over {
			unix.SchedSetaffinity(0, &v.before)
			runtime.UnlockOSThread()
		}
		return status
	}
}

// step executes n instructions, if it lives for as long.
func (v *victim) step(n int) bool {
	for range n {
		require.NoError(v.t, unix.PtraceSingleStep(v.pid))
		status := v.wait()
		if v.over {
			return false
		}
		require.Equal(v.t, unix.SIGTRAP, status.StopSignal())
	}
	return true
}

// stepToEnd counts the instructions before the last breakpoint.
func (v *victim) stepToEnd() (n int) {
	var regs unix.PtraceRegs
	next := make([]byte, 1)
	for ; ; n++ {
		require.NoError(v.t, unix.PtraceGetRegs(v.pid, &regs))
		_, err := unix.PtracePeekText(v.pid, uintptr(regs.Rip), next)
		require.NoError(v.t, err)
		const int3 = 0xcc
		if next[0] == int3 {
			return n
		}
		require.True(v.t, v.step(1))
	}
}

// finish lets it live to its end, and returns its exit status.
func (v *victim) finish() int {
	for {
		require.NoError(v.t, unix.PtraceCont(v.pid, 0))
		if status := v.wait(); v.over {
			return status.ExitStatus()
		}
	}
}

// end kills it, if it lives.
func (v *victim) end() {
	if v.over {
		return
	}
	unix.Kill(v.pid, unix.SIGKILL)
	for !v.over {
		v.wait()
	}
}

// said is what a victim that has ended has written.
func (v *victim) said() string {
	defer v.out.Close()
	b, err := io.ReadAll(v.out)
	require.NoError(v.t, err)
	return string(b)
}
