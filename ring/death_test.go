package ring_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// onFiles runs a test on the kinds of memory that processes can share.
func onFiles(t *testing.T, test func(t *testing.T, kind shm.Kind)) {
	t.Helper()
	for _, kind := range []shm.Kind{shm.Memfd, shm.Named} {
		t.Run(kind.String(), func(t *testing.T) { test(t, kind) })
	}
}

// workClaim sends one message, opens a claim, and says so from inside it. Told
// to, it commits.
func workClaim(w *worker) error {
	a, err := w.ring.Attach()
	if err != nil {
		return err
	}
	p := a.NewProducer()
	if err := p.TrySend([]byte("before"), 1); err != nil {
		return err
	}
	claim, err := p.TryClaim(1000, 2)
	if err != nil {
		return err
	}
	copy(claim.Bytes(), "half of")
	w.say("%d", a.Slot())
	if _, err := w.wait(); err != nil {
		return err
	}
	if err := claim.Commit(); err != nil {
		return err
	}
	w.say("committed")
	_, err = w.wait()
	return err
}

// startClaim starts it and returns its slot, once it is inside the claim.
func startClaim(t *testing.T, r *ring.Ring, role string) (*child, int) {
	t.Helper()
	w := start(t, r, role)
	slot, err := strconv.Atoi(w.hear())
	require.NoError(t, err)
	return w, slot
}

// A producer killed inside its claim: what it had sent arrives, the claim is
// skipped, what others sent behind it arrives.
func TestProcessKilledInClaim(t *testing.T) {
	onFiles(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		w, slot := startClaim(t, r, "claim")
		p := ringtest.Producer(t, r)
		require.NoError(t, p.TrySend([]byte("behind"), 3))
		var events []ring.SkipEvent
		c := ringtest.Consume(t, r, ring.WithOnSkip(func(e ring.SkipEvent) { events = append(events, e) }))
		require.Len(t, ringtest.Receive(t, c, 1), 1)
		require.Empty(t, ringtest.Poll(t, c, 9))
		w.kill()
		got := ringtest.Receive(t, c, 1)
		assert.Equal(t, "behind", string(got[0].Data))
		require.Len(t, events, 1)
		assert.Equal(t, slot, events[0].Slot)
		assert.EqualValues(t, 1, events[0].Position)
		assert.EqualValues(t, 16, events[0].Granules)
		assert.EqualValues(t, 1, c.Stats().SkippedDead)
		assert.Zero(t, c.Stats().SkippedAborted)
		alive, err := c.SlotAlive(slot)
		require.NoError(t, err)
		assert.False(t, alive)
	})
}

// The claim in front is skipped by a consumer that polls and never waits.
func TestProcessKilledInClaimPolling(t *testing.T) {
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	w, _ := startClaim(t, r, "claim")
	c := ringtest.Consume(t, r)
	require.Len(t, ringtest.Poll(t, c, 1), 1)
	w.kill()
	ringtest.Until(t, "the claim is skipped", func() bool {
		require.Empty(t, ringtest.Poll(t, c, 1))
		return c.Stats().SkippedDead == 1
	})
	assert.EqualValues(t, 17, r.Head())
}

// A consumer that sleeps behind the claim when its owner is killed, with
// nobody to wake it.
func TestProcessKilledUnderTheSleeper(t *testing.T) {
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	w, slot := startClaim(t, r, "claim")
	p := ringtest.Producer(t, r)
	var recovery time.Duration
	skipped := make(chan int, 1)
	c := ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift), ring.WithOnSkip(func(e ring.SkipEvent) {
		recovery = e.Recovery
		skipped <- e.Slot
	}))
	ctx := ringtest.Context(t)
	received := make(chan error, 1)
	go func() {
		for range 2 {
			if err := c.Wait(ctx); err != nil {
				received <- err
				return
			}
			c.Poll(1, func(ring.Frame) ring.Action { return ring.Continue })
		}
		received <- nil
	}()
	ringtest.Until(t, "the consumer sleeps behind the claim, again and again", func() bool { return r.SleepEpisode() > 2 })
	w.kill()
	assert.Equal(t, slot, <-skipped)
	assert.Less(t, recovery, 5*time.Second, "counted from the last time it was seen alive")
	require.NoError(t, p.TrySend(nil, 0))
	require.NoError(t, <-received)
}

// workSilentCommit claims and commits when it is told to. It does not wake the
// consumer, as if it died between its commit and the wake.
func workSilentCommit(w *worker) error {
	a, err := w.ring.Attach()
	if err != nil {
		return err
	}
	w.say("attached")
	if _, err := w.wait(); err != nil {
		return err
	}
	claim, err := a.NewProducer().TryClaim(6, 0)
	if err != nil {
		return err
	}
	copy(claim.Bytes(), "silent")
	w.say("claimed")
	if _, err := w.wait(); err != nil {
		return err
	}
	if !claim.CommitSilently() {
		return ring.ErrFenced
	}
	w.say("committed")
	_, err = w.wait()
	return err
}

// sleeper is a consumer that takes one message, on a thread of its own, whose
// sleep the death of a child does not end.
type sleeper struct {
	t    *testing.T
	r    *ring.Ring
	tid  int
	took time.Duration // valid once got has delivered
	got  chan string
}

func startSleeper(t *testing.T, r *ring.Ring) *sleeper {
	t.Helper()
	c := ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift))
	s := &sleeper{t: t, r: r, got: make(chan string, 1)}
	tid := make(chan int)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var blocked, before unix.Sigset_t
		blocked.Val[0] = 1 << (unix.SIGCHLD - 1)
		if !assert.NoError(t, unix.PthreadSigmask(unix.SIG_BLOCK, &blocked, &before)) {
			close(tid)
			return
		}
		defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
		tid <- unix.Gettid()
		defer close(s.got) // without a message where it waits in vain
		began := shm.Now()
		m := ringtest.Receive(t, c, 1)
		s.took = time.Duration(shm.Now() - began)
		s.got <- string(m[0].Data)
	}()
	s.tid = <-tid
	return s
}

// sleeps tells whether it is in the kernel's hands, in the mode. The sleep word
// alone says only that it is about to go there; a thread that was woken is runnable.
func (s *sleeper) sleeps(mode int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", s.tid))
	require.NoError(s.t, err)
	_, state, _ := strings.Cut(string(stat), ") ")
	return s.r.SleepMode() == mode && state[0] == 'S'
}

func (s *sleeper) mustSleep(mode int) {
	s.t.Helper()
	ringtest.Until(s.t, "the consumer sleeps", func() bool { return s.sleeps(mode) })
}

// A producer killed between its commit and its wake leaves a message, and the
// consumer asleep in front of it: the next one to send wakes it.
func TestProcessKilledBeforeTheWake(t *testing.T) {
	withoutTimeLimits(t)
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	p := ringtest.Producer(t, r)
	w := start(t, r, "silent")
	w.hear()
	c := startSleeper(t, r)
	c.mustSleep(1)
	w.tell("claim")
	require.Equal(t, "claimed", w.hear())
	w.tell("commit")
	require.Equal(t, "committed", w.hear())
	w.kill()
	assert.True(t, c.sleeps(1), "it was woken")
	require.Equal(t, ring.Commit, ring.StateOf(r.WordAt(0)))
	require.NoError(t, p.TrySend(nil, 0))
	assert.Equal(t, "silent", <-c.got)
}

// If nobody sends, the time limit of its sleep finds the message: of the idle
// sleep in front of nothing, or of the short one behind the claim.
func TestProcessKilledBeforeTheWakeAlone(t *testing.T) {
	for _, sleep := range []struct {
		where string
		mode  int
		least time.Duration
	}{{"in front of nothing", 1, ring.IdleNap}, {"behind the claim", 2, 0}} {
		t.Run(sleep.where, func(t *testing.T) {
			r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
			w := start(t, r, "silent")
			w.hear()
			var c *sleeper
			steps := []func(){
				func() { c = startSleeper(t, r); c.mustSleep(sleep.mode) },
				func() { w.tell("claim"); require.Equal(t, "claimed", w.hear()) },
			}
			if sleep.mode == 2 {
				slices.Reverse(steps)
			}
			for _, step := range steps {
				step()
			}
			w.tell("commit")
			require.Equal(t, "committed", w.hear())
			w.kill()
			assert.Equal(t, "silent", <-c.got)
			assert.GreaterOrEqual(t, c.took, sleep.least, "it did not sleep to the end")
			t.Logf("received %v after the consumer began to wait", c.took)
		})
	}
}

// A stopped producer is alive: its claim is never skipped, and the consumer
// names it.
func TestProcessStoppedInClaim(t *testing.T) {
	onFiles(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		w, slot := startClaim(t, r, "claim")
		var stalls []ring.StallEvent
		c := ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift), ring.WithOnStall(func(e ring.StallEvent) { stalls = append(stalls, e) }))
		require.Len(t, ringtest.Receive(t, c, 1), 1)
		require.NoError(t, w.cmd.Process.Signal(syscall.SIGSTOP))
		sleeps := c.Stats().Sleeps
		for ctx := ringtest.Context(t); len(stalls) < 2 || c.Stats().Sleeps < sleeps+20; {
			require.NoError(t, ctx.Err(), "no stall was told")
			err := c.WaitUntil(ctx, shm.Now()+int64(10*time.Millisecond))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.Empty(t, ringtest.Poll(t, c, 1))
		}
		for i, e := range stalls {
			assert.Equal(t, slot, e.Slot)
			assert.Equal(t, w.pid(), e.PID)
			began, err := shm.ProcessStart(e.PID)
			require.NoError(t, err)
			assert.Equal(t, began, e.Start)
			assert.EqualValues(t, 1, e.Position)
			assert.GreaterOrEqual(t, e.Age, ring.StallAfter<<i)
		}
		assert.Equal(t, ring.Busy, ring.StateOf(r.WordAt(1)))
		require.NoError(t, w.cmd.Process.Signal(syscall.SIGCONT))
		w.tell("commit")
		require.Equal(t, "committed", w.hear())
		got := ringtest.Receive(t, c, 1)
		assert.Equal(t, "half of", string(got[0].Data[:7]))
		assert.Zero(t, c.Stats().SkippedDead)
	})
}

// workClaimAndCloseDescriptors closes every descriptor inside its claim but
// the two that it talks through.
func workClaimAndCloseDescriptors(w *worker) error {
	a, err := w.ring.Attach()
	if err != nil {
		return err
	}
	p := a.NewProducer()
	claim, err := p.TryClaim(1000, 2)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		fd, _ := strconv.Atoi(e.Name())
		target, _ := os.Readlink("/proc/self/fd/" + e.Name())
		// The Go runtime does not survive without the ones it polls with.
		if fd > 1 && !strings.HasPrefix(target, "anon_inode:[event") {
			syscall.Close(fd)
		}
	}
	w.say("%d", a.Slot())
	if _, err := w.wait(); err != nil {
		return err
	}
	if err := claim.Commit(); err != nil {
		return err
	}
	if _, err := p.TryClaim(1000, 3); err != nil {
		return err
	}
	w.say("claimed again")
	_, err = w.wait()
	return err
}

// A process that closes descriptors which are not its own still lives, and is
// seen to; and it is seen to die.
func TestProcessClosesItsDescriptors(t *testing.T) {
	onFiles(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		w, slot := startClaim(t, r, "claimAndClose")
		stalled := false
		c := ringtest.Consume(t, r, ring.WithOnStall(func(ring.StallEvent) { stalled = true }))
		for ctx := ringtest.Context(t); !stalled; {
			require.ErrorIs(t, c.WaitUntil(ctx, shm.Now()+int64(10*time.Millisecond)), os.ErrDeadlineExceeded)
		}
		alive, err := c.SlotAlive(slot)
		require.NoError(t, err)
		require.True(t, alive)
		w.tell("commit")
		require.Equal(t, "claimed again", w.hear())
		require.Len(t, ringtest.Receive(t, c, 1), 1)
		w.kill()
		ringtest.Until(t, "the claim is skipped", func() bool {
			ringtest.Poll(t, c, 1)
			return c.Stats().SkippedDead == 1
		})
	})
}

// The next holder of the slot looks alive to the consumer, so it sweeps what
// its dead predecessor left.
func TestProcessSlotRecycled(t *testing.T) {
	onFiles(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		w, slot := startClaim(t, r, "claim")
		other := ringtest.Attach(t, r)
		require.NotEqual(t, slot, other.Slot())
		open, err := other.NewProducer().TryClaim(10, 3)
		require.NoError(t, err)
		require.NoError(t, other.NewProducer().TrySend([]byte("behind"), 4))
		w.kill()
		var a *ring.Attachment
		ringtest.Until(t, "the slot is free", func() bool {
			next, err := r.Attach()
			require.NoError(t, err)
			if next.Slot() != slot {
				require.NoError(t, next.Close())
				return false
			}
			a = next
			return true
		})
		assert.EqualValues(t, 2, a.Instance())
		assert.Equal(t, ring.Skip, ring.StateOf(r.WordAt(1)))
		assert.Equal(t, ring.Busy, ring.StateOf(r.WordAt(17)), "somebody else's claim")
		s, err := r.Stats()
		require.NoError(t, err)
		assert.EqualValues(t, 1, s.Swept)
		require.NoError(t, a.NewProducer().TrySend([]byte("next holder"), 5))
		require.NoError(t, open.Commit())
		c := ringtest.Consume(t, r)
		seen, _ := metas(t, c, 9, nil)
		assert.Equal(t, []uint64{1, 3, 4, 5}, seen)
		assert.Zero(t, c.Stats().SkippedDead)
		assert.EqualValues(t, 1, c.Stats().SkippedAborted)
		require.NoError(t, a.Close())
	})
}

// workRoom fills the ring with messages of the size in args[0] and goes on
// sending, so that it waits for room.
func workRoom(w *worker) error {
	a, err := w.ring.Attach()
	if err != nil {
		return err
	}
	p := a.NewProducer()
	n, err := strconv.Atoi(w.args[0])
	if err != nil {
		return err
	}
	for err == nil {
		err = p.TrySend(make([]byte, n), 0)
	}
	if err != ring.ErrFull {
		return err
	}
	w.say("%d", a.Slot())
	for {
		if err := p.Send(context.Background(), make([]byte, n), 0); err != nil {
			return err
		}
	}
}

// A producer killed while it waits for room leaves a flag, which harms nobody:
// the next one that waits is woken.
func TestProcessKilledWaitingForRoom(t *testing.T) {
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	c := ringtest.Consume(t, r)
	w := start(t, r, "room", "512")
	w.hear()
	ringtest.Until(t, "the worker waits", func() bool { return r.RoomWaiters() == 1 })
	w.kill()
	sent := make(chan error, 1)
	p := ringtest.Producer(t, r)
	go func() { sent <- p.Send(ringtest.Context(t), message(r.MaxFrame(), 1), 9) }()
	for got := false; !got; {
		require.NoError(t, c.Wait(ringtest.Context(t)))
		_, err := c.Poll(3, func(f ring.Frame) ring.Action {
			got = f.Meta == 9
			return ring.Continue
		})
		require.NoError(t, err)
	}
	require.NoError(t, <-sent)
}

// A producer killed while it holds the turn: whoever finds it in the way takes
// it away.
func TestProcessKilledWithTheTurn(t *testing.T) {
	onFiles(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		c := ringtest.Consume(t, r)
		w := start(t, r, "room", "8192")
		slot := w.hear()
		turn := func() string {
			s, err := r.Stats()
			require.NoError(t, err)
			return strconv.Itoa(s.Turn)
		}
		ringtest.Until(t, "the worker has the turn", func() bool { return turn() == slot })
		w.kill()
		require.Equal(t, slot, turn(), "left behind")
		// An eighth becomes free. The turn's quarter is more than that.
		require.Len(t, ringtest.Poll(t, c, 1), 1)
		p := ringtest.Producer(t, r)
		// Attaching takes the slot of the dead and its turn with it, unless
		// somebody is not quite dead yet; plant it again for another slot.
		r.SetTurn(uint64(200 + 1))
		require.ErrorIs(t, p.TrySend(nil, 1), ring.ErrFull)
		require.NoError(t, p.Send(ringtest.Context(t), nil, 1))
		assert.Equal(t, "-1", turn())
	})
}

// The sweep drops the turn of the slot's dead holder.
func TestSweepDropsTheTurn(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	r.SetTurn(7<<8 | 1)
	a := ringtest.Attach(t, r)
	require.Zero(t, a.Slot())
	s, err := r.Stats()
	require.NoError(t, err)
	assert.Equal(t, -1, s.Turn)
}

// workConsume consumes and says what it has released: the metas of a Poll,
// after it has returned.
func workConsume(w *worker) error {
	c, err := w.ring.Consume()
	if err != nil {
		return err
	}
	w.say("consuming")
	for {
		if err := c.Wait(context.Background()); err != nil {
			return err
		}
		var line string
		_, err := c.Poll(8, func(f ring.Frame) ring.Action {
			line += fmt.Sprintf(" %d", f.Meta)
			return ring.Continue
		})
		if err != nil {
			return err
		}
		if line != "" {
			w.say("%s", line[1:])
		}
	}
}

// A consumer killed at any point: its successors go on where it had released.
// Nothing is lost, nothing that it is known to have released comes twice, and
// only what one Poll had in hand may.
func TestProcessConsumerKilled(t *testing.T) {
	onFiles(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		random := ringtest.Random(t)
		a := ringtest.Attach(t, r)
		ctx := ringtest.Context(t)
		const total = 30000
		sent := make(chan error, 1)
		go func() {
			p := a.NewProducer()
			for i := range uint64(total) {
				err := p.Send(ctx, message(int(i%200), i), i)
				for err == ring.ErrNoConsumer { // between two of them
					err = p.Send(ctx, message(int(i%200), i), i)
				}
				if err != nil {
					sent <- err
					return
				}
			}
			sent <- nil
		}()
		released := -1 // largest known to be released
		killed := 0
		for ; released < total*2/3; killed++ {
			w := start(t, r, "consume")
			require.Equal(t, "consuming", w.hear())
			first := true
			for lines := 1 + random.IntN(400); ; lines-- {
				if lines == 0 {
					w.kill()
				}
				line, ok := <-w.lines
				if !ok {
					break
				}
				var got []int
				for _, field := range strings.Fields(line) {
					n, err := strconv.Atoi(field)
					if err != nil {
						break // cut short by the kill
					}
					got = append(got, n)
				}
				for _, n := range got {
					if first {
						require.LessOrEqual(t, n, released+1+8, "lost")
						require.Greater(t, n, released, "released messages came again")
						first = false
					} else {
						require.Equal(t, released+1, n)
					}
					released = n
				}
			}
		}
		require.Greater(t, killed, 1)
		var c *ring.Consumer
		ringtest.Until(t, "the dead consumer's lock is free", func() bool {
			var err error
			c, err = r.Consume()
			return err == nil
		})
		defer c.Close()
		// The last of the killed may have taken everything already.
		end, err := r.Frontier()
		require.NoError(t, err)
		next := -1
		if released == total-1 && c.Position() == end {
			next = total
		}
		for next < total {
			require.NoError(t, c.Wait(ctx))
			_, err := c.Poll(100, func(f ring.Frame) ring.Action {
				if next < 0 {
					assert.LessOrEqual(t, int(f.Meta), released+1+8)
					assert.Greater(t, int(f.Meta), released)
					next = int(f.Meta)
				}
				assert.EqualValues(t, next, f.Meta)
				assert.Equal(t, message(int(f.Meta%200), f.Meta), f.Data)
				next++
				return ring.Continue
			})
			require.NoError(t, err)
		}
		require.NoError(t, <-sent)
		s, err := r.Stats()
		require.NoError(t, err)
		assert.EqualValues(t, killed+1, s.Consumers)
	})
}
