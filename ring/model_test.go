package ring_test

import (
	"testing"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// queue is what a ring should be: records in the order of their claims, open,
// done with messages, or aborted.
type queue struct {
	records []*record
}

type record struct {
	state    uint8 // ring.Busy, ring.Commit, ring.Skip
	messages []ringtest.Message
	claim    ring.Claim
	n        int // claimed bytes
}

// take is Poll: at most limit messages, until an open claim; how answers for
// the message with index stop.
func (q *queue) take(limit, stop int, how ring.Action) (seen []ringtest.Message, consumed int) {
	for len(q.records) > 0 && consumed < limit {
		r := q.records[0]
		if r.state == ring.Busy {
			return seen, consumed
		}
		if r.state == ring.Skip || len(r.messages) == 0 {
			q.records = q.records[1:]
			continue
		}
		m := r.messages[0]
		seen = append(seen, m)
		if consumed == stop && how == ring.Leave {
			return seen, consumed
		}
		consumed++
		if r.messages = r.messages[1:]; len(r.messages) == 0 {
			q.records = q.records[1:]
		}
		if consumed == stop+1 && how == ring.Break {
			return seen, consumed
		}
	}
	return seen, consumed
}

// One producer and one consumer against the queue, in any order of their
// steps, with claims that stay open. The ring may say full where the queue has
// no limit, but not when it is empty.
func TestModel(t *testing.T) {
	for _, kind := range []shm.Kind{shm.Heap, shm.Memfd} {
		t.Run(kind.String(), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) { model(t, rt, kind) })
		})
	}
}

func model(t *testing.T, rt *rapid.T, kind shm.Kind) {
	make1 := ring.NewHeap
	if kind == shm.Memfd {
		make1 = ring.New
	}
	r, err := make1(ringtest.Tiny)
	require.NoError(rt, err)
	defer r.Close()
	r.StartAt(rapid.SampledFrom([]uint64{0, 1000, 1<<32 - 40, ring.ScrubLap*1024 - 40, 1<<45 - 40}).Draw(rt, "start"))
	a, err := r.Attach()
	require.NoError(rt, err)
	defer a.Close()
	p := a.NewProducer()
	c, err := r.Consume()
	require.NoError(rt, err)
	defer func() { c.Close() }()

	var q queue
	var open []*record
	number := uint64(0)
	size := rapid.OneOf(rapid.IntRange(0, 200), rapid.IntRange(0, r.MaxFrame()))
	next := func(n int) ringtest.Message {
		number++
		return ringtest.Message{Data: message(n, number), Meta: number}
	}
	push := func(rt *rapid.T, err error, rec *record) bool {
		if err == ring.ErrFull {
			require.NotEmpty(rt, q.records, "full and empty")
			return false
		}
		require.NoError(rt, err)
		q.records = append(q.records, rec)
		return true
	}
	end := func(rt *rapid.T, how func(rec *record)) {
		if len(open) == 0 {
			rt.Skip("no claim is open")
		}
		i := rapid.IntRange(0, len(open)-1).Draw(rt, "which")
		how(open[i])
		require.ErrorIs(rt, open[i].claim.Commit(), ring.ErrClaimDone)
		open = append(open[:i:i], open[i+1:]...)
	}

	rt.Repeat(map[string]func(*rapid.T){
		"": func(rt *rapid.T) { require.NoError(rt, r.Check()) },
		"send": func(rt *rapid.T) {
			for range rapid.IntRange(1, 20).Draw(rt, "how many") {
				m := next(size.Draw(rt, "bytes"))
				if !push(rt, p.TrySend(m.Data, m.Meta), &record{state: ring.Commit, messages: []ringtest.Message{m}}) {
					break
				}
			}
		},
		"batch": func(rt *rapid.T) {
			rec := &record{state: ring.Commit}
			var data [][]byte
			for range rapid.IntRange(1, 10).Draw(rt, "how many") {
				m := next(rapid.IntRange(0, 500).Draw(rt, "bytes"))
				rec.messages = append(rec.messages, m)
				data = append(data, m.Data)
			}
			push(rt, p.TryBatch(data, func(i int) uint64 { return rec.messages[i].Meta }), rec)
		},
		"claim": func(rt *rapid.T) {
			n := size.Draw(rt, "bytes")
			claim, err := p.TryClaim(n, 0)
			rec := &record{state: ring.Busy, claim: claim, n: n}
			if push(rt, err, rec) {
				open = append(open, rec)
			}
		},
		"commit": func(rt *rapid.T) {
			end(rt, func(rec *record) {
				m := next(rapid.IntRange(0, rec.n).Draw(rt, "bytes"))
				copy(rec.claim.Bytes(), m.Data)
				require.NoError(rt, rec.claim.SetMeta(m.Meta))
				require.NoError(rt, rec.claim.CommitN(len(m.Data)))
				rec.state, rec.messages = ring.Commit, []ringtest.Message{m}
			})
		},
		"abort": func(rt *rapid.T) {
			end(rt, func(rec *record) {
				rec.claim.Abort()
				rec.state = ring.Skip
			})
		},
		"poll": func(rt *rapid.T) {
			limit := rapid.IntRange(0, 30).Draw(rt, "limit")
			stop := rapid.IntRange(0, 30).Draw(rt, "stop at")
			how := rapid.SampledFrom([]ring.Action{ring.Continue, ring.Break, ring.Leave}).Draw(rt, "and")
			if how == ring.Continue {
				stop = -1
			}
			want, consumed := q.take(limit, stop, how)
			var got []ringtest.Message
			n, err := c.Poll(limit, func(f ring.Frame) ring.Action {
				got = append(got, ringtest.Message{Data: append([]byte{}, f.Data...), Meta: f.Meta})
				if len(got) == stop+1 {
					return how
				}
				return ring.Continue
			})
			require.NoError(rt, err)
			require.Equal(rt, consumed, n)
			require.Equal(rt, len(want), len(got))
			for i := range want {
				require.Equal(rt, want[i].Meta, got[i].Meta)
				require.Equal(rt, want[i].Data, got[i].Data)
			}
		},
		"new producer": func(rt *rapid.T) { p = a.NewProducer() },
		"new consumer": func(rt *rapid.T) {
			// Within a batch it would get the batch's first messages again.
			for len(q.records) > 0 && q.records[0].state == ring.Commit {
				_, n := q.take(1, -1, ring.Continue)
				m, err := c.Poll(1, func(ring.Frame) ring.Action { return ring.Continue })
				require.NoError(rt, err)
				require.Equal(rt, n, m)
			}
			require.NoError(rt, c.Close())
			c, err = r.Consume()
			require.NoError(rt, err)
		},
	})
	for _, rec := range open {
		rec.claim.Abort()
		rec.state = ring.Skip
	}
	want, _ := q.take(1<<30, -1, ring.Continue)
	n, err := c.Poll(1<<30, func(ring.Frame) ring.Action { return ring.Continue })
	require.NoError(rt, err)
	require.Equal(rt, len(want), n)
	require.NoError(rt, r.Check())
	require.Equal(rt, p.Position() <= c.Position(), true)
}
