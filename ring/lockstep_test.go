package ring_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
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

// A producer and a consumer in lockstep, each in a process of its own: one message at a time, which
// the consumer sees being claimed and goes to sleep behind, without a time limit. That is the sleep
// for which the order of commit and look at the sleep word matters, since the claim has changed the
// word already. A wake that is lost is a standstill.

const (
	lockSteps = 1000 // a report each
	forbidden = "forbidden"
	endless   = "18446744073709551615"
)

var (
	standstill = flag.Duration("lockstep.standstill", ringtest.Patience, "TestProcessLockstep: asleep behind a committed record for so long, the consumer has lost a wake")
	reports    = flag.Int("lockstep.reports", 5, "so many reports of TestProcessLockstep, of 1000 steps each")
)

// joinOrForbid has the worker's process join barriers, or be refused them.
func joinOrForbid(how string) error {
	if how == forbidden {
		if err := hosttest.Forbid(unix.SYS_MEMBARRIER); err != nil {
			return err
		}
	}
	<-shm.JoinBarriers()
	if how == forbidden && (shm.BarriersJoined() || shm.CanBarrier() || shm.Barrier() == nil) {
		return fmt.Errorf("barriers are not forbidden")
	}
	return nil
}

func workStepSend(w *worker) error {
	if err := joinOrForbid(w.args[0]); err != nil {
		return err
	}
	a, err := w.ring.Attach()
	if err != nil {
		return err
	}
	off, _ := w.ring.User()
	taken, p, b := w.ring.Segment().Word64(off), a.NewProducer(), make([]byte, w.ring.MaxFrame())
	w.say("%v", shm.BarriersJoined())
	if _, err := w.wait(); err != nil {
		return err
	}
	for n := uint64(1); ; n++ {
		for spun := 1; taken.Load() != n-1; spun++ {
			if shm.Pause(1); spun%1000 == 0 {
				unix.Nanosleep(&unix.Timespec{Nsec: 1}, nil) // the consumer may need this processor
			}
		}
		// Lines that wait in the store buffer keep the commit back: as many as it has room for.
		if err := p.TrySend(b[:512+n*64%2048], n); err != nil {
			return err
		}
	}
}

func workStepConsume(w *worker) error {
	ring.SetNaps(time.Hour)
	ring.SetFirstAsk(time.Hour)
	if err := joinOrForbid(w.args[0]); err != nil {
		return err
	}
	c, err := w.ring.Consume(ring.WithWaiting(ring.Thrift))
	if err != nil {
		return err
	}
	c.NeverCede()
	last, err := strconv.ParseUint(w.args[1], 10, 64)
	if err != nil {
		return err
	}
	off, _ := w.ring.User()
	taken := w.ring.Segment().Word64(off)
	n := taken.Load()
	w.say("%v", w.ring.Barriers() == 1)
	if _, err := w.wait(); err != nil {
		return err
	}
	for n != last {
		if n++; n%lockSteps == 0 {
			w.say("%d", c.Stats().Sleeps)
		}
		pos := c.Position()
		for range 5000 { // then it is an idle sleep
			if w.ring.AgeAt(pos) == 0 {
				break
			}
			shm.Pause(1)
		}
		for got := uint64(0); got != n; taken.Store(got) {
			got = n - 1
			if err := c.Wait(context.Background()); err != nil {
				return err
			}
			_, err := c.Poll(1, func(f ring.Frame) ring.Action {
				// The lines are this processor's now, so that the next one who writes them has to wait.
				for i := 0; i < len(f.Data); i += ring.Granule {
					f.Data[i]++
				}
				got = f.Meta
				return ring.Continue
			})
			if err != nil || got > n {
				return fmt.Errorf("message %d in step %d: %w", got, n, err)
			}
		}
	}
	if err := c.Close(); err != nil {
		return err
	}
	w.say("closed")
	_, err = w.wait()
	return err
}

// lockstep has two workers make some steps, and returns how often the consumer slept.
func lockstep(t *testing.T, producer, consumer string) (sleeps int) {
	r, err := ring.New(ring.Options{Capacity: ring.MinCapacity, UserSize: 4096})
	require.NoError(t, err)
	defer r.Close()
	c, p := start(t, r, "stepConsume", consumer, endless), start(t, r, "stepSend", producer)
	require.Equal(t, strconv.FormatBool(consumersDrain() && consumer != forbidden), c.hear())
	require.Equal(t, strconv.FormatBool(shm.CanBarrier() && producer != forbidden), p.hear())
	c.tell("go")
	p.tell("go")
	off, _ := r.User()
	taken, step, since := r.Segment().Word64(off), uint64(0), time.Now()
	for said := 0; said < *reports; {
		select {
		case line, ok := <-c.lines:
			require.True(t, ok, "the consumer has ended")
			sleeps, err = strconv.Atoi(line)
			require.NoError(t, err)
			said++
		case <-time.After(20 * time.Millisecond):
			if n := taken.Load(); n != step {
				step, since = n, time.Now()
			}
			lost := r.SleepMode() == 2 && r.StateInFront() == int(ring.Commit)
			if still := time.Since(since); still > ringtest.Patience || lost && still > *standstill {
				require.FailNow(t, "standstill", "behind step %d; a wake was lost: %v", step, lost)
			}
		}
	}
	p.kill()
	c.kill()
	require.NoError(t, r.Check())
	return sleeps
}

// consumersDrain tells whether a consumer here says that it has barriers.
func consumersDrain() bool { return shm.CanBarrier() && runtime.GOARCH == "amd64" }

func needFilter(t *testing.T) {
	t.Helper()
	if able, err := os.ReadFile("/proc/sys/kernel/seccomp/actions_avail"); err != nil || !strings.Contains(string(able), "errno") {
		t.Skip("the kernel has no seccomp filters")
	}
}

// No wake is lost, whoever of the two has no barriers.
func TestProcessLockstep(t *testing.T) {
	needFilter(t)
	for _, test := range []struct{ producer, consumer string }{{"joined", "able"}, {forbidden, "able"}, {"joined", forbidden}, {forbidden, forbidden}} {
		t.Run(test.producer+" producer, "+test.consumer+" consumer", func(t *testing.T) {
			assert.Positive(t, lockstep(t, test.producer, test.consumer), "the consumer did not sleep")
		})
	}
}

// Consumers come and go, every second one without barriers, and the producer goes on.
func TestProcessTakeOverWithoutBarriers(t *testing.T) {
	needFilter(t)
	r, err := ring.New(ring.Options{Capacity: ring.MinCapacity, UserSize: 4096})
	require.NoError(t, err)
	defer r.Close()
	p := start(t, r, "stepSend", "joined")
	p.hear()
	p.tell("go")
	for round := range 4 {
		how := "able"
		if round%2 == 1 {
			how = forbidden
		}
		c := start(t, r, "stepConsume", how, strconv.Itoa((round+1)*200))
		require.Equal(t, strconv.FormatBool(consumersDrain() && how != forbidden), c.hear())
		c.tell("go")
		for said := ""; said != "closed"; {
			said = c.hear()
		}
		c.kill()
	}
	p.kill()
	c := ringtest.Consume(t, r)
	assert.Equal(t, consumersDrain(), r.Barriers() == 1)
	require.NoError(t, c.Die())
	r.SetBarriers(7) // whatever stood there
	ringtest.Consume(t, r)
	assert.Equal(t, consumersDrain(), r.Barriers() == 1)
	require.NoError(t, r.Check())
}

func workForbidLater(w *worker) error {
	ring.SetNaps(time.Hour)
	c, err := w.ring.Consume(ring.WithWaiting(ring.Thrift))
	if err != nil {
		return err
	}
	c.NeverCede()
	was := w.ring.Barriers()
	if err := hosttest.Forbid(unix.SYS_MEMBARRIER); err != nil {
		return err
	}
	if err := c.WaitUntil(context.Background(), shm.Now()+1e6); !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("nothing was committed: %w", err)
	}
	w.say("%d, then %d", was, w.ring.Barriers())
	for err == nil {
		err = c.Wait(context.Background())
		c.Poll(1, func(f ring.Frame) ring.Action {
			w.say("%d", f.Meta)
			return ring.Continue
		})
	}
	return err
}

// A consumer that is refused barriers when it goes to sleep behind a claim says so, and commits are CASes
// from then on.
func TestProcessBarriersForbiddenLater(t *testing.T) {
	needFilter(t)
	if !consumersDrain() {
		t.Skip("there are no barriers here")
	}
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	p := ringtest.Producer(t, r)
	claim, err := p.TryClaim(0, 0)
	require.NoError(t, err)
	c := start(t, r, "forbidLater")
	require.Equal(t, "1, then 0", c.hear())
	claim.Abort()
	for n := range uint64(100) {
		ringtest.Until(t, "it sleeps", func() bool { return r.SleepMode() == 1 })
		require.NoError(t, p.TrySend(nil, n))
		require.Equal(t, strconv.FormatUint(n, 10), c.hear())
	}
}
