package ring_test

import (
	"context"
	"errors"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// What has to hold whatever an image says. Panics and faults end the execution
// by themselves: the walls around the segment turn an access outside into one.

const (
	fuzzNap   = 50 * time.Microsecond // how long sleeps last that nobody ends
	fuzzAlloc = 16 << 20              // bytes that an execution may allocate, its errors included
	fuzzSteps = 64                    // operations of an execution

	// An execution takes a millisecond or so. The fuzzer itself gives up after
	// ten seconds, without saying where it hangs.
	fuzzPatience = 8 * time.Second
)

// execute runs one execution: faults become panics, a loop without an end a
// failure, and memory is counted.
func execute(t *testing.T, f func()) {
	before := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(before)
	watchdog := time.AfterFunc(fuzzPatience, func() {
		debug.SetTraceback("all")
		panic("the execution does not end")
	})
	defer watchdog.Stop()
	allocated := allocatedBytes()
	f()
	if n := allocatedBytes() - allocated; n > fuzzAlloc {
		t.Fatalf("%d bytes were allocated", n)
	}
}

func allocatedBytes() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// documented fails on an error that is none of those allowed.
func documented(t testing.TB, err error, allowed ...error) {
	t.Helper()
	if err != nil && !slices.ContainsFunc(allowed, func(target error) bool { return errors.Is(err, target) }) {
		t.Fatalf("undocumented error %v", err)
	}
	var damage *ring.CorruptError
	if errors.As(err, &damage) != errors.Is(err, ring.ErrCorrupt) || damage != nil && (damage.Reason == "" || damage.Error() == "") {
		t.Fatalf("damage that is not explained: %#v", err)
	}
}

// consumption is a consumer under test.
type consumption struct {
	t      testing.TB
	s      *stage
	ring   *ring.Ring
	cons   *ring.Consumer
	manual bool
	sum    byte
}

func (c *consumption) poll(limit int, answer func(n int) ring.Action) (n int, err error) {
	from := c.cons.Position()
	calls := 0
	n, err = c.cons.Poll(limit, func(f ring.Frame) ring.Action {
		calls++
		c.s.inData(c.t, c.ring, f.Data)
		if len(f.Data) != cap(f.Data) || f.Meta>>ring.MetaBits != 0 || f.Slot < 0 || f.Slot >= ring.MaxSlots {
			c.t.Fatalf("frame of %d bytes, room for %d, meta %#x, slot %d", len(f.Data), cap(f.Data), f.Meta, f.Slot)
		}
		for _, b := range f.Data {
			c.sum += b
		}
		return answer(calls)
	})
	if n > calls || calls > max(limit, 0) {
		c.t.Fatalf("%d messages in %d calls, limit %d", n, calls, limit)
	}
	// It goes round once: a record may be as long as the ring, hence twice.
	if d := c.cons.Position() - from; d > 2*imageGrains*imageGrains {
		c.t.Fatalf("a Poll passed %d granules", d)
	}
	documented(c.t, err, ring.ErrCorrupt)
	c.explained(err)
	return n, err
}

// explained fails unless damage is said to be where the consumer stands, and is there.
func (c *consumption) explained(err error) {
	var damage *ring.CorruptError
	if !errors.As(err, &damage) {
		return
	}
	if damage.Position != c.cons.Position() {
		c.t.Fatalf("%v: the consumer stands at %d", err, c.cons.Position())
	}
	if w := c.ring.WordAt(damage.Position); damage.Word != w && damage.Word != c.ring.Head() {
		c.t.Fatalf("%v: the word there is %#x, head %d", err, w, c.ring.Head())
	}
}

func (c *consumption) wait() error {
	err := c.cons.WaitUntil(context.Background(), shm.Now()+2*int64(fuzzNap))
	documented(c.t, err, ring.ErrCorrupt, os.ErrDeadlineExceeded)
	c.explained(err)
	return err
}

func (c *consumption) resync() {
	from := c.cons.Position()
	skipped, err := c.cons.Resync()
	documented(c.t, err)
	if skipped == 0 || skipped > imageGrains || c.cons.Position() != from+skipped {
		c.t.Fatalf("Resync from %d to %d, %d granules", from, c.cons.Position(), skipped)
	}
}

// drain takes everything that is there, resynchronising where there is damage.
// It comes to an end, an empty ring or the claim of a living process, within
// as many steps as an image can hold records and damages.
func (c *consumption) drain() {
	for range 8 * imageGrains {
		n, err := c.poll(100, func(int) ring.Action { return ring.Continue })
		if err == nil && n == 0 {
			switch err = c.wait(); {
			case err == nil:
				continue
			case errors.Is(err, os.ErrDeadlineExceeded):
				return
			}
		}
		if err != nil {
			c.resync()
		}
	}
	c.t.Fatalf("always more in an image of %d granules: at %d", imageGrains, c.cons.Position())
}

// works fails unless messages get through once the ring was drained: whatever
// was damaged is behind. A claim of a living process is in the way of all.
func (c *consumption) works(p *ring.Producer) {
	through, want := 0, []byte("through")
	for tries := range 8 * imageGrains {
		err := p.TrySend(want, 0)
		documented(c.t, err, ring.ErrFull, ring.ErrCorrupt, ring.ErrFenced)
		before := through
		_, err = c.cons.Poll(100, func(f ring.Frame) ring.Action {
			if string(f.Data) == string(want) {
				through++
			}
			return ring.Continue
		})
		if c.manual {
			documented(c.t, c.cons.Release(c.cons.Position()))
		}
		if err == nil && through == before {
			err = c.wait()
		}
		if errors.Is(err, ring.ErrCorrupt) {
			c.resync()
		}
		if pos := c.cons.Position(); through > 2 || c.ring.AgeAt(pos) == 0 && ring.StateOf(c.ring.WordAt(pos)) == ring.Busy && tries > 16 {
			return
		}
	}
	c.t.Fatalf("%d messages come through: consumer at %d, head %d, hint %d", through, c.cons.Position(), c.ring.Head(), c.ring.HintAt())
}
