package ring_test

import (
	"os"
	"testing"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// All seats taken, each of them used.
func TestRosterFull(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		c := ringtest.Consume(t, r)
		var all []*ring.Attachment
		for slot := range ring.MaxSlots {
			a, err := r.Attach()
			require.NoError(t, err)
			require.Equal(t, slot, a.Slot())
			require.EqualValues(t, 1, a.Instance())
			require.Same(t, r, a.Ring())
			all = append(all, a)
			require.NoError(t, a.NewProducer().TrySend(nil, uint64(slot)))
		}
		_, err := r.Attach()
		require.ErrorIs(t, err, ring.ErrRosterFull)
		for slot, m := range ringtest.Poll(t, c, 300) {
			assert.Equal(t, slot, m.Slot)
			assert.EqualValues(t, slot, m.Meta)
		}
		for _, slot := range []int{254, 100, 0} {
			require.NoError(t, all[slot].Close())
			info := r.SlotInfo(slot)
			assert.Zero(t, info.PID)
			assert.EqualValues(t, 1, info.Records)
			a, err := r.Attach()
			require.NoError(t, err)
			assert.Equal(t, slot, a.Slot())
			assert.EqualValues(t, 2, a.Instance())
			info = r.SlotInfo(slot)
			assert.Equal(t, os.Getpid(), info.PID)
			start, err := shm.ProcessStart(os.Getpid())
			require.NoError(t, err)
			if os.Getenv("SHMROUTER_EMULATED") == "" { // qemu-user tells each thread its own start
				assert.Equal(t, start, info.Start)
			}
			assert.Equal(t, shm.PIDNamespace(), info.PIDNamespace)
			assert.InDelta(t, shm.Now(), info.Joined, 60e9)
			assert.Zero(t, info.Records)
			all[slot] = a
		}
		_, err = r.Attach()
		require.ErrorIs(t, err, ring.ErrRosterFull)
		s, err := r.Stats()
		require.NoError(t, err)
		assert.Len(t, s.Slots, ring.MaxSlots)
		for _, a := range all {
			require.NoError(t, a.Close())
		}
	})
}

// What a dead holder's slot left open is swept by the next one, wherever it
// stands, and nothing else is.
func TestSweep(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		r.StartAt(1000) // the records below go over the end of the lap
		living := ringtest.Attach(t, r).NewProducer()
		require.NoError(t, living.TrySend(nil, 1))
		// Claims in the name of slot 1, which nobody holds: its last holder died.
		var open []ring.Claim
		for i := range uint64(10) {
			claim, err := living.TryClaim(1000, 2)
			require.NoError(t, err)
			if i%2 == 0 {
				pos := claim.Position()
				r.SetWord(pos, ring.MakeHeader(ring.Busy, r.TagAt(pos), 1, 16))
			} else {
				open = append(open, claim)
			}
		}
		a := ringtest.Attach(t, r)
		require.Equal(t, 1, a.Slot())
		s, err := r.Stats()
		require.NoError(t, err)
		assert.EqualValues(t, 5, s.Swept)
		c := ringtest.Consume(t, r)
		assert.Len(t, ringtest.Poll(t, c, 99), 1)
		for _, claim := range open {
			require.NoError(t, claim.Commit())
			assert.Len(t, ringtest.Poll(t, c, 99), 1)
		}
		assert.EqualValues(t, 5, c.Stats().SkippedAborted)
	})
}

// A consumer finds the claims of a slot that nobody holds dead.
func TestDeadSlotInProcess(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		p := ringtest.Producer(t, r)
		var events []ring.SkipEvent
		c := ringtest.Consume(t, r, ring.WithOnSkip(func(e ring.SkipEvent) { events = append(events, e) }))
		for i := range uint64(20) {
			claim, err := p.TryClaim(100, 0)
			require.NoError(t, err)
			pos := claim.Position()
			r.SetWord(pos, ring.MakeHeader(ring.Busy, r.TagAt(pos), 77, 2))
			require.NoError(t, p.TrySend(nil, i))
		}
		for i, m := range ringtest.Receive(t, c, 20) {
			assert.EqualValues(t, i, m.Meta)
		}
		require.Len(t, events, 20)
		for _, e := range events {
			assert.Equal(t, 77, e.Slot)
			assert.EqualValues(t, 2, e.Granules)
		}
		assert.EqualValues(t, 20, c.Stats().SkippedDead)
	})
}
