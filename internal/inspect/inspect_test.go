package inspect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/shm"
)

func TestSnapshotFollowsLivesAndDeaths(t *testing.T) {
	path := newRing(t)
	s := mustOpen(t, path)
	p := mustSnapshot(t, s)
	require.Equal(t, Stale, p.State)
	require.Equal(t, path, p.Path)
	require.Equal(t, "file", p.Kind)
	require.Nil(t, p.Router)
	require.Empty(t, p.Slots)
	require.Zero(t, p.Positions.Moved)

	producer := start(t, "producer", path)
	p = mustSnapshot(t, s)
	require.Equal(t, Orphaned, p.State)
	require.Len(t, p.Slots, 1)
	slot := p.Slots[0]
	require.True(t, slot.Alive)
	require.True(t, slot.Here)
	require.Equal(t, producer.cmd.Process.Pid, slot.PID)
	require.NotEmpty(t, slot.Name)
	require.Equal(t, 1, slot.OpenClaims)
	require.Equal(t, Claims{Open: 1, Examined: 4 - 1 + 1, Complete: true, Oldest: &Claim{Position: 3, PID: slot.PID, Bytes: 1024}}, p.Claims)
	require.EqualValues(t, (3+16)*ring.Granule, p.Positions.Used)

	producer.kill()
	p = mustSnapshot(t, s)
	require.Equal(t, Stale, p.State)
	require.False(t, p.Slots[0].Alive)
	require.False(t, p.Slots[0].Here)
	found, err := s.Check()
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, Remnant, found[0].Severity)
	require.EqualValues(t, 3, found[0].Position)

	consumer := start(t, "consumer", path)
	require.Eventually(t, func() bool {
		p = mustSnapshot(t, s)
		return p.Consumer.SkippedDead == 1 && p.Positions.Used == 0
	}, patience, time.Millisecond, "the consumer skips the claim")
	require.Equal(t, Alive, p.State)
	require.Equal(t, consumer.cmd.Process.Pid, p.Consumer.PID)
	require.EqualValues(t, 3, p.Consumer.Messages)
	found, err = s.Check()
	require.NoError(t, err)
	require.Empty(t, found)
	consumer.kill()
	require.Equal(t, Stale, mustSnapshot(t, s).State)
}

func TestFindMemfdThroughItsDescriptor(t *testing.T) {
	r, err := ring.New(ring.Options{Capacity: ring.MinCapacity})
	require.NoError(t, err)
	defer r.Close()
	f, err := r.File()
	require.NoError(t, err)
	defer f.Close()
	s := mustOpen(t, fmt.Sprintf("%d:%d", os.Getpid(), f.Fd()))
	require.True(t, s.Memfd())
	require.Equal(t, r.Segment().Identity(), s.ID.String())
	mustOpen(t, fmt.Sprintf("/proc/self/fd/%d", f.Fd()))

	all, _ := Find(nil)
	rows := 0
	for _, found := range all {
		if found.ID != s.ID {
			continue
		}
		rows++
		require.Len(t, found.Holders, 1)
		require.Equal(t, os.Getpid(), found.Holders[0].PID)
		require.True(t, found.Holders[0].Mapped)
		require.GreaterOrEqual(t, len(found.Holders[0].FDs), 2)
	}
	require.Equal(t, 1, rows, "one row, however many descriptors")
}

func TestFindFiles(t *testing.T) {
	path := newRing(t)
	dir := filepath.Dir(path)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "other"), make([]byte, 1<<16), 0o600))
	require.NoError(t, os.Symlink(path, filepath.Join(dir, "link")))
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	all, _ := Find([]string{dir, filepath.Join(dir, "missing")})
	var here []Found
	for _, f := range all {
		if filepath.Dir(f.Path) == dir {
			here = append(here, f)
		}
	}
	require.Len(t, here, 1)
	require.Equal(t, path, here[0].Name)
	require.Empty(t, here[0].Holders)

	producer := start(t, "producer", path)
	all, _ = Find([]string{dir})
	rows := 0
	for _, f := range all {
		if f.ID == here[0].ID {
			rows++
			require.Equal(t, path, f.Name)
			require.Len(t, f.Holders, 1)
			require.Equal(t, producer.cmd.Process.Pid, f.Holders[0].PID)
		}
	}
	require.Equal(t, 1, rows, "found as a file and as a descriptor")
}

// What is seen between two stores of another process is no damage.
func TestOnlyWhatStaysIsDamage(t *testing.T) {
	r := &report{}
	looks := 0
	r.confirmed("roster", func() string {
		looks++
		return fmt.Sprint("in between ", looks/3)
	})
	require.Empty(t, r.found)
	r.confirmed("roster", func() string { return "" })
	require.Empty(t, r.found)
	r.confirmed("roster", func() string { return "for good" })
	require.Len(t, r.found, 1)
	for range 2 * maxFindings {
		r.add(Damage, "roster", 0, "more")
	}
	require.Len(t, r.found, maxFindings)
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, b, 0o600))
		return path
	}
	whole, err := os.ReadFile(newRing(t))
	require.NoError(t, err)
	damaged := func(name string, change func(b []byte) []byte) string {
		return file(name, change(append([]byte{}, whole...)))
	}
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(file("target", whole), link))
	for name, want := range map[string]error{
		filepath.Join(dir, "none"):   fs.ErrNotExist,
		dir:                          shm.ErrNotRegular,
		link:                         shm.ErrNotRegular,
		"/dev/zero":                  shm.ErrNotRegular,
		file("empty", nil):           shm.ErrEmpty,
		file("short", []byte("abc")): ring.ErrNotSegment,
		file("foreign", []byte("\x7fELF and so on, for long enough")):     ring.ErrNotSegment,
		file("zeros", make([]byte, 1<<16)):                                ring.ErrUnfinished,
		damaged("cut", func(b []byte) []byte { return b[:1<<15] }):        ring.ErrTruncated,
		damaged("odd", func(b []byte) []byte { return b[:1<<15+1] }):      ring.ErrTruncated,
		damaged("half", func(b []byte) []byte { return b[:len(b)-4096] }): ring.ErrTruncated,
		damaged("version", func(b []byte) []byte { b[12]++; return b }):   ring.ErrVersion,
		damaged("order", func(b []byte) []byte {
			binary.BigEndian.PutUint32(b[8:], binary.LittleEndian.Uint32(b[8:]))
			return b
		}): ring.ErrByteOrder,
		damaged("geometry", func(b []byte) []byte { b[24] ^= 1; return b }): ring.ErrGeometry,
		"":         ErrName,
		"1:999999": fs.ErrNotExist,
	} {
		_, err := Open(name)
		require.ErrorIs(t, err, want, name)
	}
}

// A file that shrinks under the look is an error, each time and in every function.
func TestTruncatedWhileLookedAt(t *testing.T) {
	if underRace {
		t.Skip("the race detector's atomics cannot be recovered from")
	}
	path := newRing(t)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	s := mustOpen(t, path)
	faults := 0
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				os.Truncate(path, 8192)
				os.WriteFile(path, whole, 0o600)
			}
		}
	})
	deadline := time.Now().Add(patience)
	for n := 0; n < 100 || faults < 10; n++ {
		require.True(t, time.Now().Before(deadline), "%d faults", faults)
		for _, look := range []func() error{
			func() error { _, err := s.Snapshot(); return err },
			func() error { _, err := s.Check(); return err },
			func() error { return s.Dump(Range{}, func(Piece) bool { return true }) },
		} {
			if err := look(); err != nil {
				require.True(t, errors.Is(err, shm.ErrFault) || errors.Is(err, ring.ErrCorrupt), "%v", err)
				faults++
			}
		}
	}
	close(stop)
	wg.Wait()
}

// Whatever stands in the memory, a look ends, and does not end the process.
func TestAnyBytes(t *testing.T) {
	path := newPath(t)
	r, err := router.New(router.WithPath(path), router.WithCapacity(ring.MinCapacity), router.WithMaxPipes(64), router.WithResume())
	require.NoError(t, err)
	require.NoError(t, r.Start())
	require.NoError(t, r.Stop())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	damage := 0
	for range 300 {
		b := append([]byte{}, whole...)
		for range 1 + rnd.IntN(64) {
			at := 4096 + rnd.IntN((len(b)-4096)/8)*8
			if rnd.IntN(2) == 0 { // where words are close together
				at = []int{4096, 8192, 45056, len(b) - 8192}[rnd.IntN(4)] + rnd.IntN(64)*8
			}
			binary.NativeEndian.PutUint64(b[at:], rnd.Uint64()>>rnd.IntN(64))
		}
		require.NoError(t, os.WriteFile(path, b, 0o600))
		s, err := Open(path)
		require.NoError(t, err)
		p, err := s.Snapshot()
		require.NoError(t, err, "seed %d: damage is a note", seed)
		require.GreaterOrEqual(t, p.Positions.Fill, 0.0, "seed %d", seed)
		require.LessOrEqual(t, p.Positions.Fill, 1.0, "seed %d", seed)
		found, err := s.Check()
		require.NoError(t, err, "seed %d", seed)
		damage += len(found)
		require.NoError(t, s.Dump(Range{}, func(Piece) bool { return true }), "seed %d", seed)
		require.NoError(t, s.Close())
	}
	require.Greater(t, damage, 100, "most of this is seen")
}

func TestDumpGoesOnBehindDamage(t *testing.T) {
	path := newRing(t)
	start(t, "producer", path).kill()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	word := make([]byte, 8)
	_, err = f.ReadAt(word, 45056+16)
	require.NoError(t, err)
	binary.NativeEndian.PutUint64(word, binary.NativeEndian.Uint64(word)|1<<63)
	_, err = f.WriteAt(word, 45056+16)
	require.NoError(t, err)

	s := mustOpen(t, path)
	var got []string
	require.NoError(t, s.Dump(Range{}, func(p Piece) bool {
		got = append(got, fmt.Sprintf("%d %s %s", p.Position, p.Kind, p.State))
		return true
	}))
	require.Equal(t, []string{"0 record COMMIT", "1 damage ", "2 record COMMIT", "3 record BUSY"}, got)
	found, err := s.Check()
	require.NoError(t, err)
	require.Len(t, found, 2, "the damage once, and the claim behind it: %v", found)
	require.Equal(t, Damage, found[0].Severity)
	require.EqualValues(t, 1, found[0].Position)
	require.Len(t, mustSnapshot(t, s).Notes, 1)

	from := uint64(2)
	n := 0
	require.NoError(t, s.Dump(Range{From: &from, Count: 1}, func(p Piece) bool { n++; return p.Position == 2 }))
	require.Equal(t, 1, n)
	from = 1 << 40
	require.ErrorIs(t, s.Dump(Range{From: &from}, func(Piece) bool { return true }), ring.ErrUnclaimed)
}

// Beside processes that send, are killed and are replaced, every look succeeds and none finds damage.
func TestLooksBesideTraffic(t *testing.T) {
	path := newRing(t)
	start(t, "consumer", path)
	floods := []*peer{start(t, "flood", path), start(t, "flood", path)}
	s := mustOpen(t, path)
	w := NewWatch(s)
	const laps = 30
	deadline := time.Now().Add(patience)
	var last *Snapshot
	for n := 0; n < 60 || last.Positions.Head < laps*ring.MinCapacity/ring.Granule; n++ {
		require.True(t, time.Now().Before(deadline), "too slow, after %d looks", n)
		p, err := w.Next()
		require.NoError(t, err)
		require.Empty(t, p.Notes)
		require.LessOrEqual(t, p.Positions.Fill, 1.0)
		if last != nil {
			require.GreaterOrEqual(t, p.Positions.Head, last.Positions.Head)
			require.GreaterOrEqual(t, p.Positions.Frontier, last.Positions.Frontier)
			require.NotNil(t, p.Rates)
		}
		last = p
		found, err := s.Check()
		require.NoError(t, err)
		for _, f := range found {
			require.NotEqual(t, Damage, f.Severity, "%v", f)
		}
		require.NoError(t, s.Dump(Range{Count: 200}, func(p Piece) bool {
			require.NotEqual(t, "damage", p.Kind, "%v", p)
			return true
		}))
		if n%10 == 9 {
			i := n / 10 % 2
			floods[i].kill()
			floods[i] = start(t, "flood", path)
		}
	}
}

// The application area of a memory file has no pages until somebody writes there, or looks there.
func TestLooksAllocateNothing(t *testing.T) {
	r, err := router.New(router.WithCapacity(ring.MinCapacity), router.WithMaxPipes(1<<17))
	require.NoError(t, err)
	require.NoError(t, r.Start())
	defer r.Stop()
	all, _ := Find(nil)
	for _, f := range all {
		if len(f.Holders) == 0 || f.Holders[0].PID != os.Getpid() {
			continue
		}
		s := mustOpen(t, f.Name)
		blocks := func() int64 {
			var st unix.Stat_t
			require.NoError(t, unix.Fstat(int(s.file.Fd()), &st))
			return st.Blocks
		}
		before := blocks()
		p := mustSnapshot(t, s)
		require.Equal(t, "running", p.Router.State)
		_, err := s.Check()
		require.NoError(t, err)
		require.NoError(t, s.Dump(Range{}, func(Piece) bool { return true }))
		require.Equal(t, before, blocks())
		require.Less(t, before*512, p.Geometry.Size/2)
		return
	}
	t.Fatal("the router's memory was not found")
}

func TestCheckPipes(t *testing.T) {
	path := newPath(t)
	start(t, "router", path).kill()
	s := mustOpen(t, path)
	found, err := s.Check()
	require.NoError(t, err)
	require.Empty(t, found)
	p := mustSnapshot(t, s)
	require.Equal(t, "running", p.Router.State, "says one that was killed")
	require.Equal(t, 1, p.Router.Pipes.Open)

	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	entry := make([]byte, 8)
	_, err = f.ReadAt(entry, s.Dir.Offset(0))
	require.NoError(t, err)
	_, err = f.WriteAt(entry, s.Dir.Offset(1)) // the same pipe twice
	require.NoError(t, err)
	binary.NativeEndian.PutUint64(entry, 7)
	_, err = f.WriteAt(entry, s.Dir.Offset(2))
	require.NoError(t, err)
	found, err = s.Check()
	require.NoError(t, err)
	require.Len(t, found, 2, "%v", found)
	require.Contains(t, found[0].Text, "entries 0 and 1 hold the same pipe")
	require.Contains(t, found[1].Text, "state 7")
	require.EqualValues(t, wire.MaxID, uint64(1<<40-1))
}

// How long a sender's last record will take depends on how much is in front of it.
func TestWaitOfASender(t *testing.T) {
	path := newRing(t)
	r, err := ring.OpenPath(path)
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	c, err := r.Consume()
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	var senders [2]*ring.Producer
	for i := range senders {
		a, err := r.Attach()
		require.NoError(t, err)
		t.Cleanup(func() { a.Close() })
		senders[i] = a.NewProducer()
	}
	for i := range 8 {
		require.NoError(t, senders[i/4].TrySend(nil, 0))
	}
	consume := func(n int) {
		got, err := c.Poll(n, func(ring.Frame) ring.Action { return ring.Continue })
		require.NoError(t, err)
		require.Equal(t, n, got)
	}
	w := NewWatch(mustOpen(t, path))
	next := func() *Rates {
		p, err := w.Next()
		require.NoError(t, err)
		if p.Rates == nil {
			return nil
		}
		require.Len(t, p.Rates.Slots, 2)
		return p.Rates
	}
	require.Nil(t, next())
	consume(2)
	rates := next()
	require.Positive(t, rates.Slots[0].Wait)
	require.InEpsilon(t, 3, rates.Slots[1].Wait/rates.Slots[0].Wait, 1e-9, "six records are left, and two")
	require.Equal(t, rates.Wait, rates.Slots[1].Wait)
	require.Equal(t, -1.0, next().Slots[0].Wait, "nothing came through")
	consume(2)
	rates = next()
	require.Zero(t, rates.Slots[0].Wait, "it has nothing there")
	require.Positive(t, rates.Slots[1].Wait)
}

// Who is stopped is alive, and holds everybody up: it is shown.
func TestStoppedProcesses(t *testing.T) {
	path := newRing(t)
	producer, consumer := start(t, "producer", path), start(t, "consumer", path)
	s := mustOpen(t, path)
	for _, stopped := range []bool{true, false} {
		for _, p := range []*peer{producer, consumer} {
			sig := unix.SIGCONT
			if stopped {
				sig = unix.SIGSTOP
			}
			require.NoError(t, p.cmd.Process.Signal(sig))
		}
		require.Eventually(t, func() bool {
			p := mustSnapshot(t, s)
			require.True(t, p.Consumer.Alive && p.Slots[0].Alive)
			return p.Consumer.Stopped == stopped && p.Slots[0].Stopped == stopped
		}, patience, time.Millisecond)
	}
}
