package router

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
	"golang.org/x/sys/unix"
)

// The live scribbler: a process that maps the segment and writes random words
// into it while the router routes and honest workers send.

var scribbleFor = flag.Int("scribble", 200, "bursts of 50 words that the scribbler writes into each part of a segment")

// scribbled are the parts of a segment, by the offsets of docs/protocol.md. The
// directory begins behind the data, wherever that is.
var scribbled = []struct {
	name  string
	words func(dataEnd int64) []int64 // offsets
	works bool                        // afterwards a new pipe works
	quiet bool                        // nothing of it is read any more
}{
	{"superblock", upTo(0, 4096), true, true},
	{"producers' words", fixed(4096, 4224, 4352), true, false},
	{"consumer's words", fixed(8192, 8320, 8448, 8576, 8584, 8592, 8600, 8704, 8712, 8720), true, false},
	{"roster", upTo(12288, 45056), true, false},
	{"table", upTo(scribbledTable, scribbledData), true, false},
	{"data", upTo(scribbledData, scribbledData+64<<10), true, true},
	{"directory", func(end int64) []int64 {
		return append(upTo(end, end+64)(0), upTo(end+4096, end+4096+64*32)(0)...)
	}, false, false},
	{"everything", nil, false, false},
}

const (
	scribbledTable = 45056
	scribbledData  = scribbledTable + (64<<10)/64*16
)

func fixed(offs ...int64) func(int64) []int64 { return func(int64) []int64 { return offs } }

func upTo(from, to int64) func(int64) []int64 {
	return func(int64) (all []int64) {
		for off := from; off < to; off += 8 {
			all = append(all, off)
		}
		return all
	}
}

// scribble is the scribbler's process: arg is the part, the number of bursts, and the seed.
func scribble(arg string) error {
	var part, bursts int
	var seed uint64
	if _, err := fmt.Sscan(arg, &part, &bursts, &seed); err != nil {
		return err
	}
	seg, err := shm.FromFile(os.NewFile(3, "segment"))
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(seed, uint64(part)))
	dataEnd := int64(scribbledData + 64<<10)
	for range bursts {
		which := part
		if scribbled[part].words == nil {
			which = rng.IntN(part)
		}
		words := scribbled[which].words(dataEnd)
		for range 50 {
			off := words[rng.IntN(len(words))]
			seg.Word64(off).Store(scribbledWord(seg, rng, off))
		}
		time.Sleep(100 * time.Microsecond)
	}
	return nil
}

// scribbledWord is a word that means something to whoever reads it, every other time.
func scribbledWord(seg *shm.Segment, rng *rand.Rand, off int64) uint64 {
	pos := seg.Word64(8192).Load() + uint64(rng.IntN(2048)) - 512
	switch rng.IntN(6) {
	case 0:
		return pos
	case 1, 2: // a header of about this lap; its owner is dead, or nobody
		if off >= scribbledTable && off < scribbledData {
			owner := uint64(200 + rng.IntN(56))
			return rng.Uint64()&3 | (pos/1024+1+uint64(rng.IntN(2)))<<2 | owner<<37 | uint64(rng.IntN(40))<<45
		}
		return seg.Word64(off).Load() ^ 1<<rng.IntN(64)
	}
	return rng.Uint64() >> rng.IntN(64)
}

// sendUntilTold sends numbered messages until its standard input ends. Damage
// may cost messages, never the process.
func sendUntilTold(string) error {
	s, err := sender.FromEnv()
	if err == nil {
		err = s.Start()
	}
	if errors.Is(err, sender.ErrRouterGone) || errors.Is(err, sender.ErrPipeClosed) {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(background)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	fmt.Println("started")
	for i := 0; ctx.Err() == nil; i++ {
		size := 20 + i%200
		if i%50 == 0 {
			size = 20_000 // several frames
		}
		brief, done := context.WithTimeout(ctx, 100*time.Millisecond)
		err := s.Send(brief, body(i, size))
		done()
		if errors.Is(err, sender.ErrRouterGone) {
			break
		}
		if errors.Is(err, shm.ErrFault) {
			break
		}
		if err != nil && !errors.Is(err, ring.ErrCorrupt) && !errors.Is(err, ring.ErrFenced) && brief.Err() == nil {
			return fmt.Errorf("undocumented: %w", err)
		}
	}
	if err := s.Stop(); err != nil && !errors.Is(err, ring.ErrCorrupt) && !errors.Is(err, shm.ErrFault) {
		return err
	}
	return nil
}

func TestScribbler(t *testing.T) {
	seed := ringtest.Random(t).Uint64()
	for i, part := range scribbled {
		t.Run(part.name, func(t *testing.T) {
			guard(t)
			hook := testHookStopped
			testHookStopped = nil // the segment is damaged
			t.Cleanup(func() { testHookStopped = hook })
			var log journal
			r := begin(t, WithCapacity(64<<10), WithMaxPipes(64), WithMaxMessage(1<<20), WithLogger(log.logger()))
			h := newHonest(t, r, 2)
			s := scribbler(t, r, fmt.Sprint(i, *scribbleFor, seed))

			// RouteUntil ends meanwhile, whatever its mark has become.
			for routing := true; routing; {
				select {
				case <-s:
					routing = false
				default:
				}
				ctx, cancel := context.WithTimeout(background, 5*time.Millisecond)
				err := within(t, "RouteUntil", inBackground(func() error { return r.RouteUntil(ctx, func() bool { return false }) }))
				cancel()
				if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrNothingToWaitFor) {
					t.Fatal(err)
				}
			}
			h.stop()
			h.end(r)
			if part.works {
				newPipeWorks(t, r)
			}
			staysIdle(t, r)
			t.Logf("%d messages, %d damages, %d malformed, broken: %v", h.got.Load(), r.Stats().Damages, r.Stats().Malformed, r.Stats().Broken)
			if h.got.Load() == 0 && part.name != "everything" {
				t.Error("nothing was delivered")
			}
			damages := log.matching("damage in the ") // segment, directory
			if n := r.Stats().Damages; part.quiet && n > 0 || n > 0 != (len(damages) > 0) {
				t.Errorf("%d damages, reported %q", n, damages)
			}
			for _, line := range damages {
				entry := strings.Contains(line, "directory entry ") && strings.Contains(line, "has become 0x")
				if !entry && (!strings.Contains(line, "corrupt at position ") || !strings.Contains(line, "word 0x")) {
					t.Errorf("does not say where: %s", line)
				}
			}
			if part.name == "table" && (r.Stats().Damages == 0 || r.Stats().Ring.Consumer.Resyncs == 0) {
				t.Errorf("no damage in the table: %+v", r.Stats())
			}
			must(t, within(t, "Stop", inBackground(r.Stop)))
			within(t, "done", r.Done())
		})
	}
}

// An End of an earlier pipe with the same index, met again, ends no pipe: not from a seat that nobody ever held, nor from
// that of the earlier pipe's sender, which may be the next one's, too; nor does one that names no pipe.
func TestEndOfAnother(t *testing.T) {
	guard(t)
	r := begin(t, WithCapacity(64<<10), WithMaxPipes(1))
	file, err := r.cur.Load().ring.File()
	must(t, err)
	defer file.Close()
	seg, err := shm.FromFile(file)
	must(t, err)
	defer seg.Close()

	earlier, earlierRcv := pipe(t, r)
	p := launch(t, r, earlier)
	must(t, p.Start())
	must(t, p.Send("earlier"))
	m, err := earlierRcv.Recv(background)
	must(t, err)
	if string(m.Data) != "earlier" {
		t.Errorf("got %q", m.Data)
	}
	seat := r.cur.Load().dir.Word(earlierRcv.index).Slot()
	must(t, p.Stop())
	_, err = earlierRcv.Recv(background)
	wantIs(t, "end", err, io.EOF)
	must(t, earlierRcv.Close())

	s, rcv := pipe(t, r)
	got, end := make(chan Message, 2), make(chan error, 1)
	rcv.Handle(func(m Message) { got <- m }, func(err error) { end <- err })
	must(t, s.Start())
	must(t, s.Send(background, []byte("before")))
	within(t, "message", got)
	for i, stale := range []struct {
		slot    int
		payload []byte
	}{
		{200, wire.EndPayload(earlierRcv.id)},
		{seat, wire.EndPayload(earlierRcv.id)},
		{seat, nil},
		{seat, wire.EndPayload(rcv.id)[:7]},
	} {
		pos, err := r.cur.Load().ring.Frontier()
		must(t, err)
		entry := scribbledTable + int64(pos%1024)*16
		copy(seg.Bytes()[scribbledData+int64(pos%1024)*64:], stale.payload)
		seg.Word64(entry + 8).Store(wire.Meta(wire.End, rcv.index, 1)<<25 | uint64(len(stale.payload)))
		seg.Word64(entry).Store(2 | (pos/1024+1)<<2 | uint64(stale.slot)<<37 | 1<<45)

		must(t, s.Send(background, []byte("again")))
		select {
		case <-got:
		case err := <-end:
			t.Fatalf("the pipe has been ended: %+v, %v", stale, err)
		case <-time.After(patience):
			t.Fatal("in vain: message behind the End")
		}
		if n := r.Stats().Malformed; n != uint64(i+1) {
			t.Errorf("%d malformed, not %d", n, i+1)
		}
	}
	must(t, s.Stop())
	must(t, within(t, "end", end))
	must(t, rcv.Close())
}

func inBackground(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

// scribbler starts the process; the channel is closed when it is done.
func scribbler(t *testing.T, r *Router, arg string) <-chan struct{} {
	t.Helper()
	file, err := r.cur.Load().ring.File()
	must(t, err)
	defer file.Close()
	cmd := command(t, "scribbler", arg)
	cmd.ExtraFiles = []*os.File{file}
	must(t, cmd.Start())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := cmd.Wait(); err != nil {
			t.Errorf("scribbler: %v", err)
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-done
	})
	return done
}

// honest are workers that send, and the receivers of their pipes.
type honest struct {
	t       *testing.T
	workers []*Worker
	in      []io.Closer
	got     atomic.Int64
	rcvs    []*Receiver
	ends    []chan error
}

func newHonest(t *testing.T, r *Router, n int) *honest {
	t.Helper()
	h := &honest{t: t}
	for range n {
		s, rcv := pipe(t, r)
		end := make(chan error, 1)
		rcv.Handle(func(m Message) { h.got.Add(1) }, func(err error) { end <- err })
		cmd := command(t, "honest", "")
		in, err := cmd.StdinPipe()
		must(t, err)
		out, finish := listen(t, cmd)
		w, err := r.Launch(cmd, s)
		finish()
		must(t, err)
		t.Cleanup(func() {
			w.Kill()
			<-w.Done()
		})
		if line, _ := bufio.NewReader(out).ReadString('\n'); line != "started\n" {
			t.Errorf("worker says %q", line)
		}
		h.workers, h.in = append(h.workers, w), append(h.in, in)
		h.rcvs, h.ends = append(h.rcvs, rcv), append(h.ends, end)
	}
	eventually(t, "messages arrive", func() bool { return h.got.Load() > 0 })
	return h
}

// stop has the workers stop, which they do.
func (h *honest) stop() {
	h.t.Helper()
	for i, w := range h.workers {
		h.in[i].Close()
		within(h.t, "worker ends", w.Done())
		var exit *exec.ExitError
		if errors.As(w.Wait(), &exit) {
			h.t.Errorf("worker: %v", exit)
		}
	}
}

// end is told to every receiver, by whatever way.
func (h *honest) end(r *Router) {
	h.t.Helper()
	for i, end := range h.ends {
		select {
		case err := <-end:
			if err != nil && !errors.Is(err, ErrPeerDied) && !errors.Is(err, ErrBroken) {
				h.t.Errorf("end: %v", err)
			}
		case <-time.After(patience):
			h.t.Errorf("no end of pipe %d: %+v", i, r.Stats())
		}
		must(h.t, h.rcvs[i].Close())
	}
}

// newPipeWorks fails unless a pipe that is made after the damage carries messages.
func newPipeWorks(t *testing.T, r *Router) {
	t.Helper()
	s, rcv := pipe(t, r)
	var got atomic.Int64
	rcv.Handle(func(Message) { got.Add(1) }, nil)
	eventually(t, "a sender can start", func() bool {
		err := s.Start()
		if err != nil && !errors.Is(err, ring.ErrCorrupt) {
			t.Fatal(err)
		}
		return err == nil
	})
	eventually(t, "messages come through", func() bool {
		if err := s.TrySend([]byte("again")); err != nil && !errors.Is(err, ring.ErrFull) && !errors.Is(err, ring.ErrCorrupt) && !errors.Is(err, ring.ErrFenced) {
			t.Fatal(err)
		}
		return got.Load() > 100
	})
	if err := s.Stop(); err != nil && !errors.Is(err, ring.ErrCorrupt) {
		t.Error(err)
	}
	must(t, rcv.Close())
}

// staysIdle fails if a router with nothing to do does not sleep: it wakes for
// its ticks, and gets no more of the processor than they take.
func staysIdle(t *testing.T, r *Router) {
	t.Helper()
	if r.Stats().Broken {
		return // it sleeps until Stop
	}
	calm := func() (before, after Stats, cpu, took time.Duration) {
		begun, used := time.Now(), processTime(t)
		before = r.Stats()
		eventually(t, "two wakeups", func() bool { return r.Stats().Wakeups >= before.Wakeups+2 })
		return before, r.Stats(), processTime(t) - used, time.Since(begun)
	}
	// What is left of the damage may take some ticks to be stepped over.
	var cpu, took time.Duration
	for range 20 {
		var before, after Stats
		before, after, cpu, took = calm()
		if after.Damages == before.Damages && after.Turns == before.Turns && took > 50*time.Millisecond && cpu < took/2 {
			return
		}
	}
	t.Errorf("two wakeups in %v, %v of processor time: %+v", took, cpu, r.Stats())
}

func processTime(t *testing.T) time.Duration {
	var u unix.Rusage
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
