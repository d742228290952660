package main

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// Positions where something wraps: a lap, the position in the sleep word, the tag; and one with a large tag.
var wraps = []uint64{0, 1024 - 5, 1<<28 - 5, (1<<35-1)*1024 - 5, (1<<32)*1024 - 5, (3<<33)*1024 + 77}

// A message wakes a consumer that sleeps as long as nobody wakes it, wherever the ring is.
func TestWakes(t *testing.T) {
	for _, pos := range wraps {
		t.Run(fmt.Sprint(pos), func(t *testing.T) {
			path := ringtest.Path(t)
			r := newRing(t, path)
			startAt(t, r, pos)
			c := ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift))
			c.SetIdle(time.Hour)
			p := obedient(t, path, 1)
			defer p.kill()
			for i := range 20 {
				sent := make(chan string)
				go func() {
					for st, err := r.Stats(); err == nil && !st.Sleeping; st, err = r.Stats() {
						time.Sleep(100 * time.Microsecond)
					}
					fmt.Fprintf(p.in, "send %d 0\n", 16+100*i) // some behind a pad
					sent <- <-p.lines
				}()
				requireNumbers(t, receive(t, c, 1), 1, uint64(i+1), uint64(i+1))
				require.Equal(t, "success", <-sent)
			}
		})
	}
}

// asleep waits until the consumer sleeps.
func asleep(t *testing.T, r *ring.Ring) {
	t.Helper()
	ringtest.Until(t, "the consumer to sleep", func() bool {
		st, err := r.Stats()
		require.NoError(t, err)
		return st.Sleeping
	})
}

// sleeper has a consumer sleep until somebody wakes it, and then take n messages.
func sleeper(t *testing.T, r *ring.Ring, n int) (got chan []ringtest.Message) {
	t.Helper()
	c := ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift))
	c.SetIdle(time.Hour)
	got = make(chan []ringtest.Message, 1)
	ctx := ringtest.Context(t)
	go func() {
		defer close(got)
		var all []ringtest.Message
		for len(all) < n && c.Wait(ctx) == nil {
			c.Poll(n, func(f ring.Frame) ring.Action {
				all = append(all, ringtest.Copy(f))
				return ring.Continue
			})
		}
		got <- all
	}()
	asleep(t, r)
	return got
}

// A consumer that sleeps in front of a claim that it does not know of is woken by whoever commits behind it: it has to
// ask whether the claim's owner lives.
func TestWakesInFrontOfAClaim(t *testing.T) {
	path := ringtest.Path(t)
	r := newRing(t, path)
	got := sleeper(t, r, 1)
	p, other := obedient(t, path, 1), obedient(t, path, 2)
	defer other.kill()
	require.Equal(t, "held", p.ask("held 1000"))
	require.Equal(t, "success", other.ask("send 100 0"))
	require.Error(t, p.kill())
	requireNumbers(t, <-got, 2, 1, 1)
}

// It looks whether the consumer sleeps when its message is there, and not before.
func TestWakesBehindItsCommit(t *testing.T) {
	path := ringtest.Path(t)
	r := newRing(t, path)
	p := obedient(t, path, 1)
	defer p.kill()
	require.Equal(t, "held", p.ask("held 1000"))
	claim := r.Segment().Word64(45056)
	const stuck = 2
	r.Segment().Word64(8320).Store(stuck | 1<<2) // somebody sleeps behind the claim, at position 0
	woken := make(chan error, 1)
	seen := uint32(claim.Load())
	go func() { woken <- shm.FutexWait(shm.Word32Low(claim), seen, shm.Now()+int64(ringtest.Patience)) }()
	ringtest.Until(t, "it sleeps", func() bool { return ringtest.Sleepers(t, os.Getpid()) == 1 })
	require.Equal(t, "success", p.ask("go on"))
	require.NoError(t, <-woken)
	requireNumbers(t, receive(t, ringtest.Consume(t, r), 1), 1, 1, 1)
}

// Who finds the ring full wakes a consumer that sleeps on what is there: its producer died before it could.
func TestWakesWhenFull(t *testing.T) {
	path := ringtest.Path(t)
	r := newRing(t, path)
	p := obedient(t, path, 1) // who attaches rings, too
	defer p.kill()
	got := sleeper(t, r, 1)
	b := make([]byte, 16)
	ringtest.Fill(b, 9, 1)
	const data, commit, skip, void = 45056 + 1024*16, 2, 3, 1<<25 - 1
	table := r.Segment()
	for pos := int64(1024 - 128); pos >= 0; pos -= 128 { // the longest records; the first is written last
		state := uint64(skip)
		if pos == 1024-128 {
			state = commit
			copy(table.Bytes()[data+pos*64:], b)
			table.Word64(45056 + pos*16 + 8).Store(16 | 9<<25)
			table.Word64(45056 + pos*16 + 16 + 8).Store(void)
		}
		table.Word64(45056 + pos*16).Store(state | 1<<2 | 254<<37 | 128<<45)
	}
	require.Equal(t, "success", p.ask("send 100 20000"))
	requireNumbers(t, <-got, 9, 1, 1)
}

// Nothing is written over that was not released; and what was is used again, lap by lap.
func TestFull(t *testing.T) {
	for _, pos := range wraps {
		for _, size := range []int{16, 64, 65, 1000, 5000, 8192} {
			t.Run(fmt.Sprint(pos, " ", size), func(t *testing.T) {
				path := ringtest.Path(t)
				r := newRing(t, path)
				startAt(t, r, pos)
				c := ringtest.Consume(t, r)
				p := obedient(t, path, 1)
				defer p.kill()
				granules := (size + 63) / 64
				number := uint64(0)
				for range 4 {
					var n int
					var why string
					answer := p.ask("fill %d", size)
					_, err := fmt.Sscanf(answer, "%d, then %s", &n, &why)
					require.NoError(t, err)
					require.Contains(t, answer, "the ring is full")
					require.LessOrEqual(t, n, 1024/granules)
					require.GreaterOrEqual(t, n, 1024/granules-1, "a pad takes less than a record")
					require.Equal(t, "the ring is full", p.ask("send %d 3", size))
					requireNumbers(t, receive(t, c, n), 1, number+1, number+uint64(n))
					number += uint64(n)
				}
			})
		}
	}
}

// Others leave a quarter of the ring to the one who has the turn, and take it from the dead.
func TestTurn(t *testing.T) {
	path := ringtest.Path(t)
	r := newRing(t, path)
	c := ringtest.Consume(t, r)
	p := obedient(t, path, 1)
	defer p.kill()
	other := obedient(t, path, 2)
	defer other.kill()
	turn := r.Segment().Word64(4352)
	turn.Store(1<<8 | 1 + 1) // the other's, which lives
	require.Equal(t, "768, then the ring is full", p.ask("fill 64"))
	require.Equal(t, "the ring is full", p.ask("send 64 300"), "it is not taken from the living")
	require.EqualValues(t, 1<<8|2, turn.Load())
	require.Equal(t, "success", other.ask("send 64 0"))

	require.Error(t, other.kill())
	freed(t, r, 1)
	require.Equal(t, "success", p.ask("send 64 20000"), "it is taken from the dead")
	require.Zero(t, turn.Load(), "and given back")
	require.Equal(t, "254, then the ring is full", p.ask("fill 64"))
	receive(t, c, 1024)

	// Who attaches gives back what the last holder of the slot had.
	turn.Store(1<<8 | 1 + 1)
	other = obedient(t, path, 3)
	defer other.kill()
	require.Zero(t, turn.Load())
}

// A large message does not starve behind small ones: it has the turn after a while.
func TestLargeBehindSmall(t *testing.T) {
	path := ringtest.Path(t)
	r := newRing(t, path)
	c := ringtest.Consume(t, r)
	p := obedient(t, path, 1)
	defer p.kill()
	small := ringtest.Producer(t, r)
	b := make([]byte, 64)
	fillUp := func() {
		for small.TrySend(b, 0) == nil {
		}
	}
	fillUp()
	p.tell("send 8192 20000")
	for end, held := time.Now().Add(ringtest.Patience), false; ; {
		require.True(t, time.Now().Before(end), "it starves")
		select {
		case answer := <-p.lines:
			require.Equal(t, "success", answer)
			require.True(t, held)
			require.Zero(t, r.Segment().Word64(4352).Load(), "it is given back")
			return
		default:
		}
		ringtest.Poll(t, c, 8)
		fillUp()
		held = held || r.Segment().Word64(4352).Load() == 1<<8|1
	}
}

// Killed inside of a claim, it costs the others that message: the consumer skips it, or who takes the slot next.
func TestKilledInClaim(t *testing.T) {
	path := ringtest.Path(t)
	r := newRing(t, path)
	c := ringtest.Consume(t, r)
	p, other := obedient(t, path, 1), obedient(t, path, 2)
	defer other.kill()
	require.Equal(t, "success", p.ask("send 100 0"))
	require.Equal(t, "held", p.ask("held 1000"))
	require.Equal(t, "success", other.ask("send 100 0"))
	requireNumbers(t, receive(t, c, 1), 1, 1, 1)
	require.Empty(t, ringtest.Poll(t, c, 10), "it lives, and is waited for")
	require.Error(t, p.kill())
	requireNumbers(t, receive(t, c, 1), 2, 1, 1)
	require.EqualValues(t, 1, c.Stats().SkippedDead)
	freed(t, r, 0)

	// The next holder of its slot is in C, or in Go.
	for i, next := range []func() func(){
		func() func() { p := obedient(t, path, 3); return func() { p.kill() } },
		func() func() { a, err := r.Attach(); require.NoError(t, err); return func() { a.Close() } },
	} {
		p := obedient(t, path, 1)
		require.Equal(t, "held", p.ask("held 1000"))
		require.Equal(t, "success", other.ask("send 100 0"))
		require.Error(t, p.kill())
		freed(t, r, 0)
		leave := next()
		st, err := r.Stats()
		require.NoError(t, err)
		require.EqualValues(t, i+1, st.Swept)
		requireNumbers(t, ringtest.Poll(t, c, 10), 2, uint64(i+2), uint64(i+2))
		require.EqualValues(t, 1, c.Stats().SkippedDead, "nothing was left to skip")
		leave()
		freed(t, r, 0)
	}
}

// It sweeps what a dead producer in Go has left, several claims as well as one, and nobody else's.
func TestSweepsAfterGo(t *testing.T) {
	path := ringtest.Path(t)
	r := newRing(t, path)
	c := ringtest.Consume(t, r)
	first, second := startGo(t, "claim", path), (*process)(nil)
	first.hear()
	second = startGo(t, "claim", path)
	second.hear()
	fence := r.Segment().Word32(8328)
	before := fence.Load()
	require.Error(t, first.kill())
	freed(t, r, 0)
	p := obedient(t, path, 1)
	defer p.kill()
	require.Equal(t, "success", p.ask("send 100 0"))
	require.EqualValues(t, before+2, fence.Load(), "who takes a claim says so")
	require.Empty(t, ringtest.Poll(t, c, 10), "the other one lives")
	require.Error(t, second.kill())
	requireNumbers(t, receive(t, c, 1), 1, 1, 1)
	require.EqualValues(t, 1, c.Stats().SkippedDead)
	require.EqualValues(t, 1, c.Stats().SkippedAborted)
}

// A claim that is taken away by a Resync is not committed, whatever stands there since.
func TestFenced(t *testing.T) {
	path := ringtest.Path(t)
	r := newRing(t, path)
	c := ringtest.Consume(t, r)
	p := obedient(t, path, 1)
	defer p.kill()
	require.Equal(t, "held", p.ask("held 1000"))
	_, err := c.Resync()
	require.NoError(t, err)
	other := ringtest.Producer(t, r)
	b := make([]byte, 64)
	for range 1024 { // a lap, and a record at the claim's place
		ringtest.Fill(b, 2, 1)
		require.NoError(t, other.TrySend(b, 2))
		requireNumbers(t, ringtest.Poll(t, c, 10), 2, 1, 1)
	}
	require.Equal(t, "the claim was taken away before it was committed", p.ask("go on"))
	require.Empty(t, ringtest.Poll(t, c, 10))
	require.Equal(t, "success", p.ask("send 100 0"))
	requireNumbers(t, ringtest.Poll(t, c, 10), 1, 1, 1)
}
