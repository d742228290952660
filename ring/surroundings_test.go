package ring_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/hosttest"
	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A worker in namespaces of its own, whose pid is 1 there, is seen alive
// inside its claim and named as itself, with the number of its namespace; and
// it is seen to die.
func TestProcessNamespaces(t *testing.T) {
	onFiles(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		w := startAs(t, r, hosttest.Apart(t, unix.CLONE_NEWPID|unix.CLONE_NEWNS), "claim")
		slot, err := strconv.Atoi(w.hear())
		require.NoError(t, err)
		var stall *ring.StallEvent
		c := ringtest.Consume(t, r, ring.WithOnStall(func(e ring.StallEvent) { stall = &e }))
		require.Len(t, ringtest.Receive(t, c, 1), 1)
		ringtest.Until(t, "a stall is told", func() bool {
			require.Empty(t, ringtest.Poll(t, c, 1))
			return stall != nil
		})
		began, err := shm.ProcessStart(w.pid())
		require.NoError(t, err)
		assert.Equal(t, 1, stall.PID)
		assert.Equal(t, began, stall.Start, "its own, whichever /proc it saw")
		assert.NotEqual(t, shm.PIDNamespace(), stall.PIDNamespace)
		assert.NotZero(t, stall.PIDNamespace)
		info := r.SlotInfo(slot)
		assert.Equal(t, []uint64{1, began, stall.PIDNamespace}, []uint64{uint64(info.PID), info.Start, info.PIDNamespace})
		w.kill()
		ringtest.Until(t, "the claim is skipped", func() bool {
			require.Empty(t, ringtest.Poll(t, c, 1))
			return c.Stats().SkippedDead == 1
		})
	})
}

// workParent has a child before it attaches, and one afterwards, and says
// their pids from inside a claim.
func workParent(w *worker) error {
	spawn := func() error {
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			return err
		}
		w.say("%d", cmd.Process.Pid)
		return nil
	}
	if err := spawn(); err != nil {
		return err
	}
	a, err := w.ring.Attach()
	if err != nil {
		return err
	}
	if _, err := a.NewProducer().TryClaim(100, 1); err != nil {
		return err
	}
	if err := spawn(); err != nil {
		return err
	}
	w.say("%d", a.Slot())
	_, err = w.wait()
	return err
}

// Children that outlive a worker do not make it look alive: they inherit no
// lock, and the claim and the slot are free as soon as it is gone.
func TestProcessChildrenOutliveIt(t *testing.T) {
	onFiles(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		c := ringtest.Consume(t, r)
		w := start(t, r, "parent")
		var children []int
		for range 2 {
			pid, err := strconv.Atoi(w.hear())
			require.NoError(t, err)
			children = append(children, pid)
			t.Cleanup(func() { unix.Kill(pid, unix.SIGKILL) })
		}
		slot, err := strconv.Atoi(w.hear())
		require.NoError(t, err)
		require.NoError(t, w.cmd.Process.Kill())
		_, err = w.cmd.Process.Wait()
		require.NoError(t, err)
		ringtest.Until(t, "its lock is free", func() bool {
			alive, err := c.SlotAlive(slot)
			require.NoError(t, err)
			return !alive
		})
		ringtest.Until(t, "the claim is skipped", func() bool {
			require.Empty(t, ringtest.Poll(t, c, 1))
			return c.Stats().SkippedDead == 1
		})
		for _, pid := range children {
			require.NoError(t, unix.Kill(pid, 0), "the children live")
		}
		a := ringtest.Attach(t, r)
		assert.Equal(t, slot, a.Slot())
		for _, pid := range children {
			require.NoError(t, unix.Kill(pid, unix.SIGKILL)) // they hold the worker's output, for which kill waits
		}
	})
}

// workFlood sends numbers, each of them at both ends of a frame of some size.
func workFlood(w *worker) error {
	a, err := w.ring.Attach()
	if err != nil {
		return err
	}
	p := a.NewProducer()
	id, err := strconv.ParseUint(w.args[0], 10, 32)
	if err != nil {
		return err
	}
	w.say("ready")
	for i := uint64(0); ; i++ {
		b := make([]byte, 16+i%500)
		ringtest.Fill(b, uint32(id), i)
		if err := p.Send(context.Background(), b, id); err != nil {
			return err
		}
	}
}

// Workers that are stopped and continued at random, anywhere in their sends:
// nothing is skipped, lost, torn or out of order, and all of them get on.
func TestProcessStopStorm(t *testing.T) {
	onFiles(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		c := ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift))
		random := ringtest.Random(t)
		workers := make([]*child, 3)
		for i := range workers {
			workers[i] = start(t, r, "flood", strconv.Itoa(i))
			workers[i].hear()
		}
		next := make([]uint64, len(workers))
		take := func() {
			_, err := c.Poll(50, func(f ring.Frame) ring.Action {
				id, number, err := ringtest.Verify(f.Data)
				require.NoError(t, err)
				require.EqualValues(t, f.Meta, id)
				require.Equal(t, next[id], number)
				next[id]++
				return ring.Continue
			})
			require.NoError(t, err)
		}
		stopped := make([]bool, len(workers))
		const storm = 300
		for range storm {
			i := random.IntN(len(workers))
			sig := unix.SIGSTOP
			if stopped[i] {
				sig = unix.SIGCONT
			}
			require.NoError(t, workers[i].cmd.Process.Signal(sig))
			stopped[i] = !stopped[i]
			for range random.IntN(20) {
				take()
			}
		}
		for _, w := range workers {
			require.NoError(t, w.cmd.Process.Signal(unix.SIGCONT))
		}
		reached := append([]uint64(nil), next...)
		ctx := ringtest.Context(t)
		for getsOn := 0; getsOn < len(workers); {
			require.NoError(t, c.Wait(ctx), "%v, from %v", next, reached)
			take()
			getsOn = 0
			for i := range next {
				if next[i] > reached[i]+100 {
					getsOn++
				}
			}
		}
		assert.Zero(t, c.Stats().SkippedDead)
		t.Logf("%d stops and continues, %v messages", storm, next)
	})
}

// A worker stopped inside its claim for ten idle waits of the consumer, with
// others behind it: nobody takes its claim, what the others send waits, and
// comes when it goes on.
func TestProcessStoppedForTenIdleWaits(t *testing.T) {
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	w, slot := startClaim(t, r, "claim")
	var stalls []ring.StallEvent
	c := ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift), ring.WithOnStall(func(e ring.StallEvent) { stalls = append(stalls, e) }))
	require.Len(t, ringtest.Receive(t, c, 1), 1)
	require.NoError(t, w.cmd.Process.Signal(syscall.SIGSTOP))
	p := ringtest.Producer(t, r)
	const behind = 20
	for i := range uint64(behind) {
		require.NoError(t, p.TrySend(nil, 10+i))
	}
	const tenIdleWaits = int64(10 * 100 * time.Millisecond)
	for end := shm.Now() + tenIdleWaits; shm.Now() < end; {
		c.WaitUntil(ringtest.Context(t), end)
		require.Empty(t, ringtest.Poll(t, c, 9))
	}
	require.GreaterOrEqual(t, len(stalls), 3, "after 100, 200 and 400 ms, and doubled on")
	for _, e := range stalls {
		assert.Equal(t, []int{slot, w.pid()}, []int{e.Slot, e.PID})
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.pid()))
	require.NoError(t, err)
	assert.Contains(t, string(status), "T (stopped)")
	require.NoError(t, w.cmd.Process.Signal(syscall.SIGCONT))
	w.tell("commit")
	require.Equal(t, "committed", w.hear())
	var metas []uint64
	for _, m := range ringtest.Receive(t, c, 1+behind) {
		metas = append(metas, m.Meta)
	}
	assert.EqualValues(t, 2, metas[0])
	for i, meta := range metas[1:] {
		assert.EqualValues(t, 10+i, meta)
	}
	assert.Zero(t, c.Stats().SkippedDead)
}
