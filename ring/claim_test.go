package ring_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestClaim(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
		for i, n := range []int{0, 1, 63, 64, 65, 4096, r.MaxFrame()} {
			claim, err := p.TryClaim(n, 5)
			require.NoError(t, err)
			require.Len(t, claim.Bytes(), n)
			require.Equal(t, n, cap(claim.Bytes()))
			require.Equal(t, r.Head(), claim.Position())
			require.Empty(t, ringtest.Poll(t, c, 9), "visible before the commit")
			want := message(n, uint64(i))
			copy(claim.Bytes(), want)
			require.ErrorIs(t, claim.SetMeta(maxMeta+1), ring.ErrMeta)
			require.NoError(t, claim.SetMeta(uint64(i)))
			ringtest.MustCheck(t, r)
			require.NoError(t, claim.Commit())
			got := ringtest.Poll(t, c, 9)
			require.Len(t, got, 1)
			require.Equal(t, want, got[0].Data)
			require.EqualValues(t, i, got[0].Meta)
		}
		for _, n := range []int{-1, r.MaxFrame() + 1} {
			_, err := p.TryClaim(n, 0)
			assert.ErrorIs(t, err, ring.ErrTooLarge)
			_, err = p.Claim(context.Background(), n, 0)
			assert.ErrorIs(t, err, ring.ErrTooLarge)
		}
		_, err := p.TryClaim(0, maxMeta+1)
		assert.ErrorIs(t, err, ring.ErrMeta)
	})
}

// A claim that is committed shorter leaves the rest of its record void.
func TestCommitN(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
		for n := range 300 {
			claim, err := p.TryClaim(300, 0)
			require.NoError(t, err)
			require.ErrorIs(t, claim.CommitN(301), ring.ErrTooLarge)
			require.ErrorIs(t, claim.CommitN(-1), ring.ErrTooLarge)
			want := message(300, uint64(n))
			copy(claim.Bytes(), want)
			require.NoError(t, claim.CommitN(n))
			require.NoError(t, p.TrySend(nil, 1))
			ringtest.MustCheck(t, r)
			got := ringtest.Poll(t, c, 9)
			require.Len(t, got, 2)
			require.Equal(t, want[:n], got[0].Data)
			require.EqualValues(t, 1, got[1].Meta)
		}
	})
}

// Leave on the shortened record's message, which is its last.
func TestLeaveShortenedClaim(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	claim, err := p.TryClaim(300, 4)
	require.NoError(t, err)
	require.NoError(t, claim.CommitN(10))
	for range 2 {
		_, n := metas(t, c, 9, map[uint64]ring.Action{4: ring.Leave})
		assert.Zero(t, n)
		assert.Zero(t, r.Head())
	}
	_, n := metas(t, c, 9, nil)
	assert.Equal(t, 1, n)
	assert.EqualValues(t, 5, r.Head())
}

func TestClaimEndsOnce(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)

		committed, err := p.TryClaim(10, 1)
		require.NoError(t, err)
		twin := committed
		require.NoError(t, committed.Commit())
		aborted, err := p.TryClaim(10, 2)
		require.NoError(t, err)
		aborted.Abort()
		open, err := p.TryClaim(10, 3) // has the holder of the former ones
		require.NoError(t, err)

		for name, done := range map[string]ring.Claim{"committed": committed, "copy": twin, "aborted": aborted, "zero": {}} {
			assert.ErrorIs(t, done.Commit(), ring.ErrClaimDone, name)
			assert.ErrorIs(t, done.CommitN(1), ring.ErrClaimDone, name)
			assert.ErrorIs(t, done.SetMeta(1), ring.ErrClaimDone, name)
			assert.Nil(t, done.Bytes(), name)
			assert.Zero(t, done.Position(), name)
			done.Abort()
		}
		require.NoError(t, open.Commit(), "an ended claim ended another one")
		got := ringtest.Poll(t, c, 9)
		require.Len(t, got, 2)
		assert.EqualValues(t, 1, got[0].Meta)
		assert.EqualValues(t, 3, got[1].Meta)
		assert.EqualValues(t, 1, c.Stats().SkippedAborted)
	})
}

// Several claims of one producer are open at a time, and end in any order.
func TestSeveralClaims(t *testing.T) {
	r := ringtest.New(t, shm.Heap, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	var claims []ring.Claim
	for i := range uint64(5) {
		claim, err := p.TryClaim(100, i)
		require.NoError(t, err)
		claims = append(claims, claim)
	}
	require.NoError(t, claims[3].Commit())
	require.NoError(t, p.TrySend(nil, 5))
	claims[1].Abort()
	require.Empty(t, ringtest.Poll(t, c, 9), "behind a claim that is open")
	require.NoError(t, claims[0].Commit())
	require.NoError(t, claims[4].Commit())
	seen, _ := metas(t, c, 9, nil)
	require.Equal(t, []uint64{0}, seen)
	require.NoError(t, claims[2].Commit())
	seen, _ = metas(t, c, 9, nil)
	require.Equal(t, []uint64{2, 3, 4, 5}, seen)
}

// A claim that was taken away, as only damage does it, is not sent, whichever way commits are made.
func TestFencedClaim(t *testing.T) {
	eitherCommit(t, func(t *testing.T, by func(*ring.Ring)) {
		r := ringtest.New(t, shm.Heap, ringtest.Tiny)
		p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
		by(r)
		claim, err := p.TryClaim(10, 0)
		require.NoError(t, err)
		w := r.WordAt(0)
		r.SetWord(0, w&^3|uint64(ring.Skip))
		assert.ErrorIs(t, claim.Commit(), ring.ErrFenced)
		assert.ErrorIs(t, claim.Commit(), ring.ErrClaimDone)
		assert.Empty(t, ringtest.Poll(t, c, 9))
		require.NoError(t, p.TrySend(nil, 0))
		assert.Len(t, ringtest.Poll(t, c, 9), 1)
	})
}

// A send whose claim is taken away while its bytes are copied says so, also when it has sent before and has
// no cause to look at the claim itself. Here the owner lost its lock, alive.
func TestFencedSend(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2)) // with one the consumer would not come between: a copy is not preempted
	eitherCommit(t, func(t *testing.T, by func(*ring.Ring)) {
		r, err := ring.NewHeap(ring.Options{Capacity: 256 << 20})
		require.NoError(t, err)
		defer r.Close()
		a, c := ringtest.Attach(t, r), ringtest.Consume(t, r)
		by(r)
		p := a.NewProducer()
		require.NoError(t, p.TrySend(nil, 0))
		require.Len(t, ringtest.Poll(t, c, 9), 1)
		require.NoError(t, a.LoseLock())
		b := make([]byte, r.MaxFrame()) // the copy takes longer than the consumer waits before it asks
		fenced, done := false, make(chan struct{})
		go func() {
			defer close(done)
			for start := time.Now(); !fenced && time.Since(start) < ringtest.Patience; {
				err := p.TrySend(b, 0)
				if fenced = errors.Is(err, ring.ErrFenced); !fenced && err != nil && err != ring.ErrFull {
					t.Error(err)
					return
				}
			}
		}()
		for over := false; !over; {
			select {
			case <-done:
				over = true
			default: // faster than the copy, so that it stands before the claim
				_, err := c.Poll(9, func(ring.Frame) ring.Action { return ring.Continue })
				require.NoError(t, err)
			}
		}
		require.True(t, fenced, "%+v", c.Stats())
		require.Positive(t, c.Stats().SkippedDead)
	})
}

// eitherCommit runs a test with commits by a store, where there are such, and by a CAS.
func eitherCommit(t *testing.T, test func(t *testing.T, by func(*ring.Ring))) {
	<-shm.JoinBarriers()
	t.Run("store", func(t *testing.T) { test(t, func(r *ring.Ring) { r.SetBarriers(1) }) })
	t.Run("CAS", func(t *testing.T) { test(t, func(r *ring.Ring) { r.SetBarriers(0) }) })
}

// A claim whose owner lost its lock, alive, is skipped as a dead one's. Its commit says so, and leaves
// alone what stands in its place by then.
func TestClaimWithoutItsLock(t *testing.T) {
	eitherCommit(t, func(t *testing.T, by func(*ring.Ring)) {
		for _, laps := range []int{0, 1, 2} {
			r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
			a, p, c := ringtest.Attach(t, r), ringtest.Producer(t, r), ringtest.Consume(t, r)
			by(r)
			claim, err := a.NewProducer().TryClaim(10, 1)
			require.NoError(t, err)
			require.NoError(t, a.LoseLock())
			ringtest.Until(t, "the claim is skipped", func() bool {
				require.Empty(t, ringtest.Poll(t, c, 9))
				return c.Stats().SkippedDead == 1
			})
			through(t, p, c, uint64(laps)*r.Granules())
			was := r.WordAt(0)
			require.ErrorIs(t, claim.Commit(), ring.ErrFenced)
			require.Equal(t, was, r.WordAt(0))
			through(t, p, c, 10)
		}
	})
}

// A claim that is open when the attachment closes stays its holder's, since
// it may be writing to it, and the slot stays taken until it has ended.
func TestClaimAfterClose(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		a, err := r.Attach()
		require.NoError(t, err)
		c := ringtest.Consume(t, r)
		p, q := a.NewProducer(), a.NewProducer()
		committed, err := p.TryClaim(100, 1)
		require.NoError(t, err)
		aborted, err := q.TryClaim(100, 2)
		require.NoError(t, err)
		require.NoError(t, q.TrySend(nil, 3))
		require.NoError(t, a.Close())

		committed.Bytes()[99] = 1
		assert.ErrorIs(t, committed.Commit(), os.ErrClosed)
		assert.ErrorIs(t, committed.Commit(), ring.ErrClaimDone)
		alive, err := c.SlotAlive(a.Slot())
		require.NoError(t, err)
		assert.True(t, alive, "a claim is still open")
		aborted.Bytes()[99] = 1
		aborted.Abort()
		alive, err = c.SlotAlive(a.Slot())
		require.NoError(t, err)
		assert.False(t, alive, "the last one out frees the slot")
		seen, _ := metas(t, c, 9, nil)
		assert.Equal(t, []uint64{3}, seen)
		assert.EqualValues(t, 2, c.Stats().SkippedAborted)

		b := ringtest.Attach(t, r)
		assert.Equal(t, a.Slot(), b.Slot())
		assert.Equal(t, a.Instance()+1, b.Instance())
	})
}

// A claim that the program forgets is found by the collector.
func TestDroppedClaim(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		a := ringtest.Attach(t, r)
		p, c := a.NewProducer(), ringtest.Consume(t, r)
		kept, err := p.TryClaim(100, 1)
		require.NoError(t, err)
		forget(t, p)
		require.NoError(t, p.TrySend(nil, 2))
		require.NoError(t, kept.Commit())
		seen, _ := metas(t, c, 9, nil)
		require.Equal(t, []uint64{1}, seen)
		ringtest.Until(t, "the collector finds the claim", func() bool {
			runtime.GC()
			s, err := r.Stats()
			require.NoError(t, err)
			return s.Dropped == 1
		})
		seen, _ = metas(t, c, 9, nil)
		assert.Equal(t, []uint64{2}, seen)
		require.NoError(t, p.TrySend(nil, 3), "the producer goes on")
		seen, _ = metas(t, c, 9, nil)
		assert.Equal(t, []uint64{3}, seen)
		runtime.KeepAlive(kept)

		// It does not count as open: the slot is free after Close.
		require.NoError(t, a.Close())
		alive, err := c.SlotAlive(a.Slot())
		require.NoError(t, err)
		assert.False(t, alive)
	})
}

// The claim dropped last, after the attachment was closed.
func TestDroppedClaimAfterClose(t *testing.T) {
	r := ringtest.New(t, shm.Memfd, ringtest.Tiny)
	a, err := r.Attach()
	require.NoError(t, err)
	c := ringtest.Consume(t, r)
	forget(t, a.NewProducer())
	require.NoError(t, a.Close())
	ringtest.Until(t, "the collector finds the claim and frees the slot", func() bool {
		runtime.GC()
		alive, err := c.SlotAlive(a.Slot())
		require.NoError(t, err)
		return !alive
	})
	assert.Empty(t, ringtest.Poll(t, c, 9))
	assert.EqualValues(t, 2, r.Head())
}

//go:noinline
func forget(t *testing.T, p *ring.Producer) {
	claim, err := p.TryClaim(100, 0)
	require.NoError(t, err)
	claim.Bytes()[0] = 1
}
