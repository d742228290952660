package ring_test

import (
	"context"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a review broke and what was mended then, that has no better place.

func next(ring.Frame) ring.Action { return ring.Continue }

// through sends n messages and takes them out: everything is in order again.
func through(t *testing.T, p *ring.Producer, c *ring.Consumer, n uint64) {
	t.Helper()
	for i := range n {
		require.NoError(t, p.TrySend(nil, i))
		got := ringtest.Poll(t, c, 9)
		require.Len(t, got, 1)
		require.Equal(t, i, got[0].Meta)
	}
}

// idle waits where there is nothing, for a few naps, and says what Wait found.
func idle(c *ring.Consumer) error {
	return c.WaitUntil(context.Background(), shm.Now()+int64(5*time.Millisecond))
}

// found waits for what Wait will find sooner or later.
func found(c *ring.Consumer) error {
	return c.WaitUntil(context.Background(), shm.Now()+int64(10*time.Second))
}

// One Resync is enough also where the word in front is of a lap that far to
// come that its doorbell half looks right.
func TestResyncOnceBehindANewerLap(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		for _, ahead := range []uint64{1, 1 << 30, 1 << 33} {
			r := ringtest.New(t, kind, ringtest.Tiny)
			p, c := ringtest.Producer(t, r), ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift))
			through(t, p, c, 10)
			r.SetWord(10, ring.MakeHeader(ring.Commit, r.TagAt(10)+ahead, 0, 1))
			_, err := c.Poll(9, next)
			require.ErrorIs(t, err, ring.ErrCorrupt)
			_, err = c.Resync()
			require.NoError(t, err)
			require.ErrorIs(t, idle(c), os.ErrDeadlineExceeded)
			through(t, p, c, 2100)
		}
	})
}

// A claim that Resync gives up is taken away from its holder.
func TestResyncFencesWhatItGivesUp(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
		claim, err := p.TryClaim(100, 1)
		require.NoError(t, err)
		require.NoError(t, p.TrySend(nil, 2))
		require.Empty(t, ringtest.Poll(t, c, 9))
		skipped, err := c.Resync()
		require.NoError(t, err)
		assert.EqualValues(t, 2, skipped)
		assert.ErrorIs(t, claim.Commit(), ring.ErrFenced)
		require.Len(t, ringtest.Poll(t, c, 9), 1)
		through(t, p, c, 2100)
	})
}

// Where a record ahead of a free granule cannot be followed by another one, its
// producer goes no further, and the consumer sees nothing come. It is told by the
// hint, which the producer may have left behind, and nothing but the damage is lost.
func TestProducerTellsOfDamageAheadOfAGap(t *testing.T) {
	t.Cleanup(ring.SetNaps(time.Millisecond))
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		for name, ahead := range map[string]func(r *ring.Ring) uint64{
			"newer lap":    func(r *ring.Ring) uint64 { return ring.MakeHeader(ring.Busy, r.TagAt(13)+1, 0, 1) },
			"does not fit": func(r *ring.Ring) uint64 { return ring.MakeHeader(ring.Skip, r.TagAt(13), ring.OwnerNone, 0) },
		} {
			r := ringtest.New(t, kind, ringtest.Tiny)
			p, c := ringtest.Producer(t, r), ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift))
			through(t, p, c, 10)
			for i := range uint64(3) {
				require.NoError(t, p.TrySend(nil, 100+i))
			}
			r.SetWord(10, ring.MakeHeader(ring.Skip, r.TagAt(10)-1, ring.OwnerNone, 0))
			r.SetWord(13, ahead(r))
			require.LessOrEqual(t, r.HintAt(), uint64(10), "%s: the hint tells already", name)

			var got []uint64
			damages := 0
			for p.TrySend(nil, 7) != nil && damages < 3 {
				_, err := c.Poll(9, func(f ring.Frame) ring.Action {
					got = append(got, f.Meta)
					return ring.Continue
				})
				if err == nil {
					err = found(c)
				}
				require.ErrorIs(t, err, ring.ErrCorrupt, name)
				_, err = c.Resync()
				require.NoError(t, err)
				damages++
			}
			assert.Equal(t, []uint64{101, 102}, got, name)
			assert.Equal(t, 2, damages, name)
			require.Len(t, ringtest.Poll(t, c, 9), 1)
			through(t, p, c, 2100)
			require.NoError(t, r.Check())
		}
	})
}

// A hint or a head that was wrong for a moment is forgotten when it is put
// right, and a hint that stays wrong is found and put right by Resync.
func TestProducerRecoversWithTheSegment(t *testing.T) {
	t.Cleanup(ring.SetNaps(time.Millisecond))
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		for _, hint := range []uint64{5000, 1 << 40, 1<<63 + 100, ^uint64(0)} {
			for _, repair := range []bool{true, false} {
				r := ringtest.New(t, kind, ringtest.Tiny)
				p, c := ringtest.Producer(t, r), ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift))
				r.SetHint(hint)
				p.TrySend([]byte("x"), 0) // this one may be lost
				if repair {
					r.SetHint(0)
				}
				ringtest.Poll(t, c, 9)
				if !repair {
					require.ErrorIs(t, found(c), ring.ErrCorrupt, "hint %#x", hint)
					_, err := c.Resync()
					require.NoError(t, err)
				}
				require.ErrorIs(t, idle(c), os.ErrDeadlineExceeded, "hint %#x", hint)
				through(t, p, c, 2100)
				through(t, ringtest.Producer(t, r), c, 100)
			}
		}
	})
}

// A head that was wrong for a moment has had producers write where they must
// not. One Resync, and all is in order again.
func TestResyncAfterAWrongHead(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		p, c := ringtest.Producer(t, r), ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift))
		through(t, p, c, 1)
		fill(t, p)
		r.SetHead(1 << 40)
		require.NoError(t, p.TrySend(nil, 0))
		r.SetHead(1)
		for range 2000 { // it does not know yet
			p.TrySend(nil, 0)
		}
		_, err := c.Poll(2000, next)
		require.ErrorIs(t, err, ring.ErrCorrupt)
		_, err = c.Resync()
		require.NoError(t, err)
		require.Empty(t, ringtest.Poll(t, c, 2000))
		through(t, p, c, 2100)
		through(t, ringtest.Producer(t, r), c, 100)
	})
}

// Commit and Close at once: one of the two frees the slot.
func TestCloseBesideCommit(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	c := ringtest.Consume(t, r)
	for n := range 1000 {
		a, err := r.Attach()
		require.NoError(t, err)
		require.Zero(t, a.Slot(), "the slot was not freed in round %d", n)
		claim, err := a.NewProducer().TryClaim(8, 0)
		require.NoError(t, err)
		var ready atomic.Int32
		meet := func(pause int) {
			ready.Add(1)
			for i := 0; ready.Load() != 2 && i < 1e5; i++ {
				shm.Pause(1)
			}
			shm.Pause(pause)
		}
		closed := make(chan error, 1)
		go func() {
			meet(n % 16)
			closed <- a.Close()
		}()
		meet(n / 16 % 16)
		if err := claim.Commit(); err != nil {
			require.ErrorIs(t, err, os.ErrClosed)
		}
		require.NoError(t, <-closed)
		_, err = c.Poll(9, next)
		require.NoError(t, err)
	}
}

// After Close of everything the segment is unmapped. Whatever is called then
// says so.
func TestUseAfterClose(t *testing.T) {
	ctx := context.Background()
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.NewUnchecked(t, kind, ringtest.Tiny)
		a, c := ringtest.Attach(t, r), ringtest.Consume(t, r, ring.WithManualRelease())
		p := a.NewProducer()
		through(t, p, c, 3)
		require.NoError(t, c.Close())
		require.NoError(t, a.Close())
		require.NoError(t, r.Close())
		late := a.NewProducer()
		for name, use := range map[string]func() error{
			"Producer.Close": p.Close,
			"TrySend":        func() error { return p.TrySend(nil, 0) },
			"Send":           func() error { return late.Send(ctx, nil, 0) },
			"TryBatch":       func() error { return late.TryBatch([][]byte{nil}, nil) },
			"TryClaim":       func() error { _, err := p.TryClaim(1, 0); return err },
			"Claim":          func() error { _, err := late.Claim(ctx, 1, 0); return err },
			"WaitReleased":   func() error { return p.WaitReleased(ctx, 1000) },
			"AwaitRoom":      func() error { return late.AwaitRoom(ctx, 1, func() error { return ring.ErrFull }) },
			"Poll":           func() error { _, err := c.Poll(1, next); return err },
			"Wait":           func() error { return c.Wait(ctx) },
			"Resync":         func() error { _, err := c.Resync(); return err },
			"SlotAlive":      func() error { _, err := c.SlotAlive(0); return err },
			"Release":        func() error { return c.Release(3) },
			"Check":          r.Check,
			"Frontier":       func() error { _, err := r.Frontier(); return err },
			"Stats":          func() error { _, err := r.Stats(); return err },
			"Attach":         func() error { _, err := r.Attach(); return err },
			"Consume":        func() error { _, err := r.Consume(); return err },
		} {
			assert.ErrorIs(t, use(), os.ErrClosed, name)
		}
		assert.Zero(t, r.Head())
		assert.Zero(t, r.SlotInfo(0))
	})
}

// Who waits for room when the attachment is closed leaves, before the segment
// that it sleeps on is unmapped.
func TestCloseUnderAWaiter(t *testing.T) {
	ctx := ringtest.Context(t)
	for name, wait := range map[string]func(p *ring.Producer) error{
		"Send":         func(p *ring.Producer) error { return p.Send(ctx, nil, 0) },
		"WaitReleased": func(p *ring.Producer) error { return p.WaitReleased(ctx, 1<<40) },
		"AwaitRoom": func(p *ring.Producer) error {
			return p.AwaitRoom(ctx, 1, func() error { return ring.ErrFull })
		},
	} {
		for _, kind := range []shm.Kind{shm.Memfd, shm.Named} {
			t.Run(name+" "+kind.String(), func(t *testing.T) {
				r := ringtest.New(t, kind, ringtest.Tiny)
				ringtest.Consume(t, r)
				file, err := r.File()
				require.NoError(t, err)
				defer file.Close()
				other, err := ring.OpenFile(file) // a mapping of its own
				require.NoError(t, err)
				a, err := other.Attach()
				require.NoError(t, err)
				p := a.NewProducer()
				fill(t, p)
				left := make(chan error, 1)
				go func() { left <- wait(p) }()
				ringtest.Until(t, "it waits", func() bool { return r.RoomWaiters() == 1 })
				require.NoError(t, other.Close())
				require.NoError(t, a.Close())
				require.ErrorIs(t, <-left, os.ErrClosed)
				require.ErrorIs(t, a.Close(), os.ErrClosed)
				again := ringtest.Attach(t, r)
				assert.Equal(t, a.Slot(), again.Slot(), "the slot is free")
			})
		}
	}
}

// The methods that any goroutine may call, beside the consumer's Close.
func TestConsumerCloseBesideOthers(t *testing.T) {
	for range 20 {
		r, err := ring.New(ringtest.Tiny)
		require.NoError(t, err)
		c, err := r.Consume(ring.WithManualRelease())
		require.NoError(t, err)
		require.NoError(t, r.Close())
		begun, ended := make(chan bool, 2), make(chan error, 2)
		for _, use := range []func() error{
			func() error { _, err := c.SlotAlive(0); return err },
			func() error { return c.Release(0) },
		} {
			go func() {
				err := use()
				for begun <- true; err == nil; runtime.Gosched() {
					err = use()
				}
				ended <- err
			}()
		}
		<-begun
		<-begun
		require.NoError(t, c.Close())
		require.ErrorIs(t, <-ended, os.ErrClosed)
		require.ErrorIs(t, <-ended, os.ErrClosed)
	}
}

// A meta function that panics leaves no claim in everybody's way.
func TestBatchMetaPanics(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
		calls := 0
		require.PanicsWithValue(t, "meta", func() {
			p.TryBatch([][]byte{{1}, {2}}, func(int) uint64 {
				if calls++; calls == 4 { // the checks ask too
					panic("meta")
				}
				return 0
			})
		})
		require.Empty(t, ringtest.Poll(t, c, 9))
		assert.EqualValues(t, 1, c.Stats().SkippedAborted, "before it sends again")
		through(t, p, c, 100)
	})
}

// On a file that was cut off behind its table the sends fault half-way: they
// give back what they claimed.
func TestTruncationGivesClaimsBack(t *testing.T) {
	needFaults(t)
	for name, send := range map[string]func(p *ring.Producer) error{
		"TrySend":  func(p *ring.Producer) error { return p.TrySend([]byte("x"), 0) },
		"Send":     func(p *ring.Producer) error { return p.Send(context.Background(), []byte("x"), 0) },
		"TryBatch": func(p *ring.Producer) error { return p.TryBatch([][]byte{{1}, {2}}, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			r := ringtest.NewUnchecked(t, shm.Named, ringtest.Tiny)
			p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
			data, _ := r.User()
			require.NoError(t, os.Truncate(r.Segment().Path(), data-r.Capacity()))
			require.ErrorIs(t, send(p), shm.ErrFault)
			require.Empty(t, ringtest.Poll(t, c, 9))
			assert.Equal(t, p.Position(), c.Position())
			assert.NotZero(t, c.Position())
		})
	}
	t.Run("Commit", func(t *testing.T) { // the table's second page is gone
		r := ringtest.NewUnchecked(t, shm.Named, ringtest.Tiny)
		a, err := r.Attach()
		require.NoError(t, err)
		r.StartAt(250)
		claim, err := a.NewProducer().TryClaim(20*ring.Granule, 0)
		require.NoError(t, err)
		require.NoError(t, os.Truncate(r.Segment().Path(), ring.TableAt+4096))
		require.ErrorIs(t, claim.CommitN(7*ring.Granule), shm.ErrFault)
		assert.Equal(t, ring.Skip, ring.StateOf(r.WordAt(250)))
		require.ErrorIs(t, a.Close(), shm.ErrFault)
	})
}

// What cannot return an error returns nothing where the file is cut off.
func TestTruncationUnderFigures(t *testing.T) {
	needFaults(t)
	r := ringtest.NewUnchecked(t, shm.Named, ringtest.Tiny)
	r.StartAt(100)
	require.NoError(t, os.Truncate(r.Segment().Path(), 4096))
	assert.Zero(t, r.Head())
	assert.Zero(t, r.SlotInfo(0))
}

// Poll counts what it consumed also where a fault ends it: the message that
// the handler faulted on is consumed, as with a panic.
func TestPollCountsUpToAFault(t *testing.T) {
	needFaults(t)
	r := ringtest.NewUnchecked(t, shm.Named, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	for range 5 {
		require.NoError(t, p.TrySend(message(4096, 1), 0))
	}
	data, _ := r.User()
	require.NoError(t, os.Truncate(r.Segment().Path(), data-r.Capacity()+2*4096))
	whole := 0
	n, err := c.Poll(9, func(f ring.Frame) ring.Action {
		require.Equal(t, message(4096, 1), append([]byte{}, f.Data...))
		whole++
		return ring.Continue
	})
	require.ErrorIs(t, err, shm.ErrFault)
	assert.Equal(t, 2, whole)
	assert.Equal(t, 3, n)
	assert.EqualValues(t, 3*64, c.Position())
	assert.EqualValues(t, 3, c.Stats().Messages)
}

// Check looks at the turn once: it is not wrong because it changes.
func TestCheckBesideTheTurn(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	var stop atomic.Bool
	stopped := make(chan bool)
	go func() {
		defer close(stopped)
		for !stop.Load() {
			r.SetTurn(1 | 1<<8)
			r.SetTurn(0)
		}
	}()
	defer func() {
		stop.Store(true)
		<-stopped
	}()
	for range 20000 {
		ringtest.MustCheck(t, r)
	}
}

// A turn of a dead process, or of nobody, is taken away by those that wait,
// also where every sleep of theirs is ended by a wake.
func TestTurnOfTheDead(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		for name, turn := range map[string]uint64{"dead": 201 | 1<<8, "garbage": 5 << 8} {
			for _, woken := range []bool{true, false} {
				defer ring.SetNaps(time.Millisecond)()
				r := ringtest.New(t, kind, ringtest.Tiny)
				a, c := ringtest.Attach(t, r), ringtest.Consume(t, r)
				p, busy := a.NewProducer(), a.NewProducer()
				r.SetTurn(turn)
				err := p.AwaitRoom(ringtest.Context(t), 1, func() error {
					if r.TurnAt() != turn {
						return nil
					}
					if woken { // between the waiter's look and its sleep
						require.NoError(t, busy.TrySend(nil, 0))
						ringtest.Poll(t, c, 9)
					}
					return ring.ErrFull
				})
				require.NoError(t, err, "%s, woken: %v", name, woken)
				require.Zero(t, r.TurnAt())
			}
		}
	})
}

// A Poll goes round the ring once at most, also where there is always another
// record to step over.
func TestPollIsBounded(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		const slot = 200 // of nobody: the consumer finds it dead
		plant := func(pos uint64) { r.SetWord(pos, ring.MakeHeader(ring.Busy, r.TagAt(pos), slot, 1)) }
		skipped := 0
		c := ringtest.Consume(t, r, ring.WithOnSkip(func(e ring.SkipEvent) {
			if skipped++; skipped < 4*1024 {
				plant(e.Position + 1)
			}
		}))
		plant(0)
		most := 0
		ringtest.Until(t, "all are skipped", func() bool {
			before := skipped
			require.Empty(t, ringtest.Poll(t, c, 1))
			most = max(most, skipped-before)
			return skipped == 4*1024
		})
		assert.LessOrEqual(t, most, 1024+1)
		r.SetHint(c.Position())
	})
}

// Release takes positions after a Poll, not those in the middle of one, and
// goes by what was released, whatever head says.
func TestReleaseOfTheFrameInHand(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		p, c := ringtest.Producer(t, r), ringtest.Consume(t, r, ring.WithManualRelease())
		for i := range uint64(2) {
			require.NoError(t, p.TrySend(nil, i))
		}
		n, err := c.Poll(9, func(f ring.Frame) ring.Action {
			assert.Equal(t, ring.ErrRelease, c.Release(f.Position+1))
			assert.Equal(t, ring.ErrRelease, c.Release(c.Position()))
			assert.NoError(t, c.Release(0))
			return ring.Leave
		})
		require.NoError(t, err)
		require.Zero(t, n)
		require.Zero(t, r.Head())
		require.Len(t, ringtest.Poll(t, c, 1), 1)
		r.SetHead(5000)
		require.NoError(t, c.Release(1))
		require.EqualValues(t, 1, r.Head())
		require.Equal(t, ring.ErrRelease, c.Release(0))
		require.Equal(t, ring.ErrRelease, c.Release(2))
	})
}

// There are slots from 0 to MaxSlots-1; the consumer's lock is not one.
func TestSlotNumbers(t *testing.T) {
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	c := ringtest.Consume(t, r)
	for _, slot := range []int{-1, ring.MaxSlots, ring.MaxSlots + 1, 1 << 40} {
		held, err := c.SlotAlive(slot)
		assert.Error(t, err)
		assert.False(t, held)
		assert.Zero(t, r.SlotInfo(slot))
	}
	held, err := c.SlotAlive(ring.MaxSlots - 1)
	assert.NoError(t, err)
	assert.False(t, held)
}

// A producer that was closed sends no more; its claims live on, its figures
// are kept, and the others are not disturbed.
func TestProducerClose(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		a, c := ringtest.Attach(t, r), ringtest.Consume(t, r)
		p, other := a.NewProducer(), a.NewProducer()
		through(t, p, c, 5)
		claim, err := p.TryClaim(3, 7)
		require.NoError(t, err)
		require.NoError(t, p.Close())
		assert.EqualValues(t, 5, r.SlotInfo(a.Slot()).Records)
		assert.ErrorIs(t, p.Close(), os.ErrClosed)
		assert.ErrorIs(t, p.TrySend(nil, 0), os.ErrClosed)
		assert.ErrorIs(t, p.Send(context.Background(), nil, 0), os.ErrClosed)
		assert.ErrorIs(t, p.TryBatch([][]byte{nil}, nil), os.ErrClosed)
		assert.ErrorIs(t, p.WaitReleased(context.Background(), 100), os.ErrClosed)
		_, err = p.TryClaim(1, 0)
		assert.ErrorIs(t, err, os.ErrClosed)
		copy(claim.Bytes(), "abc")
		require.NoError(t, claim.Commit())
		got := ringtest.Poll(t, c, 9)
		require.Len(t, got, 1)
		assert.Equal(t, "abc", string(got[0].Data))
		through(t, other, c, 5)

		last, err := other.TryClaim(1, 0)
		require.NoError(t, err)
		require.NoError(t, other.Close())
		require.NoError(t, a.Close())
		held, err := c.SlotAlive(a.Slot())
		require.NoError(t, err)
		require.True(t, held, "the slot stays taken while a claim is open")
		require.ErrorIs(t, last.Commit(), os.ErrClosed)
		held, err = c.SlotAlive(a.Slot())
		require.NoError(t, err)
		require.False(t, held)
	})
}

// A producer that is closed while a claim of it is open leaves the attachment's books when that ends.
func TestProducerClosedWithAClaim(t *testing.T) {
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	a := ringtest.Attach(t, r)
	for _, end := range []func(ring.Claim) error{ring.Claim.Commit, func(c ring.Claim) error { c.Abort(); return nil }} {
		p := a.NewProducer()
		c, err := p.TryClaim(10, 0)
		require.NoError(t, err)
		require.NoError(t, p.Close())
		require.Equal(t, 1, a.Books())
		require.NoError(t, end(c))
		require.Zero(t, a.Books())
		require.Equal(t, os.ErrClosed, p.TrySend(nil, 0))
	}
	require.EqualValues(t, 1, r.SlotInfo(a.Slot()).Records)
}

func TestNoSuchSlot(t *testing.T) {
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	c := ringtest.Consume(t, r)
	for _, slot := range []int{-1, ring.MaxSlots, ring.MaxSlots + 1} {
		_, err := r.SlotHeld(slot)
		require.ErrorIs(t, err, ring.ErrNoSlot)
		_, err = c.SlotAlive(slot)
		require.ErrorIs(t, err, ring.ErrNoSlot)
	}
	for _, w := range []ring.Waiting{-1, ring.Thrift + 1} {
		_, err := r.Consume(ring.WithWaiting(w))
		require.ErrorIs(t, err, ring.ErrWaiting, "before the seat is asked for")
	}
}
