package main

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/hosttest"
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
	time.Sleep(20 * time.Millisecond) // if it does not sleep by then the test shows nothing, and passes
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
	copy(r.Segment().Bytes()[45056+1024*16:], b)
	const commit, void = 2, 1<<25 - 1
	table := r.Segment()
	table.Word64(45056 + 8).Store(16 | 9<<25)
	table.Word64(45056 + 16 + 8).Store(void)
	table.Word64(45056).Store(commit | 1<<2 | 254<<37 | 1024<<45) // of a whole lap
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

// A child has nothing of its parent's seat, and does not keep it.
func TestChildren(t *testing.T) {
	path := ringtest.Path(t)
	r := newRing(t, path)
	p := obedient(t, path, 1)
	var child int
	_, err := fmt.Sscan(p.ask("fork"), &child)
	require.NoError(t, err)
	defer unix.Kill(child, unix.SIGKILL)
	held, err := r.SlotHeld(0)
	require.NoError(t, err)
	require.True(t, held)
	require.Error(t, p.kill())
	require.NoError(t, unix.Kill(child, 0))
	freed(t, r, 0)
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", child))
	require.NoError(t, err)
	require.Contains(t, string(maps), "[stack]", "it lives on")
	require.NotContains(t, string(maps), path)
}

// It takes a seat, names itself there, and leaves nothing but figures.
func TestSeat(t *testing.T) {
	path := ringtest.Path(t)
	r := newRing(t, path)
	taken := ringtest.Attach(t, r)
	c := ringtest.Consume(t, r)
	p := obedient(t, path, 1)
	defer p.kill()
	start, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	require.NoError(t, err)
	info := r.SlotInfo(1)
	require.EqualValues(t, 1, info.Instance)
	require.Equal(t, p.cmd.Process.Pid, info.PID)
	require.Equal(t, strings.Fields(string(start))[21], fmt.Sprint(info.Start))
	own := r.SlotInfo(taken.Slot())
	require.Equal(t, own.PIDNamespace, info.PIDNamespace)
	require.InDelta(t, own.Joined, info.Joined, float64(time.Minute))
	require.Equal(t, "success", p.ask("send 100 0"))
	require.Equal(t, "success", p.ask("send 0 0"))
	got := receive(t, c, 2)
	require.Empty(t, got[1].Data)
	require.Equal(t, 1, got[1].Slot)
	info = r.SlotInfo(1)
	require.EqualValues(t, 2, info.Records)
	require.EqualValues(t, 100, info.Bytes)
	require.Equal(t, "message too large", p.ask("send 8193 0"))
	require.Equal(t, "meta value out of range", p.ask("meta"))
	require.Equal(t, "1", p.ask("alive"))
	require.NoError(t, c.Close())
	require.Equal(t, "0", p.ask("alive"))
	require.Equal(t, "not attached", p.ask("close"))
	require.Zero(t, r.SlotInfo(1).PID)
	held, err := r.SlotHeld(1)
	require.NoError(t, err)
	require.False(t, held)
}

func TestNoSeat(t *testing.T) {
	path := ringtest.Path(t)
	r := newRing(t, path)
	restore, err := hosttest.Limit(unix.RLIMIT_NOFILE, 2048)
	require.NoError(t, err)
	defer restore()
	for range ring.MaxSlots {
		ringtest.Attach(t, r)
	}
	refused(t, path, "all producer slots are taken")
}

// What is no ring, or another one, is refused with a reason, and left as it is.
func TestWrongFiles(t *testing.T) {
	path := ringtest.Path(t)
	r, err := ring.Create(path, ringtest.Tiny)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	seal := func(b []byte) {
		h := fnv.New64a()
		h.Write(b[8:96])
		binary.NativeEndian.PutUint64(b[96:], h.Sum64())
	}
	order := binary.NativeEndian
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		want   string
	}{
		"empty":         {func(b []byte) []byte { return nil }, "truncated"},
		"a page":        {func(b []byte) []byte { return b[:4096] }, "truncated"},
		"half":          {func(b []byte) []byte { return b[:len(b)/2] }, "truncated"},
		"a byte short":  {func(b []byte) []byte { return b[:len(b)-1] }, "truncated"},
		"zeros":         {func(b []byte) []byte { return make([]byte, len(b)) }, "never finished"},
		"text":          {func(b []byte) []byte { copy(b, "#!/bin/sh\n"); return b }, "not a ring"},
		"another magic": {func(b []byte) []byte { b[7]++; return b }, "not a ring"},
		"other order":   {func(b []byte) []byte { order.PutUint32(b[8:], 0x04030201); seal(b); return b }, "byte order"},
		"no order":      {func(b []byte) []byte { order.PutUint32(b[8:], 0x04030202); seal(b); return b }, "geometry"},
		"next version":  {func(b []byte) []byte { order.PutUint32(b[12:], ring.Version+1); seal(b); return b }, "layout version"},
		"checksum":      {func(b []byte) []byte { b[64]++; return b }, "geometry"},
		"capacity":      {func(b []byte) []byte { order.PutUint64(b[24:], 1<<17); seal(b); return b }, "geometry"},
		"odd capacity":  {func(b []byte) []byte { order.PutUint64(b[24:], 1<<16+64); seal(b); return b }, "geometry"},
		"no capacity":   {func(b []byte) []byte { order.PutUint64(b[24:], 0); seal(b); return b }, "geometry"},
		"data offset":   {func(b []byte) []byte { order.PutUint64(b[40:], 1<<20); seal(b); return b }, "geometry"},
		"user area":     {func(b []byte) []byte { order.PutUint64(b[56:], 1<<62); seal(b); return b }, "geometry"},
		"granule":       {func(b []byte) []byte { order.PutUint32(b[88:], 128); seal(b); return b }, "geometry"},
		"slots":         {func(b []byte) []byte { order.PutUint32(b[92:], 256); seal(b); return b }, "geometry"},
	} {
		t.Run(name, func(t *testing.T) {
			wrong := filepath.Join(t.TempDir(), "ring")
			b := c.change(append([]byte{}, whole...))
			require.NoError(t, os.WriteFile(wrong, b, 0o600))
			refused(t, wrong, c.want)
			after, err := os.ReadFile(wrong)
			require.NoError(t, err)
			require.Equal(t, len(b), len(after))
			require.Equal(t, string(b), string(after), "it was changed")
		})
	}
	refused(t, filepath.Join(t.TempDir(), "nothing"), "No such file or directory")
	refused(t, t.TempDir(), "Is a directory")
	refused(t, "/dev/null", "not a ring")
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(path, link))
	refused(t, link, "Too many levels of symbolic links")
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	refused(t, fifo, "not a ring")
}

// refused requires that a producer says why it does not attach.
func refused(t *testing.T, path, want string) {
	t.Helper()
	out, err := exec.Command(compile(t, "testdata/driver.c"), "obey", path, "1").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), want)
	require.NotContains(t, string(out), "slot ")
}

// Words that contradict the protocol are an error, and not a hang or a fault.
func TestScribbledOn(t *testing.T) {
	for name, scribble := range map[string]func(r *ring.Ring){
		"a newer lap":          func(r *ring.Ring) { r.Segment().Word64(45056).Store(2 | 9<<2 | 1<<45) },
		"a record of nothing":  func(r *ring.Ring) { r.Segment().Word64(45056).Store(2 | 1<<2) },
		"beyond the lap's end": func(r *ring.Ring) { r.Segment().Word64(45056).Store(2 | 1<<2 | 2000<<45) },
	} {
		t.Run(name, func(t *testing.T) {
			path := ringtest.Path(t)
			r, err := ring.Create(path, ringtest.Tiny)
			require.NoError(t, err)
			defer r.Close()
			p := obedient(t, path, 1)
			defer p.kill()
			scribble(r)
			require.Equal(t, "the segment is corrupt", p.ask("send 100 100"))
			refused(t, path, "the segment is corrupt")
			r.Segment().Word64(45056).Store(0)
			require.Equal(t, "success", p.ask("send 100 100"), "it recovers with the ring")
		})
	}
	path := ringtest.Path(t)
	r, err := ring.Create(path, ringtest.Tiny)
	require.NoError(t, err)
	defer r.Close()
	p := obedient(t, path, 1)
	defer p.kill()
	for _, off := range []int64{4096, 8192, 8320, 4352} { // hint, head, sleep, turn
		for _, garbage := range []uint64{1, 1 << 20, 1 << 63, ^uint64(0)} {
			was := r.Segment().Word64(off).Swap(garbage)
			p.ask("send 100 1") // whatever it says, it answers
			r.Segment().Word64(off).Store(was)
		}
	}
}
