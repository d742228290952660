package ring_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const maxMeta = 1<<ring.MetaBits - 1

// message is n bytes that depend on key.
func message(n int, key uint64) []byte {
	b := make([]byte, n)
	ringtest.Fill(b, uint32(key>>16), key)
	return b
}

func TestSizes(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		a := ringtest.Attach(t, r)
		p, c := a.NewProducer(), ringtest.Consume(t, r)
		require.Equal(t, 8192, r.MaxFrame())
		var expect uint64
		for i, n := range []int{0, 1, 63, 64, 65, 127, 128, 129, r.MaxFrame() - 1, r.MaxFrame()} {
			meta := uint64(maxMeta - i)
			sent := message(n, uint64(i))
			require.NoError(t, p.TrySend(sent, meta))
			got := ringtest.Poll(t, c, 10)
			require.Equal(t, []ringtest.Message{{Data: sent, Meta: meta, Slot: a.Slot(), Position: expect}}, got, "%d bytes", n)
			expect += max(1, uint64(n+63)/64)
			assert.Equal(t, expect, p.Position())
			assert.Equal(t, expect, c.Position())
			assert.Equal(t, expect, r.Head())
		}
		assert.ErrorIs(t, p.TrySend(make([]byte, r.MaxFrame()+1), 0), ring.ErrTooLarge)
		assert.ErrorIs(t, p.Send(context.Background(), make([]byte, r.MaxFrame()+1), 0), ring.ErrTooLarge)
		assert.ErrorIs(t, p.TrySend(nil, maxMeta+1), ring.ErrMeta)
		assert.Empty(t, ringtest.Poll(t, c, 10), "a refused message left something")
		assert.Equal(t, expect, r.Head())
		require.NoError(t, p.TrySend(nil, 3))
		got := ringtest.Poll(t, c, 10)
		require.Len(t, got, 1)
		assert.NotNil(t, got[0].Data, "no bytes are a message too")
	})
}

// A record that does not fit before the end of the lap is preceded by a pad:
//
//	0                 1021   1024
//	| ... consumed ... | pad  | 5 granules ...
func TestWrapWithPad(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		r.StartAt(1021)
		p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
		sent := message(5*64, 1)
		require.NoError(t, p.TrySend(sent, 1))
		pad := r.WordAt(1021)
		assert.Equal(t, ring.MakeHeader(ring.Skip, r.TagAt(1021), ring.OwnerNone, 3), pad)
		ringtest.MustCheck(t, r)
		got := ringtest.Poll(t, c, 1)
		require.Len(t, got, 1)
		assert.Equal(t, sent, got[0].Data)
		assert.EqualValues(t, 1024, got[0].Position)
		assert.EqualValues(t, 1, c.Stats().Pads)
		assert.EqualValues(t, 1029, r.Head())
	})
}

// What fits exactly needs no pad.
func TestWrapWithoutPad(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	r.StartAt(1019)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	require.NoError(t, p.TrySend(message(5*64, 1), 0))
	require.NoError(t, p.TrySend(message(64, 2), 0))
	got := ringtest.Poll(t, c, 9)
	require.Len(t, got, 2)
	assert.EqualValues(t, 1024, got[1].Position)
	assert.Zero(t, c.Stats().Pads)
}

// The pad fits and the record behind it does not: the ring is full, the pad
// stands, and goes the way of all records.
//
//	head                        1020  1024 = 0
//	4 | ... 1016 granules ...    | pad  | 4 free
func TestPadWithNoRoomBehind(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		r.StartAt(4)
		p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
		for range 127 { // 1016 granules
			require.NoError(t, p.TrySend(message(8*64, 1), 0))
		}
		require.EqualValues(t, 1020, p.Position())
		for range 3 {
			require.ErrorIs(t, p.TrySend(message(5*64, 2), 0), ring.ErrFull)
			ringtest.MustCheck(t, r)
		}
		assert.Equal(t, ring.MakeHeader(ring.Skip, r.TagAt(1020), ring.OwnerNone, 4), r.WordAt(1020))
		require.NoError(t, p.TrySend(message(4*64, 3), 0), "what is left is still of use")
		require.ErrorIs(t, p.TrySend(nil, 0), ring.ErrFull)
		require.Len(t, ringtest.Poll(t, c, 1), 1)
		require.NoError(t, p.TrySend(message(5*64, 4), 0))
		assert.Len(t, ringtest.Poll(t, c, 1000), 128)
		assert.EqualValues(t, 1, c.Stats().Pads)
	})
}

// No room even for the pad.
func TestNoRoomForPad(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	r.StartAt(1022)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	require.NoError(t, p.TrySend(nil, 0)) // 1022
	require.NoError(t, p.TrySend(nil, 0)) // 1023
	for range 127 {
		require.NoError(t, p.TrySend(message(8*64, 1), 0))
	}
	// 1016 … 1022 are free, six granules; the lap ends behind eight.
	require.ErrorIs(t, p.TrySend(message(9*64, 2), 0), ring.ErrFull)
	assert.NotEqual(t, r.TagAt(2040), r.WordAt(2040)>>2&(1<<ring.TagBits-1), "a pad was put where there is no room")
	assert.Len(t, ringtest.Poll(t, c, 1000), 129)
	require.NoError(t, p.TrySend(message(9*64, 2), 0))
	assert.Len(t, ringtest.Poll(t, c, 1000), 1)
}

func TestFull(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
		for lap := range 3 {
			for i := range 8 {
				require.NoError(t, p.TrySend(message(r.MaxFrame(), uint64(lap*8+i)), 0))
			}
			require.ErrorIs(t, p.TrySend(nil, 0), ring.ErrFull)
			require.ErrorIs(t, p.TryBatch([][]byte{{1}, {2}}, nil), ring.ErrFull)
			_, err := p.TryClaim(1, 0)
			require.ErrorIs(t, err, ring.ErrFull)
			ringtest.MustCheck(t, r)
			s, err := r.Stats()
			require.NoError(t, err)
			assert.Equal(t, r.Capacity(), s.Used)
			got := ringtest.Poll(t, c, 9)
			require.Len(t, got, 8)
			for i, m := range got {
				require.Equal(t, message(r.MaxFrame(), uint64(lap*8+i)), m.Data)
			}
		}
	})
}

func TestCapacities(t *testing.T) {
	for _, row := range []struct {
		capacity int64
		err      error
	}{
		{-1, ring.ErrCapacityTooSmall},
		{1, ring.ErrCapacityTooSmall},
		{ring.MinCapacity / 2, ring.ErrCapacityTooSmall},
		{ring.MinCapacity - 1, ring.ErrCapacityTooSmall},
		{ring.MinCapacity + 1, ring.ErrCapacityNotPower},
		{3 * ring.MinCapacity, ring.ErrCapacityNotPower},
		{ring.MaxCapacity + 1, ring.ErrCapacityTooLarge},
		{2 * ring.MaxCapacity, ring.ErrCapacityTooLarge},
		{1 << 62, ring.ErrCapacityTooLarge},
	} {
		_, err := ring.NewHeap(ring.Options{Capacity: row.capacity})
		assert.ErrorIs(t, err, row.err, "%d", row.capacity)
		assert.ErrorIs(t, err, ring.ErrCapacity)
		_, err = ring.New(ring.Options{Capacity: row.capacity})
		assert.ErrorIs(t, err, row.err)
		path := ringtest.Path(t)
		_, err = ring.Create(path, ring.Options{Capacity: row.capacity})
		assert.ErrorIs(t, err, row.err)
		assert.NoFileExists(t, path)
		_, _, err = ring.SegmentSize(ring.Options{Capacity: row.capacity})
		assert.ErrorIs(t, err, row.err)
	}
	for _, user := range []int64{-1, 1<<40 + 1} {
		_, err := ring.New(ring.Options{UserSize: user})
		assert.ErrorIs(t, err, ring.ErrUserSize)
	}
	o := ring.Options{UserSize: 5000}
	r := ringtest.New(t, shm.Heap, o)
	assert.EqualValues(t, ring.DefaultCapacity, r.Capacity())
	assert.Equal(t, ring.DefaultCapacity/8, r.MaxFrame())
	off, size := r.User()
	assert.EqualValues(t, 8192, size)
	total, reserve, err := ring.SegmentSize(o)
	require.NoError(t, err)
	assert.Equal(t, off, reserve)
	assert.Equal(t, r.Segment().Size(), total)
	assert.LessOrEqual(t, off+size, total)
}

// The largest ring, without memory behind it but where it is used.
func TestLargestRing(t *testing.T) {
	o := ring.Options{Capacity: ring.MaxCapacity}
	total, _, err := ring.SegmentSize(o)
	require.NoError(t, err)
	seg, err := shm.NewMemfd("shmrouter", total, 0)
	require.NoError(t, err)
	defer seg.Close()
	r, err := ring.Format(seg, o)
	require.NoError(t, err)
	defer r.Close()
	assert.Equal(t, ring.MaxRecord*ring.Granule, r.MaxFrame(), "an eighth would be more than a header can say")

	const last = ring.MaxCapacity / ring.Granule
	r.SetHead(last - 2)
	r.SetHint(last - 2)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	require.NoError(t, p.TrySend([]byte("at the end"), 1))
	require.NoError(t, p.TrySend(bytes.Repeat([]byte{7}, r.MaxFrame()), 2))
	require.ErrorIs(t, p.TrySend(make([]byte, r.MaxFrame()+1), 0), ring.ErrTooLarge)
	var sizes []int
	n, err := c.Poll(5, func(f ring.Frame) ring.Action {
		sizes = append(sizes, len(f.Data))
		assert.EqualValues(t, len(sizes), f.Meta)
		if len(f.Data) > 100 {
			assert.EqualValues(t, last, f.Position)
			assert.EqualValues(t, 7, f.Data[len(f.Data)-1])
		}
		return ring.Continue
	})
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	assert.Equal(t, []int{10, 16 << 20}, sizes)
}

// Traffic from positions at which some field of some word begins again.
func TestStartingPositions(t *testing.T) {
	const h = ring.MinCapacity / ring.Granule
	for name, pos := range map[string]uint64{
		"zero":                       0,
		"end of the first lap":       h - 3,
		"sleep word's position":      1<<28 - 5,
		"half of that":               1<<27 - 5,
		"32 bits":                    1<<32 - 7,
		"low half of the tag":        (1<<30-1)*h - 3,
		"scrub lap":                  ring.ScrubLap*h - 3,
		"behind the scrub lap":       (ring.ScrubLap+1)*h - 3,
		"tag's half":                 (1<<34-1)*h - 3,
		"tag begins again":           (1<<35-1)*h - 3,
		"tag of the unwritten":       (1<<35)*h - 3,
		"48 bits":                    1<<48 - 3,
		"last lap of the scrubbings": (7<<32+ring.ScrubLap)*h - 3,
	} {
		t.Run(name, func(t *testing.T) {
			r := ringtest.New(t, shm.Heap, ringtest.Tiny)
			require.EqualValues(t, h, r.Granules())
			r.StartAt(pos)
			ringtest.MustCheck(t, r)
			random := ringtest.Random(t)
			p, c := ringtest.Producer(t, r), ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift))
			q := ringtest.Producer(t, r)
			require.Empty(t, ringtest.Poll(t, c, 10))
			var queue []ringtest.Message
			for number := uint64(0); r.Head() < pos+3*h+h/2; number++ {
				from := p
				if random.IntN(2) == 0 {
					from = q
				}
				if random.IntN(20) == 0 {
					from.Forget()
				}
				sent := message(random.IntN(2000), number)
				take := func() {
					for _, m := range ringtest.Poll(t, c, 1+random.IntN(100)) {
						require.Equal(t, queue[0].Data, m.Data)
						require.Equal(t, queue[0].Meta, m.Meta)
						queue = queue[1:]
					}
				}
				err := from.TrySend(sent, number)
				for ; err == ring.ErrFull; err = from.TrySend(sent, number) {
					take()
				}
				require.NoError(t, err)
				queue = append(queue, ringtest.Message{Data: sent, Meta: number})
				if random.IntN(30) == 0 {
					take()
				}
				if random.IntN(50) == 0 {
					ringtest.MustCheck(t, r)
				}
			}
			for _, m := range ringtest.Poll(t, c, 1<<20) {
				require.Equal(t, queue[0].Data, m.Data)
				queue = queue[1:]
			}
			require.Empty(t, queue)
			end, err := r.Frontier()
			require.NoError(t, err)
			assert.Equal(t, r.Head(), end)
		})
	}
}

// Words that no record starts at keep their tags, and would look new after
// 2³⁴ laps. The lap before that renews them.
func TestScrub(t *testing.T) {
	const h = ring.MinCapacity / ring.Granule
	const first = ring.ScrubLap * h
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	r.StartAt(first)
	const old = 1<<(ring.TagBits-1) - 1 // laps ago; two more and it looks new
	for pos := uint64(first); pos < first+h; pos++ {
		if pos%4 != 0 { // first + h, … + 3h: inner words
			r.SetWord(pos, ring.MakeHeader(ring.Commit, r.TagAt(pos)-old, 3, 2))
		} else {
			r.SetWord(pos, ring.MakeHeader(ring.Skip, r.TagAt(pos)-1, 3, 4)) // the lap before
		}
	}
	ringtest.MustCheck(t, r)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	for lap := range uint64(5) {
		for i := range uint64(h / 4) {
			require.NoError(t, p.TrySend(message(4*64, i), lap))
			require.Len(t, ringtest.Poll(t, c, 2), 1, "lap %d, record %d", lap, i)
		}
		if lap == 0 {
			for pos := uint64(first); pos < first+h; pos++ {
				age := ring.AgeOf(r.WordAt(pos), r.TagAt(pos))
				require.True(t, age == 0 || age == -1, "word at %d is %d laps old", pos, -age)
			}
		}
		ringtest.MustCheck(t, r)
	}
}

// A producer whose search starts a lap behind the scrubbed words finds records
// that are no more; that is no damage.
func TestScrubbedWordsUnderAStaleHint(t *testing.T) {
	const h = ring.MinCapacity / ring.Granule
	const first = ring.ScrubLap * h
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	r.StartAt(first)
	a := ringtest.Attach(t, r)
	c := ringtest.Consume(t, r)
	early := a.NewProducer() // knows of head as it is now
	p := a.NewProducer()
	for i := range uint64(h / 8) { // half of the lap
		require.NoError(t, p.TrySend(message(4*64, i), 0))
		require.Len(t, ringtest.Poll(t, c, 2), 1)
	}
	early.Forget()
	r.SetHint(first - h + 1) // a store that came late: a record's start, a lap ago
	require.NoError(t, early.TrySend([]byte("late"), 0))
	r.SetHint(first - h + 1)
	end, err := r.Frontier()
	require.NoError(t, err)
	assert.Equal(t, early.Position(), end)
	assert.Len(t, ringtest.Poll(t, c, 2), 1)
}

// The hint may lag by any amount, also behind head.
func TestStaleHint(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	for i := range uint64(5000) {
		p.Forget()
		r.SetHint(0)
		require.NoError(t, p.TrySend(message(int(i%300), i), i))
		got := ringtest.Poll(t, c, 2)
		require.Len(t, got, 1)
		require.Equal(t, i, got[0].Meta)
	}
}

func TestClosedAttachment(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		a, err := r.Attach()
		require.NoError(t, err)
		p := a.NewProducer()
		require.NoError(t, p.TrySend([]byte("before"), 0))
		require.NoError(t, a.Close())
		assert.ErrorIs(t, a.Close(), os.ErrClosed)
		assert.ErrorIs(t, p.TrySend(nil, 0), os.ErrClosed)
		assert.ErrorIs(t, p.Send(context.Background(), nil, 0), os.ErrClosed)
		assert.ErrorIs(t, p.TryBatch([][]byte{nil}, nil), os.ErrClosed)
		_, err = p.TryClaim(0, 0)
		assert.ErrorIs(t, err, os.ErrClosed)
		c := ringtest.Consume(t, r)
		assert.Len(t, ringtest.Poll(t, c, 9), 1, "what was committed stays")
	})
}

func TestClosedRing(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.NewUnchecked(t, kind, ringtest.Tiny)
		p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
		require.NoError(t, r.Close())
		require.NoError(t, r.Close(), "twice")
		_, err := r.Attach()
		assert.ErrorIs(t, err, os.ErrClosed)
		_, err = r.Consume()
		assert.ErrorIs(t, err, os.ErrClosed)
		require.NoError(t, p.TrySend([]byte("x"), 0), "parties have references of their own")
		assert.Len(t, ringtest.Poll(t, c, 9), 1)
	})
}

func TestStats(t *testing.T) {
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	s, err := r.Stats()
	require.NoError(t, err)
	assert.Equal(t, ring.Stats{Capacity: ring.MinCapacity, Turn: -1, PageSize: os.Getpagesize()}, s)
	a := ringtest.Attach(t, r)
	p, c := a.NewProducer(), ringtest.Consume(t, r)
	for i := range 300 {
		require.NoError(t, p.TrySend(make([]byte, 10), uint64(i)))
	}
	claim, err := p.TryClaim(100, 0)
	require.NoError(t, err)
	claim.Abort()
	require.NoError(t, p.TryBatch([][]byte{{1}, {2, 3}}, nil))
	require.Len(t, ringtest.Poll(t, c, 1000), 302)
	require.Equal(t, ring.ConsumerStats{Records: 301, Messages: 302, Bytes: 3003, SkippedAborted: 1}, c.Stats())
	require.NoError(t, c.Close())
	require.NoError(t, a.Close())
	s, err = r.Stats()
	require.NoError(t, err)
	assert.Equal(t, ring.ConsumerStats{Records: 301, Messages: 302, Bytes: 3003, SkippedAborted: 1}, s.Consumer)
	assert.EqualValues(t, 1, s.Consumers)
	assert.Zero(t, s.PID)
	require.Len(t, s.Slots, 1)
	assert.Equal(t, "301 3003 0 1", fmt.Sprint(s.Slots[0].Records, s.Slots[0].Bytes, s.Slots[0].PID, s.Slots[0].Instance))
}

// The figures of one who sends little are published while others send much, and where the consumer sleeps between its
// messages.
func TestStatsOfASlowSender(t *testing.T) {
	records := func(r *ring.Ring, slot int) uint64 {
		s, err := r.Stats()
		require.NoError(t, err)
		return s.Slots[slot].Records
	}
	t.Run("beside a fast one", func(t *testing.T) {
		r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
		slow, fast := ringtest.Attach(t, r).NewProducer(), ringtest.Attach(t, r).NewProducer()
		c := ringtest.Consume(t, r)
		for n := range 10 {
			for range 256 {
				require.NoError(t, fast.TrySend(nil, 0))
				require.Len(t, ringtest.Poll(t, c, 1), 1)
			}
			require.NoError(t, slow.TrySend(nil, 0))
			require.Len(t, ringtest.Poll(t, c, 1), 1)
			require.EqualValues(t, n+1, records(r, 0))
		}
	})
	t.Run("with a consumer that sleeps", func(t *testing.T) {
		r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
		p := ringtest.Attach(t, r).NewProducer()
		c := ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift))
		for n := range 10 {
			woken := make(chan error)
			go func() { woken <- c.Wait(context.Background()) }()
			require.Eventually(t, func() bool {
				s, err := r.Stats()
				return err == nil && s.Sleeping
			}, 10*time.Second, time.Millisecond)
			require.NoError(t, p.TrySend(nil, 0))
			require.NoError(t, <-woken)
			require.Len(t, ringtest.Poll(t, c, 1), 1)
			require.EqualValues(t, n+1, records(r, 0))
		}
	})
}
