package ring_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// damaged is a ring with, from head at 100 on:
//
//	100 COMMIT 2 | 102 SKIP 3 | 105 BUSY 2 | 107 COMMIT 4 (batch of 3) | 111 free
//
// and records of the same lap behind head. The claim at 105 stays open.
func damaged(t *testing.T) (*ring.Ring, *ring.Consumer, *ring.Producer) {
	t.Helper()
	r := ringtest.NewUnchecked(t, shm.Heap, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	for range 50 {
		require.NoError(t, p.TrySend(make([]byte, 128), 0))
	}
	require.Len(t, ringtest.Poll(t, c, 99), 50)
	require.NoError(t, p.TrySend(make([]byte, 100), 1))
	skipped, err := p.TryClaim(150, 2)
	require.NoError(t, err)
	open, err := p.TryClaim(100, 3)
	require.NoError(t, err)
	skipped.Abort()
	require.NoError(t, p.TryBatch([][]byte{make([]byte, 100), nil, {1}}, nil))
	require.EqualValues(t, 105, open.Position())
	require.EqualValues(t, 111, p.Position())
	r.SetHint(107)
	require.NoError(t, r.Check())
	t.Cleanup(func() { _ = open.Bytes() }) // not dropped before
	return r, c, p
}

// Check finds each damage, and says where.
func TestCheckFinds(t *testing.T) {
	const h = 1024
	tag := func(r *ring.Ring, pos uint64, d uint64) uint64 { return r.TagAt(pos) + d }
	older := ^uint64(0) // -1
	for _, row := range []struct {
		name string
		at   uint64
		do   func(r *ring.Ring)
	}{
		{"newer lap", 100, func(r *ring.Ring) { r.SetWord(100, ring.MakeHeader(ring.Commit, tag(r, 100, 1), 0, 2)) }},
		{"no granules", 102, func(r *ring.Ring) { r.SetWord(102, ring.MakeHeader(ring.Commit, tag(r, 102, 0), 0, 0)) }},
		{"beyond the lap", 107, func(r *ring.Ring) { r.SetWord(107, ring.MakeHeader(ring.Commit, tag(r, 107, 0), 0, h)) }},
		{"no state", 100, func(r *ring.Ring) { r.SetWord(100, ring.MakeHeader(ring.Free, tag(r, 100, 0), 0, 2)) }},
		{"claim of nobody", 105, func(r *ring.Ring) { r.SetWord(105, ring.MakeHeader(ring.Busy, tag(r, 105, 0), ring.OwnerNone, 2)) }},
		{"message of nobody", 100, func(r *ring.Ring) { r.SetWord(100, ring.MakeHeader(ring.Commit, tag(r, 100, 0), ring.OwnerNone, 2)) }},
		{"too long", 100, func(r *ring.Ring) { r.SetInfo(100, ring.MakeInfo(129, 0)) }},
		{"void at once", 100, func(r *ring.Ring) { r.SetInfo(100, ring.MakeInfo(ring.Void, 0)) }},
		{"too long in a batch", 107, func(r *ring.Ring) { r.SetInfo(109, ring.MakeInfo(129, 0)) }},
		{"inner word of this lap", 101, func(r *ring.Ring) { r.SetWord(101, ring.MakeHeader(ring.Commit, tag(r, 101, 0), 0, 1)) }},
		{"inner word of a lap to come", 103, func(r *ring.Ring) { r.SetWord(103, ring.MakeHeader(ring.Skip, tag(r, 103, 5), 0, 1)) }},
		{"shorter than it was", 101, func(r *ring.Ring) {
			r.SetWord(100, ring.MakeHeader(ring.Commit, tag(r, 100, 0), 0, 1))
			r.SetInfo(100, 0)
		}},
		{"record lost", 105, func(r *ring.Ring) { r.SetWord(105, ring.MakeHeader(ring.Busy, tag(r, 105, older), 0, 2)) }},
		{"hint inside a record", 108, func(r *ring.Ring) { r.SetHint(108) }},
		{"hint ahead", 111, func(r *ring.Ring) { r.SetHint(500) }},
		{"hint far ahead", 111, func(r *ring.Ring) { r.SetHint(1 << 40) }},
		{"claim ahead", 300, func(r *ring.Ring) { r.SetWord(300, ring.MakeHeader(ring.Busy, tag(r, 300, 0), 0, 2)) }},
		{"message ahead of a gap", 112, func(r *ring.Ring) { r.SetWord(112, ring.MakeHeader(ring.Commit, tag(r, 112, 0), 0, 2)) }},
		{"claim behind head", 50, func(r *ring.Ring) { r.SetWord(50, ring.MakeHeader(ring.Busy, tag(r, 50, 0), 0, 2)) }},
		{"lap to come behind head", 1024 + 50, func(r *ring.Ring) { r.SetWord(50, ring.MakeHeader(ring.Commit, tag(r, 50, 1), 0, 2)) }},
		{"lap far to come behind head", 1024 + 50, func(r *ring.Ring) { r.SetWord(50, ring.MakeHeader(ring.Commit, tag(r, 50, 1<<33), 0, 2)) }},
		{"head inside a record", 101, func(r *ring.Ring) { r.SetHead(101) }},
		{"head beyond the end", 112, func(r *ring.Ring) { r.SetHead(112) }},
		{"sleep mode", 100, func(r *ring.Ring) { r.SetSleep(3) }},
		{"turn of nobody", 100, func(r *ring.Ring) { r.SetTurn(5 << 8) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, _, _ := damaged(t)
			row.do(r)
			err := r.Check()
			require.ErrorIs(t, err, ring.ErrCorrupt)
			var damage *ring.CorruptError
			require.True(t, errors.As(err, &damage))
			assert.NotEmpty(t, damage.Reason)
			t.Log(err)
			if row.name != "head inside a record" && row.name != "head beyond the end" {
				assert.Equal(t, row.at, damage.Position, "%v", err)
			}
		})
	}
}

// What the consumer meets is an error with position and word, again and again,
// until it is told to go on behind it; then everything behind is delivered.
func TestConsumerMeetsDamage(t *testing.T) {
	for _, row := range []struct {
		name string
		at   uint64
		do   func(r *ring.Ring)
		got  []uint64 // metas before
		then uint64   // position after Resync
	}{
		{"newer lap", 100, func(r *ring.Ring) { r.SetWord(100, ring.MakeHeader(ring.Commit, r.TagAt(100)+1, 0, 2)) }, nil, 102},
		{"no granules", 100, func(r *ring.Ring) { r.SetWord(100, ring.MakeHeader(ring.Commit, r.TagAt(100), 0, 0)) }, nil, 102},
		{"beyond the lap", 102, func(r *ring.Ring) { r.SetWord(102, ring.MakeHeader(ring.Skip, r.TagAt(102), 0, 2000)) }, []uint64{1}, 105},
		{"no state", 100, func(r *ring.Ring) { r.SetWord(100, ring.MakeHeader(ring.Free, r.TagAt(100), 0, 2)) }, nil, 102},
		{"message too long", 100, func(r *ring.Ring) { r.SetInfo(100, ring.MakeInfo(129, 0)) }, nil, 102},
		{"message of nobody", 100, func(r *ring.Ring) { r.SetWord(100, ring.MakeHeader(ring.Commit, r.TagAt(100), ring.OwnerNone, 2)) }, nil, 102},
		{"claim of nobody", 105, func(r *ring.Ring) { r.SetWord(105, ring.MakeHeader(ring.Busy, r.TagAt(105), ring.OwnerNone, 2)) }, []uint64{1}, 107},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, c, p := damaged(t)
			row.do(r)
			seen := []uint64{}
			for range 2 {
				n, err := c.Poll(99, func(f ring.Frame) ring.Action { seen = append(seen, f.Meta); return ring.Continue })
				var damage *ring.CorruptError
				require.ErrorAs(t, err, &damage)
				assert.Equal(t, row.at, damage.Position)
				assert.Equal(t, r.WordAt(row.at), damage.Word)
				assert.LessOrEqual(t, n, len(seen))
			}
			assert.EqualValues(t, len(row.got), len(seen))
			if err := c.WaitUntil(context.Background(), 1); err != nil {
				require.ErrorIs(t, err, ring.ErrCorrupt)
			}
			assert.Equal(t, row.at, r.Head())
			skipped, err := c.Resync()
			require.NoError(t, err)
			assert.Equal(t, row.then-row.at, skipped)
			assert.Equal(t, row.then, c.Position())
			assert.Equal(t, row.then, r.Head())
			assert.EqualValues(t, 1, c.Stats().Resyncs)
			// The producers go on too, also one that starts from the hint.
			require.NoError(t, p.TrySend(nil, 9))
			p.Forget()
			r.SetHint(0)
			require.NoError(t, p.TrySend(nil, 9))
		})
	}
}

// Where no record follows the damage, the ring goes on behind the hint, or a
// lap on.
func TestResyncWithNothingBehind(t *testing.T) {
	r := ringtest.NewUnchecked(t, shm.Heap, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
	require.NoError(t, p.TrySend(make([]byte, 200), 0))
	r.SetWord(0, ring.MakeHeader(ring.Commit, 1, 0, 0))
	_, err := c.Poll(1, nil)
	require.ErrorIs(t, err, ring.ErrCorrupt)
	skipped, err := c.Resync()
	require.NoError(t, err)
	assert.EqualValues(t, 1024, skipped)
	for i := range uint64(2000) {
		require.NoError(t, p.TrySend(nil, i))
		require.Len(t, ringtest.Poll(t, c, 9), 1)
	}
}

// A hint ahead of a granule that nobody claimed would leave the consumer and
// the producers talking past each other for good; a consumer that slept finds it.
func TestWaitFindsAHintAhead(t *testing.T) {
	r := ringtest.NewUnchecked(t, shm.Heap, ringtest.Tiny)
	p, c := ringtest.Producer(t, r), ringtest.Consume(t, r, ring.WithWaiting(ring.Thrift))
	r.SetHint(500)
	require.NoError(t, p.TrySend([]byte("lost?"), 0))
	require.ErrorIs(t, c.Wait(ringtest.Context(t)), ring.ErrCorrupt)
	_, err := c.Resync()
	require.NoError(t, err)
	got := ringtest.Poll(t, c, 9)
	require.Len(t, got, 1)
	assert.Equal(t, "lost?", string(got[0].Data))
}

// Head is the consumer's own. Somebody else's number there has the producers
// claim where the consumer does not look, until to them the ring is full for
// good; a consumer that slept finds it.
func TestWaitFindsAWrongHead(t *testing.T) {
	for _, manual := range []bool{false, true} {
		for _, head := range []uint64{0, 2047, 2049, 2048 + 1024, 1 << 50} {
			r := ringtest.NewUnchecked(t, shm.Heap, ringtest.Tiny)
			defer ring.SetNaps(time.Millisecond)()
			r.StartAt(2000)
			opts := []ring.ConsumerOption{ring.WithWaiting(ring.Thrift)}
			if manual {
				opts = append(opts, ring.WithManualRelease())
			}
			a, c := ringtest.Attach(t, r), ringtest.Consume(t, r, opts...)
			p := a.NewProducer()
			release := func() {
				if manual {
					require.NoError(t, c.Release(c.Position()))
				}
			}
			for range 48 {
				require.NoError(t, p.TrySend(nil, 0))
				ringtest.Poll(t, c, 9)
				release()
			}
			require.ErrorIs(t, c.WaitUntil(context.Background(), shm.Now()+2e6), os.ErrDeadlineExceeded)
			r.SetHead(head)
			fresh := a.NewProducer()
			err := c.Wait(ringtest.Context(t))
			require.ErrorIs(t, err, ring.ErrCorrupt)
			require.ErrorContains(t, err, "position 2048")
			_, err = c.Resync()
			require.NoError(t, err)
			err = c.WaitUntil(context.Background(), shm.Now()+2e6)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded, "once is enough")
			release()
			got := 0
			ringtest.Until(t, "messages come through", func() bool {
				for range 100 {
					fresh.TrySend([]byte("again"), 0) // from wherever it thinks the ring is
					got += len(ringtest.Poll(t, c, 9))
					release()
				}
				return got > 2000
			})
		}
	}
}

// Producers meet damage too, and do not loop or overwrite.
func TestProducerMeetsDamage(t *testing.T) {
	for name, word := range map[string]uint64{
		"no granules": ring.MakeHeader(ring.Commit, 1, 0, 0),
		"too many":    ring.MakeHeader(ring.Commit, 1, 0, 1025),
		"newer lap":   ring.MakeHeader(ring.Commit, 2, 0, 1),
	} {
		t.Run(name, func(t *testing.T) {
			r := ringtest.NewUnchecked(t, shm.Heap, ringtest.Tiny)
			a := ringtest.Attach(t, r)
			p := a.NewProducer()
			r.SetWord(0, word)
			require.ErrorIs(t, p.TrySend(nil, 0), ring.ErrCorrupt)
			_, err := p.TryClaim(0, 0)
			require.ErrorIs(t, err, ring.ErrCorrupt)
			require.ErrorIs(t, p.Send(context.Background(), nil, 0), ring.ErrCorrupt)
			_, err = r.Frontier()
			require.ErrorIs(t, err, ring.ErrCorrupt)
			_, err = r.Attach()
			require.ErrorIs(t, err, ring.ErrCorrupt)
			r.SetWord(0, 0)
			require.NoError(t, p.TrySend(nil, 0))
		})
	}
}

// A frontier is what others wait for: it is at most a ring ahead of head,
// whatever the hint says, or an error.
func TestFrontierIsInTheRing(t *testing.T) {
	const size = 1024
	for _, hint := range []uint64{size + 101, 1 << 40, 1 << 63, ^uint64(0)} {
		r, _, _ := damaged(t)
		r.SetHint(hint)
		pos, err := r.Frontier()
		require.NoError(t, err)
		require.EqualValues(t, 111, pos, "hint %d", hint)
	}
	r, _, _ := damaged(t)
	r.SetHint(1 << 57)
	stats, err := r.Stats()
	require.NoError(t, err)
	require.EqualValues(t, ring.MinCapacity, stats.Used)
	r.SetHint(500)
	for pos := uint64(500); pos < size+200; pos++ { // records of a lap to come where head stands
		r.SetWord(pos, ring.MakeHeader(ring.Commit, r.TagAt(pos), 0, 1))
	}
	_, err = r.Frontier()
	require.ErrorIs(t, err, ring.ErrCorrupt)
}

// Head in the middle of nowhere, as garbage has it: senders see a ring that is
// full or corrupt, and the consumer's Wait ends.
func TestHeadFarAway(t *testing.T) {
	for _, head := range []uint64{1 << 20, 1 << 40, 1 << 63, ^uint64(0)} {
		r := ringtest.NewUnchecked(t, shm.Heap, ringtest.Tiny)
		a, err := r.Attach()
		require.NoError(t, err)
		p := a.NewProducer()
		for range 10 {
			require.NoError(t, p.TrySend(nil, 0))
		}
		r.SetHead(head)
		c := ringtest.Consume(t, r)
		_, err = c.Poll(99, func(ring.Frame) ring.Action { return ring.Continue })
		if err != nil {
			assert.ErrorIs(t, err, ring.ErrCorrupt)
		}
		if err := c.WaitUntil(context.Background(), 1); !errors.Is(err, os.ErrDeadlineExceeded) && err != nil {
			assert.ErrorIs(t, err, ring.ErrCorrupt)
		}
		p.TrySend(nil, 0)
		r.Check()
		if err := a.Close(); err != nil {
			assert.ErrorIs(t, err, ring.ErrCorrupt)
		}
	}
}
