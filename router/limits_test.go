package router

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// holdings is what a process could leak.
type holdings struct{ fds, threads, mappings, files, goroutines int }

func holds(t testing.TB) (h holdings) {
	t.Helper()
	count := func(dir string) int {
		entries, err := os.ReadDir(dir)
		must(t, err)
		return len(entries)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	must(t, err)
	named, err := filepath.Glob("/dev/shm/router-test-*")
	must(t, err)
	return holdings{
		fds: count("/proc/self/fd"), threads: count("/proc/self/task"), goroutines: runtime.NumGoroutine(),
		mappings: bytes.Count(maps, []byte("shmrouter")) + bytes.Count(maps, []byte("router-test")), files: len(named),
	}
}

func (h holdings) within(most holdings) bool {
	return h.fds <= most.fds && h.threads <= most.threads && h.mappings <= most.mappings && h.files <= most.files && h.goroutines <= most.goroutines
}

// After 1,000 cycles of start and stop, some of them with a worker that is
// killed, some on a path, there is no more of anything than after 100.
func TestNothingLeaks(t *testing.T) {
	guard(t)
	cycle := func(i int) {
		opts := []Option{WithCapacity(64 << 10), WithMaxPipes(64)}
		if i%10 == 3 {
			opts = append(opts, WithPath(fmt.Sprintf("/dev/shm/router-test-%d-%d", os.Getpid(), i)))
		}
		if i%10 == 7 {
			loop, err := NewEpollLoop()
			must(t, err)
			defer loop.Close()
			opts = append(opts, WithEventLoop(loop))
		}
		r, err := New(opts...)
		must(t, err)
		must(t, r.Start())
		s, rcv, err := r.Pipe()
		must(t, err)
		if i%50 == 25 {
			w, err := r.Launch(command(t, "puppet", ""), s)
			must(t, err)
			if err := w.Kill(); err != nil { // nobody talks to it, so it may have ended by itself
				wantIs(t, "kill", err, os.ErrProcessDone)
			}
			if i%100 == 75 {
				_, err := rcv.Recv(background)
				wantIs(t, "end", err, ErrPeerDied)
			}
			<-w.Done()
		} else {
			must(t, s.Start())
			s.Context()
			must(t, s.Send(background, []byte("x")))
			if i%3 == 0 {
				must(t, rcv.Close())
			}
			if i%2 == 0 {
				must(t, s.Stop())
				must(t, r.Stop())
			} else {
				must(t, r.Stop())
				must(t, s.Stop())
			}
			<-r.Done()
			return
		}
		must(t, r.Stop())
		<-r.Done()
	}
	var most holdings
	for i := range 1000 {
		cycle(i)
		if i == 100 {
			most = holds(t)
			most.threads += 4 // the runtime keeps those that a busy moment made it start
		}
	}
	runtime.GC()
	eventually(t, "no more than after 100 cycles", func() bool { return holds(t).within(most) })
	if t.Failed() {
		t.Errorf("after 100 cycles %+v, after 1000 %+v", most, holds(t))
	}
}

func TestTenThousandPipes(t *testing.T) {
	guard(t)
	const pipes = 12_000
	r := begin(t)
	var ended atomic.Int64
	var peers []*local
	for i := range pipes {
		s, rcv := pipe(t, r)
		next := 0
		rcv.Handle(func(m Message) {
			checkBody(t, i+next, m.Data)
			next++
		}, func(err error) {
			if next != 2 || err != nil {
				t.Errorf("pipe %d: %d messages, then %v", i, next, err)
			}
			rcv.Close()
			ended.Add(1)
		})
		must(t, s.Start())
		peers = append(peers, &local{s: s})
	}
	for round := range 2 {
		for i, p := range peers {
			must(t, p.s.Send(background, body(i+round, 8)))
		}
	}
	if got := r.Stats().Pipes; got.Attached != pipes {
		t.Errorf("pipes: %+v", got)
	}
	for _, p := range peers {
		must(t, p.Stop())
	}
	eventually(t, "all have ended", func() bool { return ended.Load() == pipes })
	if got := r.Stats().Pipes; got != (PipeStats{}) {
		t.Errorf("pipes: %+v", got)
	}
}

func TestTooManyPipes(t *testing.T) {
	guard(t)
	r := begin(t, WithMaxPipes(4))
	var rcvs []*Receiver
	for range 4 {
		s, rcv := pipe(t, r)
		must(t, s.Start())
		defer s.Stop()
		rcvs = append(rcvs, rcv)
	}
	wantIs(t, "fifth pipe", second(r.Pipe()), ErrTooManyPipes)
	must(t, rcvs[0].Close()) // but its sender lives
	wantIs(t, "fifth pipe", second(r.Pipe()), ErrTooManyPipes)
}

// An index is used again, and what its old sender had sent goes nowhere else.
func TestIndexesAreUsedAgain(t *testing.T) {
	guard(t)
	r := begin(t, WithMaxPipes(1))
	for i := range 200 {
		var s, rcv, err = r.Pipe()
		for errors.Is(err, ErrTooManyPipes) { // the end of the one before is on its way
			runtime.Gosched()
			s, rcv, err = r.Pipe()
		}
		must(t, err)
		must(t, s.Start())
		must(t, s.Send(background, body(i, 8)))
		if i%2 == 0 {
			m, err := rcv.Recv(background)
			must(t, err)
			checkBody(t, i, m.Data)
			if m.Seq != 1 {
				t.Errorf("number %d", m.Seq)
			}
		}
		must(t, rcv.Close())
		must(t, s.Stop())
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// However much passes through, memory stays.
func TestMemoryIsFlat(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	got := make(chan bool, 1)
	n, want := 0, 0
	rcv.Handle(func(m Message) {
		if n++; n == want {
			got <- true
		}
	}, nil)
	must(t, s.Start())
	send := func(messages int) {
		want += messages
		for i := range messages {
			must(t, s.Send(background, body(i, i%3000)))
		}
		within(t, "all", got)
	}
	send(20_000)
	before := heap()
	send(100_000)
	if after := heap(); after > before+1<<20 {
		t.Errorf("heap grew from %d to %d KiB", before>>10, after>>10)
	}
	must(t, s.Stop())
	must(t, rcv.Close())
}

// Nobody takes anything: senders are told, and memory is bounded.
func TestMemoryIsBounded(t *testing.T) {
	guard(t)
	r := begin(t, WithCapacity(256<<10), WithInbox(2), WithQueue(10))
	s, rcv := pipe(t, r)
	must(t, s.Start())
	before := heap()
	payload := make([]byte, 1000)
	sent := 0
	for full := 0; full < 1000; { // full for good, not only for the moment
		switch err := s.TrySend(payload); {
		case err == nil:
			sent++
			full = 0
		case errors.Is(err, ring.ErrFull):
			full++
			time.Sleep(50 * time.Microsecond)
		default:
			t.Fatal(err)
		}
	}
	if after := heap(); after > before+4<<20 {
		t.Errorf("heap grew from %d to %d KiB", before>>10, after>>10)
	}
	must(t, s.Stop())
	n := 0
	for range rcv.Messages(background) {
		n++
	}
	if n != sent {
		t.Errorf("%d of %d messages", n, sent)
	}
	must(t, rcv.Close())
}

// A message of up to 2 KiB costs less than a sixteenth of an allocation.
func TestAllocations(t *testing.T) {
	guard(t)
	for _, size := range []int{0, 8, 100, 2048} {
		r := begin(t)
		s, rcv := pipe(t, r)
		var got atomic.Int64
		rcv.Handle(func(m Message) { got.Add(1) }, nil)
		must(t, s.Start())
		payload := make([]byte, size)
		const messages = 20_000
		run := func() {
			want := got.Load() + messages
			for range messages {
				must(t, s.Send(background, payload))
			}
			for got.Load() < want {
				runtime.Gosched()
			}
		}
		// What costs by the time, as a tick does, or once, as another batch, may come
		// into one round or the other. What a message costs is in all of them.
		per := math.Inf(1)
		for range 10 {
			run()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			run()
			runtime.ReadMemStats(&after)
			per = min(per, float64(after.Mallocs-before.Mallocs)/messages)
			if per < 1.0/16 {
				break
			}
		}
		t.Logf("%d bytes: %.4f allocations a message", size, per)
		if per >= 1.0/16 && !raceEnabled { // the detector allocates for itself
			t.Errorf("%d bytes: %.3f allocations a message", size, per)
		}
		must(t, s.Stop())
		must(t, rcv.Close())
		halt(t, r)
	}
}

// Slabs: a message is alone with its bytes, and pins one slab at most.
func TestMessagesAreOwned(t *testing.T) {
	guard(t)
	var s slab
	var all [][]byte
	for i := range 2000 {
		all = append(all, s.clone(body(i, i%3000)))
	}
	for i, b := range all {
		if cap(b) != len(b) {
			t.Fatalf("message %d has room for %d more bytes", i, cap(b)-len(b))
		}
		_ = append(b, 0xff)
	}
	for i, b := range all {
		checkBody(t, i, b)
	}
	if b := s.clone(nil); b == nil {
		t.Error("nil became nil")
	}
}

// A router to which nothing happens, and whose workers' deaths would be told,
// wakes once a second: ten times would be a fifth of a percent of a processor.
func TestCalmRouterSleepsLonger(t *testing.T) {
	guard(t)
	r := begin(t)
	defer halt(t, r)
	s, _ := pipe(t, r)
	must(t, launch(t, r, s).Start())
	for range 40 {
		before, begun := r.Stats().Wakeups, time.Now()
		eventually(t, "two wakeups", func() bool { return r.Stats().Wakeups >= before+2 })
		if time.Since(begun) >= calmTick {
			return
		}
	}
	t.Error("it goes on waking every tick")
}

// An idle router wakes ten times a second, whoever is attached.
func TestIdleRouterSleeps(t *testing.T) {
	guard(t)
	watchDeath = func(int, uint64, func()) (func(), error) { return nil, errors.ErrUnsupported }
	r := begin(t)
	t.Cleanup(func() { halt(t, r); watchDeath = shm.WatchDeath })
	for range 3 {
		s, _ := pipe(t, r)
		must(t, launch(t, r, s).Start())
	}
	eventually(t, "they are noticed", func() bool { return r.Stats().Queries > 3 })
	before, begun := r.Stats(), time.Now()
	eventually(t, "ten wakeups", func() bool { return r.Stats().Wakeups >= before.Wakeups+10 })
	after, took := r.Stats(), time.Since(begun)
	if took < 800*time.Millisecond {
		t.Errorf("ten wakeups in %v", took)
	}
	if after.Pings != before.Pings || after.Turns != before.Turns {
		t.Error("an idle router pings its loop")
	}
	if n := after.Queries - before.Queries; n > 40 {
		t.Errorf("%d questions to the kernel", n)
	}
}

// Whatever a peer writes into frames, the router lives, and others are served.
func TestRubbishInFrames(t *testing.T) {
	guard(t)
	r := begin(t, WithMaxMessage(1<<20))
	s, rcv := pipe(t, r)
	must(t, s.Start())
	att, err := r.cur.Load().ring.Attach()
	must(t, err)
	p := att.NewProducer()
	rng := ringtest.Random(t)
	var rubbish uint64
	for i := range 3000 {
		meta := rng.Uint64() & (1<<ring.MetaBits - 1)
		if kind, index, _, ok := wire.UnpackMeta(meta); ok && index == rcv.index && kind != wire.First {
			continue
		}
		payload := make([]byte, rng.IntN(40))
		if i%2 == 0 { // a plausible one: a large message of another's pipe
			kinds := []wire.Kind{wire.First, wire.More, wire.Last}
			meta = wire.Meta(kinds[rng.IntN(3)], rcv.index, 0)
			payload = binary.LittleEndian.AppendUint64(nil, rng.Uint64()>>rng.IntN(64))
		}
		must(t, p.Send(background, payload, meta))
		rubbish++
		if i%100 == 0 {
			must(t, s.Send(background, body(i, 100)))
			for {
				m, err := rcv.Recv(background)
				must(t, err)
				if bytes.Equal(m.Data, body(i, 100)) {
					break // others may have been put together from rubbish
				}
			}
		}
	}
	must(t, att.Close())
	must(t, s.Stop())
	for range rcv.Messages(background) {
	}
	if n := r.Stats().Malformed; n == 0 {
		t.Error("nothing was malformed")
	}
	must(t, rcv.Close())
}

// A peer that announces much and sends little costs little, also when it does
// so in the name of many.
func TestAnnouncedMemory(t *testing.T) {
	p := part{size: 1 << 30}
	for n := range 100 {
		if most := trust * len(p.data); n > 1 && cap(p.data) > most {
			t.Fatalf("%d bytes for %d that have arrived", cap(p.data), len(p.data))
		}
		p.append(make([]byte, n*n))
	}
}

// Somebody scribbles over the directory. Messages may be lost, and ends; the
// router neither panics nor hangs.
func TestRubbishInTheDirectory(t *testing.T) {
	guard(t)
	rng := ringtest.Random(t)
	for range 5 {
		r := begin(t, WithMaxPipes(16))
		n := r.cur.Load()
		off, size := n.ring.User()
		user := n.ring.Segment().Bytes()[off : off+size]
		stop := make(chan bool)
		done := make(chan bool)
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
					at := rng.IntN(len(user)/8) * 8
					if at == 16 { // state and notice: the senders would be told
						continue
					}
					n.ring.Segment().Word64(off + int64(at)).Store(rng.Uint64())
				}
			}
		}()
		for range 200 {
			s, rcv, err := r.Pipe()
			if err != nil {
				continue
			}
			if s.Start() == nil {
				s.TrySend([]byte("x"))
				s.Stop()
			}
			rcv.Cancel()
			r.Stats()
			rcv.Close()
		}
		close(stop)
		<-done
		must(t, r.Stop())
	}
}

// The file of a named segment is truncated: every pipe ends, and the router can
// be stopped.
func TestTruncatedSegment(t *testing.T) {
	guard(t)
	path := t.TempDir() + "/segment"
	r, err := New(WithPath(path))
	must(t, err)
	hook := testHookStopped
	testHookStopped = nil
	defer func() { testHookStopped = hook }()
	must(t, r.Start())
	s, rcv := pipe(t, r)
	_ = s
	must(t, os.Truncate(path, 0))
	_, err = rcv.Recv(background)
	wantIs(t, "end", err, ErrBroken)
	wantIs(t, "Pipe", second(r.Pipe()), ErrBroken)
	if !r.Stats().Broken {
		t.Error("not reported")
	}
	r.Stop() // may complain of the file
	within(t, "done", r.Done())
	wantIs(t, "second Stop", r.Stop(), ErrNotRunning)
}

// Damage in the ring is stepped over.
func TestDamageIsSteppedOver(t *testing.T) {
	guard(t)
	hook := testHookStopped
	testHookStopped = nil
	defer func() { testHookStopped = hook }()
	stage := newStage()
	r := begin(t, WithEventLoop(stage.loop()))
	n := r.cur.Load()
	s, rcv := pipe(t, r)
	must(t, s.Start())
	must(t, s.Send(background, []byte("x")))
	eventually(t, "copied", func() bool { return r.Stats().Copied == 1 })
	// The word behind the message: a record of this lap that takes no space.
	const table, entry, withoutGranules = 45056, 16, 1<<45 - 1
	pos := int64(n.cons.Position())
	last := n.ring.Segment().Word64(table + (pos-1)*entry).Load()
	n.ring.Segment().Word64(table + pos*entry).Store(last & withoutGranules)
	eventually(t, "damage", func() bool { return r.Stats().Damages > 0 })
	got := 0
	rcv.Handle(func(Message) { got++ }, nil)
	stage.until(t, "what came before", func() bool { return got == 1 })
	must(t, r.Stop())
	s.Stop()
}

// A pipe whose directory entry was overwritten ends: the death of its sender
// could not be told by it any more. Others go on.
func TestDamagedEntryEndsThePipe(t *testing.T) {
	guard(t)
	for _, damage := range []func(w uint64) uint64{
		func(uint64) uint64 { return 0 },
		func(w uint64) uint64 { return w ^ 1<<30 }, // another pipe
		func(w uint64) uint64 { return w | 7 },     // no state
		func(w uint64) uint64 { return w | 0xff<<16 },
	} {
		var log journal
		r := begin(t, WithMaxPipes(16), WithLogger(log.logger()))
		n := r.cur.Load()
		s, rcv := pipe(t, r)
		must(t, s.Start())
		other, otherRcv := pipe(t, r)
		must(t, other.Start())
		must(t, s.Send(background, []byte("before")))
		off, _ := n.ring.User()
		entry := n.ring.Segment().Word64(off + 4096 + 32*int64(rcv.index))
		entry.Store(damage(entry.Load()))
		m, err := rcv.Recv(background)
		must(t, err)
		if string(m.Data) != "before" {
			t.Errorf("got %q", m.Data)
		}
		_, err = rcv.Recv(background)
		wantIs(t, "end", err, ErrBroken)
		if len(log.matching("has become 0x")) != 1 || r.Stats().Damages != 1 {
			t.Error("not reported")
		}
		must(t, other.Send(background, []byte("other")))
		if _, err := otherRcv.Recv(background); err != nil {
			t.Error(err)
		}
		s.Stop()
		must(t, other.Stop())
		must(t, rcv.Close())
		must(t, r.Stop())
	}
}

// An end that was given a mark while head was damaged is told all the same.
func TestEndWithADamagedMark(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	p := launch(t, r, s)
	must(t, p.Start())
	must(t, p.Send("x"))
	if _, err := rcv.Recv(background); err != nil {
		t.Fatal(err)
	}
	head := r.cur.Load().ring.Segment().Word64(8192)
	head.Add(1 << 40)
	must(t, p.w.Kill())
	_, err := rcv.Recv(background)
	wantIs(t, "end", err, ErrPeerDied)
}

func TestEOFIsForEver(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	must(t, s.Start())
	must(t, s.Stop())
	for range 3 {
		if _, err := rcv.Recv(background); err != io.EOF {
			t.Errorf("got %v", err)
		}
	}
	must(t, rcv.Close())
}

func BenchmarkRoute(b *testing.B) {
	for _, size := range []int{64, 1024} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			r := begin(b)
			s, rcv := pipe(b, r)
			done := make(chan bool, 1)
			n, want := 0, b.N
			rcv.Handle(func(Message) {
				if n++; n == want {
					done <- true
				}
			}, nil)
			must(b, s.Start())
			payload := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if err := s.Send(background, payload); err != nil {
					b.Fatal(err)
				}
			}
			<-done
			b.StopTimer()
			must(b, s.Stop())
			must(b, rcv.Close())
		})
	}
}

// A pipe that is made while the router stops is refused, or told to have ended: nobody waits for it for ever.
func TestPipeWhileStopping(t *testing.T) {
	guard(t)
	r := begin(t)
	n := r.cur.Load()
	n.stopped.Store(true)
	_, _, err := n.pipe()
	n.stopped.Store(false)
	wantIs(t, "Pipe", err, ErrNotRunning)
}
