package ring_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/shmrouter/shmrouter/internal/hosttest"
	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// workSeats takes args[0] slots and opens a claim in each. Told "try", it says
// what one more Attach answers; "send" commits all and sends once more.
func workSeats(w *worker) error {
	n, err := strconv.Atoi(w.args[0])
	if err != nil {
		return err
	}
	var claims []ring.Claim
	var producers []*ring.Producer
	for range n {
		a, err := w.ring.Attach()
		if err != nil {
			return err
		}
		p := a.NewProducer()
		claim, err := p.TryClaim(1, 1)
		if err != nil {
			return err
		}
		producers, claims = append(producers, p), append(claims, claim)
	}
	w.say("seated")
	for {
		order, err := w.wait()
		if err != nil {
			return err
		}
		switch order {
		case "try":
			a, err := w.ring.Attach()
			if err == nil {
				a.Close()
			}
			w.say("%v", err)
		case "send":
			for i := range claims {
				if err := claims[i].Commit(); err != nil {
					return err
				}
				if err := producers[i].TrySend(nil, 2); err != nil {
					return err
				}
			}
			w.say("sent")
		}
	}
}

// All slots taken by processes, each with an open claim: one more is told so
// and changes nothing. One of the processes dies: its slots can be taken at
// once and are swept, the others' claims stand, and they go on.
func TestProcessAllSlots(t *testing.T) {
	onFiles(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		c := ringtest.Consume(t, r)
		workers := make([]*child, 3)
		const each = ring.MaxSlots / 3
		for i := range workers {
			workers[i] = start(t, r, "seats", strconv.Itoa(each))
			require.Equal(t, "seated", workers[i].hear())
		}
		before, err := r.Stats()
		require.NoError(t, err)
		words := func() (all []uint64) {
			for pos := range uint64(ring.MaxSlots) {
				all = append(all, r.WordAt(pos))
			}
			return all
		}
		claims := words()
		_, err = r.Attach()
		require.ErrorIs(t, err, ring.ErrRosterFull)
		workers[0].tell("try")
		require.Equal(t, ring.ErrRosterFull.Error(), workers[0].hear())
		after, err := r.Stats()
		require.NoError(t, err)
		assert.Equal(t, before.Slots, after.Slots, "somebody was disturbed")
		assert.Equal(t, claims, words())

		workers[1].kill()
		for i := range each {
			var a *ring.Attachment
			ringtest.Until(t, "slot of the dead", func() bool {
				var err error
				if a, err = r.Attach(); err != nil {
					require.ErrorIs(t, err, ring.ErrRosterFull, "slot %d of the dead", i)
				}
				return err == nil
			})
			require.EqualValues(t, 2, a.Instance())
			defer a.Close()
		}
		_, err = r.Attach()
		require.ErrorIs(t, err, ring.ErrRosterFull)
		s, err := r.Stats()
		require.NoError(t, err)
		assert.EqualValues(t, each, s.Swept)
		for _, w := range []*child{workers[0], workers[2]} {
			w.tell("send")
			require.Equal(t, "sent", w.hear())
		}
		count := map[uint64]int{}
		for _, m := range ringtest.Receive(t, c, 4*each) {
			count[m.Meta]++
		}
		assert.Equal(t, map[uint64]int{1: 2 * each, 2: 2 * each}, count)
	})
}

// workStarved runs out of descriptors in each call that needs some, while a
// producer and a consumer of the same process go on without.
func workStarved(w *worker) error {
	a, err := w.ring.Attach()
	if err != nil {
		return err
	}
	p := a.NewProducer()
	c, err := w.ring.Consume()
	if err != nil {
		return err
	}
	var number uint64
	goesOn := func() error {
		number++
		if err := p.TrySend(nil, number); err != nil {
			return err
		}
		got := uint64(0)
		if _, err := c.Poll(2, func(f ring.Frame) ring.Action { got = f.Meta; return ring.Continue }); err != nil || got != number {
			return fmt.Errorf("sent %d, got %d: %w", number, got, err)
		}
		_, err := c.SlotAlive(a.Slot() + 1)
		return err
	}
	other, err := ring.New(ringtest.Tiny)
	if err != nil {
		return err
	}
	path := filepath.Join(w.args[0], "ring")
	named, err := ring.Create(path, ringtest.Tiny)
	if err != nil {
		return err
	}
	file, err := other.File()
	if err != nil {
		return err
	}
	fresh := func(r *ring.Ring) (*ring.Attachment, error) { // the first to ask for locks asks for more
		reopened, err := ring.Open(r.Segment())
		if err != nil {
			return nil, err
		}
		defer reopened.Close()
		return reopened.Attach()
	}
	created := path + ".2"
	for _, call := range []struct {
		name string
		try  func() (interface{ Close() error }, error)
	}{
		{"New", func() (interface{ Close() error }, error) { return ring.New(ringtest.Tiny) }},
		{"Create", func() (interface{ Close() error }, error) {
			os.Remove(created)
			return ring.Create(created, ringtest.Tiny)
		}},
		{"OpenPath", func() (interface{ Close() error }, error) { return ring.OpenPath(path) }},
		{"OpenFile", func() (interface{ Close() error }, error) { return ring.OpenFile(file) }},
		{"File", func() (interface{ Close() error }, error) { return other.File() }},
		{"Attach, first", func() (interface{ Close() error }, error) { return fresh(other) }},
		{"Attach, named", func() (interface{ Close() error }, error) { return fresh(named) }},
		{"Attach", func() (interface{ Close() error }, error) { return w.ring.Attach() }},
		{"Consume", func() (interface{ Close() error }, error) { return other.Consume() }},
	} {
		failed, err := hosttest.Starve(func() (func() error, error) {
			got, err := call.try()
			if goes := goesOn(); goes != nil {
				return nil, fmt.Errorf("does not go on: %w", goes)
			}
			if err != nil {
				if _, statErr := os.Lstat(created); call.name == "Create" && statErr == nil {
					return nil, errors.New("a file is left behind")
				}
				return nil, err
			}
			return got.Close, nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", call.name, err)
		}
		w.say("%s failed %d times", call.name, failed)
	}
	w.say("done")
	return nil
}

func TestProcessOutOfDescriptors(t *testing.T) {
	onFiles(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		w := start(t, r, "starved", filepath.Dir(ringtest.Path(t)))
		for line := w.hear(); line != "done"; line = w.hear() {
			t.Log(line)
		}
		require.NoError(t, w.wait())
		s, err := r.Stats()
		require.NoError(t, err)
		for _, slot := range s.Slots[1:] {
			assert.Zero(t, slot.PID, "left in order: slot %d", slot.Slot)
		}
	})
}

// large is a ring that takes more than the address space that workNarrow has left.
var large = ring.Options{Capacity: 256 << 20}

// workNarrow asks for more memory than it may have.
func workNarrow(w *worker) error {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return err
	}
	pages, err := strconv.ParseUint(strings.Fields(string(text))[0], 10, 64)
	if err != nil {
		return err
	}
	a, err := w.ring.Attach()
	if err != nil {
		return err
	}
	restore, err := hosttest.Limit(unix.RLIMIT_AS, pages*uint64(os.Getpagesize())+256<<20)
	if err != nil {
		return err
	}
	before := hosttest.Open()
	_, err = ring.New(large)
	if !errors.Is(err, unix.ENOMEM) {
		return fmt.Errorf("want ENOMEM, got %w", err)
	}
	w.say("%v", err)
	if err := hosttest.OpenLike(before); err != nil {
		return err
	}
	if err := a.NewProducer().TrySend(nil, 1); err != nil {
		return err
	}
	restore()
	r, err := ring.New(large)
	if err != nil {
		return err
	}
	return r.Close()
}

// Out of address space: New says so, and what is there goes on.
func TestProcessOutOfAddressSpace(t *testing.T) {
	if raceEnabled {
		rolesUsed.Store("narrow", true)
		t.Skip("the race detector's own mappings are larger than any limit")
	}
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	w := start(t, r, "narrow")
	t.Log(w.hear())
	require.NoError(t, w.wait())
	require.Len(t, ringtest.Poll(t, ringtest.Consume(t, r), 2), 1)
}
