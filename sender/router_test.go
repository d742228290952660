package sender

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// testRouter is as much of a router as a sender can see.
type testRouter struct {
	t        testing.TB
	ring     *ring.Ring
	dir      *wire.Directory
	consumer *ring.Consumer
	next     uint32 // free entry

	seqs  map[uint32]uint64 // by pipe
	parts map[int][]byte    // large messages on their way, by slot
	total map[int]int
}

// message is what a receiver would see, and End for its end.
type message struct {
	kind wire.Kind // Data, or Last for a large one, or End
	pipe uint32
	seq  uint64
	slot int
	data string
}

const testCapacity = 64 << 10 // the smallest ring: frames of 8 KiB

var kinds = []shm.Kind{shm.Heap, shm.Memfd, shm.Named}

// onEach runs a test on each kind of segment.
func onEach(t *testing.T, test func(t *testing.T, kind shm.Kind)) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) { test(t, kind) })
	}
}

func newRouter(t testing.TB, kind shm.Kind) *testRouter {
	return newRouterWith(t, kind, wire.Config{MaxMessage: 1 << 20})
}

// newRouterWith starts a router. When the test is over it checks the segment, and that nothing of it is left
// in this process.
func newRouterWith(t testing.TB, kind shm.Kind, c wire.Config) *testRouter {
	t.Helper()
	return newRouterOf(t, kind, testCapacity, c)
}

func newRouterOf(t testing.TB, kind shm.Kind, capacity int64, c wire.Config) *testRouter {
	t.Helper()
	checkLeaks(t)
	size, entries := wire.UserSize(16)
	c.Entries = entries
	r := &testRouter{t: t, seqs: make(map[uint32]uint64), parts: make(map[int][]byte), total: make(map[int]int)}
	var err error
	switch o := (ring.Options{Capacity: capacity, UserSize: size}); kind {
	case shm.Heap:
		r.ring, err = ring.NewHeap(o)
	case shm.Memfd:
		r.ring, err = ring.New(o)
	case shm.Named:
		r.ring, err = ring.Create(filepath.Join(t.TempDir(), "segment"), o)
	}
	must(t, err)
	off, size := r.ring.User()
	r.dir, err = wire.Create(r.ring.Segment(), off, size, c)
	must(t, err)
	r.consumer, err = r.ring.Consume()
	must(t, err)
	r.dir.SetState(wire.Running)
	t.Cleanup(func() {
		if r.consumer != nil {
			r.poll()
			r.die()
		}
		if err := r.ring.Segment().Retain(); err == nil {
			if err := r.ring.Check(); err != nil && !errors.Is(err, shm.ErrFault) {
				t.Errorf("ring: %v", err)
			}
			r.ring.Segment().Close()
		}
		r.ring.Close()
	})
	return r
}

// die leaves as a killed router would, as far as others can see.
func (r *testRouter) die() {
	must(r.t, r.consumer.Close())
	r.consumer = nil
}

func (r *testRouter) stop() {
	r.dir.SetState(wire.Stopped)
	r.dir.Notify()
}

func (r *testRouter) token() wire.Token {
	id, err := r.dir.TakeID()
	must(r.t, err)
	index := r.next
	r.next++
	if !r.dir.Publish(index, id) {
		r.t.Fatalf("entry %d is not free", index)
	}
	return wire.Token{Identity: r.ring.Identity(), Epoch: r.dir.Epoch(), ID: id, Index: index}
}

// pipe makes a pipe and its sender, in its initial state.
func (r *testRouter) pipe() *Sender { return atHome(r.ring, r.token()) }

// started is pipe and Start.
func (r *testRouter) started() *Sender {
	r.t.Helper()
	s := r.pipe()
	must(r.t, s.Start())
	return s
}

// poll returns all messages that are there.
func (r *testRouter) poll() []message {
	r.t.Helper()
	ms, err := r.take(1 << 20)
	if err != nil && !errors.Is(err, shm.ErrFault) {
		r.t.Errorf("poll: %v", err)
	}
	return ms
}

// take handles frames that are there, limit at most.
func (r *testRouter) take(limit int) (ms []message, err error) {
	_, err = r.consumer.Poll(limit, func(f ring.Frame) ring.Action {
		kind, pipe, seq, ok := wire.UnpackMeta(f.Meta)
		if !ok {
			r.t.Errorf("meta %#x", f.Meta)
		}
		m := message{kind: kind, pipe: pipe, slot: f.Slot, data: string(f.Data)}
		switch kind {
		case wire.First:
			r.total[f.Slot] = int(binary.LittleEndian.Uint64(f.Data))
			r.parts[f.Slot] = slices.Clone(f.Data[8:])
			return ring.Continue
		case wire.More:
			r.parts[f.Slot] = append(r.parts[f.Slot], f.Data...)
			return ring.Continue
		case wire.Last:
			m.data = string(append(r.parts[f.Slot], f.Data...))
			if len(m.data) != r.total[f.Slot] {
				r.t.Errorf("large message of %d bytes instead of %d", len(m.data), r.total[f.Slot])
			}
		}
		if kind != wire.End || uint16(r.seqs[pipe]) != seq {
			m.seq = wire.ExtendSeq(r.seqs[pipe], seq)
			r.seqs[pipe] = m.seq
		}
		ms = append(ms, m)
		return ring.Continue
	})
	return ms, err
}

// collect consumes until enough says so, given all that has come.
func (r *testRouter) collect(enough func(ms []message) bool) (all []message) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		ms, err := r.take(1 << 20)
		must(r.t, err)
		all = append(all, ms...)
		if enough(all) {
			return all
		}
		if err := r.consumer.Wait(ctx); err != nil {
			r.t.Fatalf("%v, after %d messages", err, len(all))
		}
	}
}

func (r *testRouter) collectN(n int) []message {
	r.t.Helper()
	return r.collect(func(ms []message) bool { return len(ms) >= n })
}

// consume runs the router on a goroutine until the returned function is called, which returns everything that
// came.
func (r *testRouter) consume() func() []message {
	var all []message
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			ms, err := r.take(64)
			if err != nil {
				r.t.Error(err)
				return
			}
			all = append(all, ms...)
			if err := r.consumer.Wait(ctx); err != nil {
				return
			}
		}
	}()
	return sync.OnceValue(func() []message {
		cancel()
		<-done
		return append(all, r.poll()...)
	})
}

// fill leaves no room, not even for an empty message.
func (r *testRouter) fill(s *Sender) (n int) {
	r.t.Helper()
	for _, size := range []int{4096, 0} {
		for {
			err := s.TrySend(make([]byte, size))
			if errors.Is(err, ErrFull) {
				break
			}
			must(r.t, err)
			n++
		}
	}
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantErr checks that err is of that class, and, since it is read by people, that it does not say a thing
// twice.
func wantErr(t testing.TB, err, class error) {
	t.Helper()
	if !errors.Is(err, class) {
		t.Errorf("got %v, want %v", err, class)
	} else if text := err.Error(); strings.Count(text, class.Error()) > 1 {
		t.Errorf("%q repeats itself", text)
	}
}

// eventually waits for a condition that nothing announces.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// waiting waits until n goroutines more than once were waited for have found the ring full.
func waiting(t testing.TB, s *Sender, n uint64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d goroutines wait", n), func() bool { return s.Stats().Waits >= n })
}

// checkLeaks compares, when the test is over, descriptors, goroutines, mappings of segments and links with
// those of now.
func checkLeaks(t testing.TB) {
	t.Helper()
	warmUp()
	files, goroutines, maps := openFiles(t), runtime.NumGoroutine(), mappings(t)
	t.Cleanup(func() {
		if t.Failed() {
			return
		}
		eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
		if now := openFiles(t); !slices.Equal(now, files) {
			t.Errorf("descriptors:\n%q\nbefore:\n%q", now, files)
		}
		if now := mappings(t); now != maps {
			t.Errorf("%d mappings of segments, %d before", now, maps)
		}
		links.mu.Lock()
		defer links.mu.Unlock()
		if len(links.by) != 0 {
			t.Errorf("%d links left", len(links.by))
		}
	})
}

// warmUp makes the runtime open what it keeps for ever.
var warmUp = sync.OnceFunc(func() {
	r, w, err := os.Pipe()
	if err == nil {
		r.SetDeadline(time.Now())
		r.Close()
		w.Close()
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM)
	signal.Stop(signals)
	runtime.AddCleanup(new([32]byte), func(int) {}, 0) // starts the goroutines for them
	runtime.GC()
	runtime.GC()
	time.AfterFunc(0, func() {})
})

func openFiles(t testing.TB) (names []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil { // otherwise it is the directory's own
			names = append(names, e.Name()+" "+target)
		}
	}
	return names
}

func mappings(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	must(t, err)
	return strings.Count(string(b), "memfd:shmrouter") + strings.Count(string(b), "/segment")
}
