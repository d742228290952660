package ring_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

var modes = map[string]ring.Waiting{"adaptive": ring.Adaptive, "low latency": ring.LowLatency, "thrift": ring.Thrift}

// How long each mode watches, and that none does on one processor.
func TestModesWatch(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	spins := shm.CanSpin()
	for name, most := range map[string]time.Duration{"adaptive": 50 * time.Microsecond, "low latency": 5 * time.Millisecond, "thrift": 0} {
		c := ringtest.Consume(t, r, ring.WithWaiting(modes[name]))
		if !spins {
			most = 0
		}
		assert.EqualValues(t, most, c.WatchFor(), name)
		before := runtime.GOMAXPROCS(1)
		ringtest.Until(t, "nobody spins on one processor", func() bool { return !shm.CanSpin() })
		assert.Zero(t, c.WatchFor(), name)
		runtime.GOMAXPROCS(before)
		ringtest.Until(t, "as before", func() bool { return shm.CanSpin() == spins })
		require.NoError(t, c.Close())
	}
}

// Thrift sleeps once for each message that comes to an empty ring, also if the
// next one comes as soon as it can.
func TestThriftSleepsAtOnce(t *testing.T) {
	withoutTimeLimits(t)
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift))
	for range 1000 {
		done := asleep(t, r, c, 1)
		require.NoError(t, p.TrySend(nil, 0))
		require.NoError(t, <-done)
		require.Len(t, ringtest.Poll(t, c, 9), 1)
		assert.Zero(t, c.WatchFor())
		assert.False(t, c.Gathers())
	}
	assert.EqualValues(t, 1000, c.Stats().Sleeps)
}

// Letting others run keeps nobody awake, also where each step takes so long that it
// is always time for it.
func TestYieldingSleeps(t *testing.T) {
	withoutTimeLimits(t)
	t.Cleanup(ring.SetYieldEvery(0))
	inEachMode(t, func(t *testing.T, kind shm.Kind, how ring.Waiting) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		p, c := ringtest.Producer(t, r), ringtest.Consume(t, r, ring.WithWaiting(how))
		for range 3 {
			done := asleep(t, r, c, 1)
			require.NoError(t, p.TrySend(nil, 0))
			require.NoError(t, <-done)
			require.Len(t, ringtest.Poll(t, c, 9), 1)
		}
	})
}

// Who watches for ever notices at once what ends a Wait.
func TestWatchingEnds(t *testing.T) {
	if !shm.CanSpin() {
		t.Skip("nobody watches on one processor")
	}
	t.Cleanup(ring.SetNaps(time.Hour))
	t.Cleanup(ring.SetLatencyWatch(time.Hour))
	for name, test := range map[string]struct {
		act  func(r *ring.Ring, p *ring.Producer, c *ring.Consumer, cancel func())
		want error
	}{
		"message":   {func(_ *ring.Ring, p *ring.Producer, _ *ring.Consumer, _ func()) { p.TrySend(nil, 0) }, nil},
		"interrupt": {func(_ *ring.Ring, _ *ring.Producer, c *ring.Consumer, _ func()) { c.Interrupt() }, ring.ErrInterrupted},
		"context":   {func(_ *ring.Ring, _ *ring.Producer, _ *ring.Consumer, cancel func()) { cancel() }, context.Canceled},
		"claim of a dead owner": {func(r *ring.Ring, _ *ring.Producer, _ *ring.Consumer, _ func()) {
			r.SetWord(0, ring.MakeHeader(ring.Busy, r.TagAt(0), 7, 1))
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
			p, c := ringtest.Producer(t, r), ringtest.Consume(t, r, ring.WithWaiting(ring.LowLatency))
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- c.Wait(ctx) }()
			ringtest.Until(t, "the consumer waits", c.Waits)
			acted := make(chan struct{})
			go func() { // Interrupt returns when it was noticed
				defer close(acted)
				test.act(r, p, c, cancel)
			}()
			select {
			case err := <-done:
				require.ErrorIs(t, err, test.want)
				<-acted
			case <-time.After(ringtest.Patience):
				require.FailNow(t, "it goes on watching")
			}
		})
	}
	t.Run("deadline", func(t *testing.T) {
		r := ringtest.New(t, shm.Heap, ringtest.Tiny)
		c := ringtest.Consume(t, r, ring.WithWaiting(ring.LowLatency))
		deadline := shm.Now() + int64(time.Millisecond)
		done := make(chan error, 1)
		go func() { done <- c.WaitUntil(context.Background(), deadline) }()
		select {
		case err := <-done:
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		case <-time.After(ringtest.Patience):
			require.FailNow(t, "it goes on watching")
		}
		assert.GreaterOrEqual(t, shm.Now(), deadline)
	})
}

const (
	late = 10 * time.Microsecond // from one message to the next, as watched
	soon = time.Microsecond
)

// An adaptive consumer rests where the sleeps bring several messages, and not
// where they bring one each, as an answer does.
func TestRests(t *testing.T) {
	if !shm.CanSpin() {
		t.Skip("nobody watches on one processor")
	}
	consume := func() *ring.Consumer {
		return ringtest.Consume(t, ringtest.New(t, shm.Heap, ringtest.Tiny))
	}
	// until plays late Waits until it rests, and returns how many that took.
	until := func(c *ring.Consumer) (n int) {
		for ; !c.Rests(); n++ {
			require.Less(t, n, 1<<13, "it never rests")
			c.Watched(late)
		}
		return n
	}
	t.Run("stream", func(t *testing.T) {
		c := consume()
		assert.Equal(t, 8, until(c))
		for range 1000 {
			assert.Zero(t, c.WatchFor(), "behind one that it watched for")
			c.Rested(2)
			c.Watched(late)
			require.True(t, c.Rests())
		}
	})
	t.Run("answers", func(t *testing.T) {
		c := consume()
		rows := []int{}
		for range 12 {
			rows = append(rows, until(c))
			sleeps := 0
			for ; c.Rests(); sleeps++ {
				require.LessOrEqual(t, sleeps, 17)
				c.Rested(1)
				c.Watched(late)
			}
		}
		// What a row is counted from is the end of a trial, which has one late Wait already.
		assert.InDeltaSlice(t, []int{8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 4096, 4096}, rows, 1)
	})
	t.Run("busy answers", func(t *testing.T) {
		c := consume()
		for range 10_000 {
			for range 7 {
				c.Watched(late)
			}
			c.Watched(soon)
			require.False(t, c.Rests())
		}
	})
	t.Run("only adaptive", func(t *testing.T) {
		for _, how := range []ring.Waiting{ring.LowLatency, ring.Thrift} {
			c := ringtest.Consume(t, ringtest.New(t, shm.Heap, ringtest.Tiny), ring.WithWaiting(how))
			for range 100 {
				c.Watched(late)
			}
			assert.False(t, c.Rests())
		}
	})
}

// A consumer cedes the processor while that brings messages soon, hardly ever where it does not,
// and never where it watches.
func TestCedes(t *testing.T) {
	consume := func(how ring.Waiting) *ring.Consumer {
		return ringtest.Consume(t, ringtest.New(t, shm.Heap, ringtest.Tiny), ring.WithWaiting(how))
	}
	// until plays Waits up to the next one that cedes, and returns how many did not.
	until := func(c *ring.Consumer) (n int) {
		for ; !c.MayCede(); n++ {
			if n == 1_000_000 {
				require.FailNow(t, "it never cedes again")
			}
		}
		return n
	}
	const quick, slice = 300 * time.Nanosecond, 4 * time.Millisecond
	t.Run("answers", func(t *testing.T) {
		c := consume(ring.Thrift)
		for range 1000 {
			for range 50 { // and now and then somebody else is let run
				require.True(t, c.MayCede())
				c.Ceded(true, quick)
			}
			require.True(t, c.MayCede())
			c.Ceded(true, 20*quick)
		}
	})
	t.Run("alone", func(t *testing.T) {
		c := consume(ring.Thrift)
		ceded := 0
		for range 1_000_000 {
			if c.MayCede() {
				ceded++
				c.Ceded(false, quick)
			}
		}
		require.LessOrEqual(t, ceded, 10_000, "the allowance, and what it began with")
		require.LessOrEqual(t, until(c), int(quick), "it would notice another sender soon")
	})
	for _, found := range []bool{false, true} {
		t.Run("processor kept, found="+strconv.FormatBool(found), func(t *testing.T) {
			c := consume(ring.Thrift)
			first := 0
			for ; c.MayCede(); first++ {
				require.Less(t, first, 100)
				c.Ceded(found, slice)
			}
			require.Greater(t, first, 10, "a few waits for a start are no sign")
			for range 5 {
				until(c)
				c.Ceded(found, slice)
				require.InDelta(t, 50_000, until(c), 1)
				for range 4 { // others between may have been soon
					require.True(t, c.MayCede())
					c.Ceded(true, quick)
				}
				c.Ceded(found, slice)
			}
		})
	}
	t.Run("who watches", func(t *testing.T) {
		for _, how := range []ring.Waiting{ring.Adaptive, ring.LowLatency} {
			assert.Equal(t, !shm.CanSpin(), consume(how).MayCede())
		}
	})
}

// Who sends from the consumer's own processor is let do so, and the sleep is spared.
func TestCedesToTheSender(t *testing.T) {
	if runtime.GOMAXPROCS(0) < 2 {
		t.Skip("the sender needs a thread beside the consumer's")
	}
	t.Cleanup(ring.SetCedeLong(time.Hour)) // also where others keep the processor for a while
	var cpus unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &cpus))
	// pin keeps the goroutine's thread on the first processor; it ends with the goroutine.
	pin := func() error {
		runtime.LockOSThread()
		var one unix.CPUSet
		for cpu := 0; one.Count() == 0; cpu++ {
			if cpus.IsSet(cpu) {
				one.Set(cpu)
			}
		}
		return unix.SchedSetaffinity(0, &one)
	}
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift))
	ctx, cancel := context.WithCancel(ringtest.Context(t))
	var asked atomic.Uint32
	ask := func() {
		asked.Add(1)
		shm.FutexWake(&asked, 1)
	}
	var sender sync.WaitGroup
	pinned, done := make(chan error, 1), make(chan error, 1)
	sender.Go(func() {
		pinned <- pin()
		for n := uint32(0); ; n++ {
			for asked.Load() == n {
				shm.FutexWait(&asked, n, 0)
			}
			if ctx.Err() != nil || p.Send(ctx, nil, 0) != nil {
				return
			}
		}
	})
	defer func() {
		cancel()
		ask()
		sender.Wait()
	}()
	if err := <-pinned; err != nil {
		t.Skip("no choice of processors: ", err)
	}
	go func() {
		err := pin()
		for rounds, gained := 0, false; err == nil && !gained; rounds++ {
			if rounds == 5000 { // usually one is enough
				err = errors.New("the sender is not let run")
				break
			}
			ask()
			gained = c.CedesGain(func() { err = c.Wait(ctx) })
			for n := 0; n == 0 && err == nil; {
				n, err = c.Poll(1, func(ring.Frame) ring.Action { return ring.Continue })
			}
		}
		done <- err
	}()
	require.NoError(t, <-done)
}
