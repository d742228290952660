package wire

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/shm"
)

const pageOff = 8192 // where the tests' directories begin in their segments

func newSegment(t *testing.T) *shm.Segment {
	t.Helper()
	seg, err := shm.NewHeap(pageOff + 8192)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { seg.Close() })
	return seg
}

func create(t *testing.T, entries int) (*Directory, *shm.Segment) {
	t.Helper()
	seg := newSegment(t)
	d, err := Create(seg, pageOff, 8192, Config{Entries: entries, MaxMessage: 1 << 20, Resume: true})
	if err != nil {
		t.Fatal(err)
	}
	return d, seg
}

func TestCreateThenOpen(t *testing.T) {
	d, seg := create(t, 4)
	o, err := Open(seg, pageOff, 8192)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []*Directory{d, o} {
		if d.Len() != 4 || d.MaxMessage() != 1<<20 || !d.Resume() || d.State() != None || d.Life() != 0 || d.Ends() != 0 || d.NextID() != 1 {
			t.Errorf("%+v: %d entries, max %d, resume %v, %v, life %d, ends %d, next id %d",
				d, d.Len(), d.MaxMessage(), d.Resume(), d.State(), d.Life(), d.Ends(), d.NextID())
		}
	}
	if d.Epoch() == 0 || o.Epoch() != d.Epoch() {
		t.Errorf("epochs %x and %x", d.Epoch(), o.Epoch())
	}
	other, _ := create(t, 4)
	if other.Epoch() == d.Epoch() {
		t.Error("two directories of one epoch")
	}

	d.SetState(Running)
	if !o.Serves(d.Epoch()) || o.Serves(d.Epoch()+1) {
		t.Error("Serves does not tell epochs apart")
	}
	d.SetState(Stopped)
	if o.Serves(d.Epoch()) || o.State() != Stopped {
		t.Error("serves when stopped")
	}
	d.RaiseEnds()
	if n := d.RaiseLife(); n != 1 || o.Life() != 1 || o.Ends() != 1 {
		t.Errorf("life %d, %d, ends %d", n, o.Life(), o.Ends())
	}
}

func TestCreateRefuses(t *testing.T) {
	seg := newSegment(t)
	for _, n := range []int{-1, 0, 3, 256, 2 * MaxPipes} {
		if _, err := Create(seg, pageOff, 8192, Config{Entries: n}); err == nil {
			t.Errorf("%d entries accepted", n)
		}
	}
	if _, err := Open(seg, pageOff, 8192); !errors.Is(err, ErrNoDirectory) {
		t.Errorf("a refused directory was begun: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		want  error
		spoil func(seg *shm.Segment)
	}{
		{"no magic", ErrNoDirectory, func(seg *shm.Segment) { seg.Word64(pageOff + offMagic).Store(0) }},
		{"version 2", ErrNoDirectory, func(seg *shm.Segment) { seg.Word64(pageOff + offMagic).Add(1) }},
		{"no entries", ErrDamaged, func(seg *shm.Segment) { seg.Word32(pageOff + offEntries).Store(0) }},
		{"3 entries", ErrDamaged, func(seg *shm.Segment) { seg.Word32(pageOff + offEntries).Store(3) }},
		{"too many entries", ErrDamaged, func(seg *shm.Segment) { seg.Word32(pageOff + offEntries).Store(1 << 31) }},
		{"more than fit", ErrDamaged, func(seg *shm.Segment) { seg.Word32(pageOff + offEntries).Store(256) }},
		{"no epoch", ErrDamaged, func(seg *shm.Segment) { seg.Word64(pageOff + offEpoch).Store(0) }},
	} {
		_, seg := create(t, 4)
		c.spoil(seg)
		if _, err := Open(seg, pageOff, 8192); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	_, seg := create(t, 4)
	if _, err := Open(seg, pageOff, 4096); !errors.Is(err, ErrNoDirectory) {
		t.Errorf("no room: %v", err)
	}
}

// A file that shrank is an error of Open, not the end of the process.
func TestOpenTruncated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "segment")
	seg, err := shm.CreateNamed(path, 16384, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer seg.Close()
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(seg, 8192, 8192); !errors.Is(err, shm.ErrFault) {
		t.Error(err)
	}
}

func TestTakeID(t *testing.T) {
	d, _ := create(t, 1)
	for want := uint64(1); want < 4; want++ {
		if id, err := d.TakeID(); id != want || err != nil {
			t.Errorf("got %d, %v, want %d", id, err, want)
		}
	}
	for _, next := range []uint64{MaxID + 1, 1<<64 - 1, 0} {
		d.nextID.Store(next)
		for range 3 {
			if id, err := d.TakeID(); !errors.Is(err, ErrSpent) {
				t.Errorf("next %d: got %d, %v", next, id, err)
			}
		}
	}
}

func TestEntryLife(t *testing.T) {
	d, _ := create(t, 2)
	const i, id, slot, instance = 1, MaxID, 254, 1<<32 - 1
	state := func(want PipeState) {
		t.Helper()
		e := d.Load(i)
		if e.State() != want || e.Word != d.Word(i) {
			t.Fatalf("state is %v, want %v", e.State(), want)
		}
		if held := e.HeldBy(slot, instance); held != (want == PipeAttached || want == PipeEnded) {
			t.Fatalf("%v: held is %v", want, held)
		}
	}
	state(PipeFree)
	if err := d.Attach(i, id, slot, instance); !errors.Is(err, ErrGone) {
		t.Fatalf("attach while free: %v", err)
	}
	d.Flag(i, Closed)
	d.SetReleased(i, 9)
	if !d.Publish(i, id) || d.Publish(i, 5) {
		t.Fatal("publish")
	}
	state(PipeOpen)
	if e := d.Load(i); e.ID() != id || e.Flags != 0 || e.Released != 0 || e.Instance != 0 {
		t.Fatalf("published with %+v", e)
	}
	if err := d.Attach(i, 5, slot, instance); !errors.Is(err, ErrGone) {
		t.Fatalf("attach to another id: %v", err)
	}
	if d.End(i, id, slot, instance) {
		t.Fatal("ended before attached")
	}
	if err := d.Attach(i, id, slot, instance); err != nil {
		t.Fatal(err)
	}
	state(PipeAttached)
	if e := d.Load(i); e.ID() != id || e.Slot() != slot || e.Instance != instance {
		t.Fatalf("attached with %+v", e)
	}
	if err := d.Attach(i, id, 3, 4); !errors.Is(err, ErrTaken) {
		t.Fatalf("second attach: %v", err)
	}
	if d.End(i, id, slot-1, instance) || d.End(i, id, slot, instance-1) || d.End(i, id-1, slot, instance) {
		t.Fatal("ended by a stranger")
	}
	d.Flag(i, Cancelled)
	d.Flag(i, Closed)
	if e := d.Load(i); e.Flags != Cancelled|Closed {
		t.Fatalf("flags %b", e.Flags)
	}
	if !d.End(i, id, slot, instance) || d.End(i, id, slot, instance) {
		t.Fatal("end")
	}
	state(PipeEnded)
	if err := d.Attach(i, id, 3, 4); !errors.Is(err, ErrTaken) {
		t.Fatalf("attach after the end: %v", err)
	}
	if d.Free(i, d.Word(0)) || !d.Free(i, d.Word(i)) {
		t.Fatal("free")
	}
	state(PipeFree)
	if err := d.Attach(i, id, slot, instance); !errors.Is(err, ErrGone) {
		t.Fatalf("attach after free: %v", err)
	}
	if d.Word(0) != 0 {
		t.Fatal("the other entry changed")
	}
}

// Killed between the CAS that attaches and the store of the whole instance, an entry is told from the slot's
// next holder.
func TestHeldByUnfinished(t *testing.T) {
	d, _ := create(t, 1)
	d.Publish(0, 1)
	if err := d.Attach(0, 1, 7, 41); err != nil {
		t.Fatal(err)
	}
	d.instance(0).Store(0)
	e := d.Load(0)
	if !e.HeldBy(7, 41) || e.HeldBy(7, 42) || e.HeldBy(8, 41) {
		t.Errorf("%+v", e)
	}
	d.instance(0).Store(41)
	if e := d.Load(0); e.HeldBy(7, 41+1<<instanceBits) {
		t.Errorf("%+v is held by a holder 8192 later", e)
	}
}

// No index read from anywhere leaves the table.
func TestIndexStaysInside(t *testing.T) {
	d, _ := create(t, 4)
	d.Publish(3, 1)
	if d.Word(3+4) != d.Word(3) || d.Load(1<<32-1).Word != d.Word(3) {
		t.Error("index is not masked")
	}
}

// Many senders and one router that closes: each pipe goes to at most one of them, and to nobody if it was
// closed before.
func TestAttachRace(t *testing.T) {
	d, _ := create(t, 1)
	for id := uint64(1); id <= 200; id++ {
		d.Publish(0, id)
		var won, closed atomic.Int32
		var wg sync.WaitGroup
		for slot := range 4 {
			wg.Go(func() {
				switch err := d.Attach(0, id, slot, 1); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, ErrTaken) && !errors.Is(err, ErrGone):
					t.Error(err)
				}
			})
		}
		wg.Go(func() {
			if w := d.Word(0); w.State() == PipeOpen && d.Free(0, w) {
				closed.Add(1)
			}
		})
		wg.Wait()
		if won.Load()+closed.Load() != 1 {
			t.Fatalf("id %d: %d attached, closed %d times", id, won.Load(), closed.Load())
		}
		d.Free(0, d.Word(0))
	}
}

func TestNotice(t *testing.T) {
	d, _ := create(t, 1)
	seen := d.Notice()
	if err := d.WaitNotice(seen, shm.Now()-1); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nothing happened: %v", err)
	}
	d.Notify()
	if err := d.WaitNotice(seen, 0); err != nil {
		t.Errorf("old notice: %v", err)
	}
	seen = d.Notice()
	const watchers = 3
	var wg sync.WaitGroup
	for range watchers {
		wg.Go(func() {
			for d.Notice() == seen {
				if err := d.WaitNotice(seen, shm.Now()+int64(10*time.Second)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	d.Notify()
	wg.Wait()
}

func TestNames(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{None.String(), "none"}, {Running.String(), "running"}, {Stopped.String(), "stopped"}, {State(9).String(), "State(9)"},
		{PipeFree.String(), "free"}, {PipeOpen.String(), "open"}, {PipeAttached.String(), "attached"}, {PipeEnded.String(), "ended"},
		{PipeState(7).String(), "PipeState(7)"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

// A pipe that was abandoned has ended, and nobody attaches to it.
func TestAbandon(t *testing.T) {
	d, _ := create(t, 1)
	if !d.Publish(0, 7) || !d.Abandon(0, d.Word(0)) {
		t.Fatal("not abandoned")
	}
	if w := d.Word(0); w.State() != PipeEnded || w.ID() != 7 || w.Slot() != NoSlot {
		t.Errorf("%v of %d, slot %d", w.State(), w.ID(), w.Slot())
	}
	if err := d.Attach(0, 7, 3, 1); !errors.Is(err, ErrGone) {
		t.Errorf("attach: %v", err)
	}
	if d.Abandon(0, d.Word(0)) || !d.Free(0, d.Word(0)) || !d.Publish(0, 8) {
		t.Error("the entry cannot be used again")
	}
	if err := d.Attach(0, 8, 3, 1); err != nil || d.Abandon(0, d.Word(0)) {
		t.Errorf("attach: %v, then abandoned", err)
	}
}
