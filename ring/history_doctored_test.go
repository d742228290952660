package ring_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the checkers are worth: histories that are wrong in one place, and a queue
// that is wrong on purpose.

// deliveries are the indexes in h.ops of all of them, in order.
func (h *history) deliveries() (at []int) {
	for i, o := range h.ops {
		if o.kind == opDeliver {
			at = append(at, i)
		}
	}
	return at
}

// find returns the operation that brought a value in, and the one that committed it.
func (h *history) find(value uint64) (in, committed *op) {
	for i := range h.ops {
		o := &h.ops[i]
		switch {
		case o.kind == opSend && o.value <= value && value < o.value+o.count:
			return o, o
		case o.kind == opClaim && o.value == value:
			in = o
		case o.kind == opCommit && o.value == value:
			committed = o
		}
	}
	return in, committed
}

// ordered tells whether a was certainly sent before b.
func (h *history) ordered(a, b uint64) bool {
	_, sent := h.find(a)
	in, _ := h.find(b)
	return sent.ret < in.call
}

// exchange swaps what two deliveries brought.
func (h *history) exchange(i, j int) {
	a, b := &h.ops[i], &h.ops[j]
	a.value, b.value = b.value, a.value
	a.pos, b.pos = b.pos, a.pos
}

// doctoring changes a true history in one place, and returns false if it has no such place.
type doctoring struct {
	name   string
	values bool // the plain specification must notice, too
	answer bool // checkAnswers must
	change func(h *history, random *rand.Rand) bool
}

var doctorings = []doctoring{
	{"two deliveries exchanged", true, false, func(h *history, random *rand.Rand) bool {
		at := h.deliveries()
		i, j := at[random.IntN(len(at))], at[random.IntN(len(at))]
		if !h.ordered(h.ops[i].value, h.ops[j].value) {
			return false
		}
		h.exchange(i, j)
		return true
	}},
	{"neighbours of one producer exchanged", true, false, func(h *history, random *rand.Rand) bool {
		at := h.deliveries()
		i := random.IntN(len(at))
		for _, j := range at[i+1:] {
			a, b := h.ops[at[i]].value, h.ops[j].value
			if a>>32 == b>>32 {
				if !h.ordered(a, b) {
					return false
				}
				h.exchange(at[i], j)
				return true
			}
		}
		return false
	}},
	{"one lost", true, false, func(h *history, random *rand.Rand) bool {
		at := h.deliveries()
		i := at[random.IntN(len(at))]
		h.ops = slices.Delete(h.ops, i, i+1)
		return true
	}},
	{"the last one lost", true, false, func(h *history, random *rand.Rand) bool {
		at := h.deliveries()
		i := at[len(at)-1]
		h.ops = slices.Delete(h.ops, i, i+1)
		return true
	}},
	{"one delivered twice", true, false, func(h *history, random *rand.Rand) bool {
		at := h.deliveries()
		i := at[random.IntN(len(at))]
		h.ops = slices.Insert(h.ops, i, h.ops[i])
		return true
	}},
	{"one out of nowhere", true, false, func(h *history, random *rand.Rand) bool {
		at := h.deliveries()
		h.ops[at[random.IntN(len(at))]].value = 99<<32 | 1
		return true
	}},
	{"one delivered before it was sent", true, false, func(h *history, random *rand.Rand) bool {
		at := h.deliveries()
		d := h.ops[at[random.IntN(len(at))]]
		in, sent := h.find(d.value)
		in.call = d.ret + 1
		in.ret = max(in.ret, in.call)
		sent.call, sent.ret = max(sent.call, in.call), max(sent.ret, in.ret)
		return true
	}},
	{"a message between those of a batch", true, false, func(h *history, random *rand.Rand) bool {
		at := h.deliveries()
		i := random.IntN(len(at) - 2)
		a, b, c := h.ops[at[i]], h.ops[at[i+1]], h.ops[at[i+2]]
		if in, _ := h.find(a.value); in.kind != opSend || b.pos != a.pos || c.pos == a.pos {
			return false
		}
		h.exchange(at[i+1], at[i+2])
		return true
	}},
	{"an aborted message delivered", true, false, func(h *history, random *rand.Rand) bool {
		i := slices.IndexFunc(h.ops, func(o op) bool { return o.kind == opAbort })
		at := h.deliveries()
		if i < 0 || len(at) == 0 {
			return false
		}
		last := h.ops[at[len(at)-1]]
		last.value = h.ops[i].value
		h.ops = slices.Insert(h.ops, at[len(at)-1]+1, last)
		return true
	}},
	{"one delivered before its commit", false, false, func(h *history, random *rand.Rand) bool {
		at := h.deliveries()
		d := h.ops[at[random.IntN(len(at))]]
		_, sent := h.find(d.value)
		if sent.kind != opCommit {
			return false
		}
		sent.call = d.ret + 1
		sent.ret = max(sent.ret, sent.call)
		return true
	}},
	{"full although empty", false, true, func(h *history, random *rand.Rand) bool {
		h.ops = append(h.ops, op{kind: opSend, result: full, call: 1, ret: 1, value: 98 << 32, count: 1, granules: 2})
		return true
	}},
	{"sent although full", false, false, func(h *history, random *rand.Rand) bool {
		i := slices.IndexFunc(h.ops, func(o op) bool { return o.kind == opSend && o.result == full })
		if i >= 0 {
			h.ops[i].result, h.ops[i].pos = done, unknown
		}
		return i >= 0
	}},
	{"empty with a message that was committed", false, true, func(h *history, random *rand.Rand) bool {
		at := h.deliveries()
		i := at[1+random.IntN(len(at)-1)]
		d, before := h.ops[i], h.ops[i-1]
		_, sent := h.find(d.value)
		if sent.ret >= d.call-1 || before.ret >= d.call-1 || before.log != d.log || before.head != d.head {
			return false
		}
		d.kind, d.call, d.ret = opEmpty, d.call-1, d.call-1
		h.ops = slices.Insert(h.ops, i, d)
		return true
	}},
	{"released before it was delivered", false, false, func(h *history, random *rand.Rand) bool {
		at := h.deliveries()
		h.ops[at[random.IntN(len(at)/2)]].head = h.ops[at[len(at)-1]].pos
		return true
	}},
	{"space claimed twice", false, false, func(h *history, random *rand.Rand) bool {
		i := slices.IndexFunc(h.ops, func(o op) bool { return o.kind == opSend && o.result == done && o.pos > h.start })
		h.ops[i].pos--
		return true
	}},
}

// Each is refused: by the whole specification, and, if it concerns values, by the
// plain one, where check and search say the same anyway.
func TestDoctoredHistories(t *testing.T) {
	for _, c := range doctorings {
		t.Run(c.name, func(t *testing.T) {
			random := ringtest.Random(t)
			for n := 0; n < 3; {
				h := heapHistory(t, roundRules{seed: random.Uint64(), ops: 40, entries: 4096})
				h.mustBeLinearizable(t)
				require.NoError(t, h.checkAnswers())
				if !c.change(&h, random) {
					continue
				}
				n++
				f, err := h.fifo()
				if err == nil {
					err = f.check()
				}
				require.Equal(t, err == nil, f.porcupine(), "check says %v:\n%s", err, h.dump())
				if c.values {
					require.Error(t, err, "the check does not notice:\n%s", h.dump())
				}
				if c.answer {
					require.Error(t, h.checkAnswers(), "the check does not notice:\n%s", h.dump())
				}
				require.False(t, h.linearizable(t), "the specification allows it:\n%s", h.dump())
			}
		})
	}
}

// heapHistory is a true one, of which nobody waited for room.
func heapHistory(t *testing.T, rules roundRules) history {
	var h history
	t.Run("true", func(t *testing.T) {
		r, b := historyRing(t, shm.Heap, 4, rules.entries)
		var producers []*ring.Producer
		for range 3 {
			producers = append(producers, ringtest.Producer(t, r))
		}
		h = recordHere(t, r, b, rules, 2, producers, ringtest.Consume(t, r)).finish(t)
	})
	return h
}

// brokenQueue is one with a fault that many real ones had: a lane for each producer, which the
// consumer empties in turns. Each producer's order is kept, the order between them is not.
type brokenQueue struct {
	mu    sync.Mutex
	lanes [2][]uint64
	next  int
}

func (q *brokenQueue) send(lane int, v uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lanes[lane] = append(q.lanes[lane], v)
}

func (q *brokenQueue) take() (v uint64, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for range q.lanes {
		q.next = 1 - q.next
		if l := &q.lanes[q.next]; len(*l) > 0 {
			v, *l = (*l)[0], (*l)[1:]
			return v, true
		}
	}
	return 0, false
}

func TestBrokenQueueIsNoticed(t *testing.T) {
	var q brokenQueue
	var in [2][]enqueue
	send := func(lane, n int) {
		for range n {
			e := enqueue{value: uint64(lane)<<32 | uint64(len(in[lane])+1), count: 1, call: clock()}
			q.send(lane, e.value)
			e.ret = clock()
			in[lane] = append(in[lane], e)
		}
	}
	send(0, 10) // certainly before the other lane's, which comes out first
	var all sync.WaitGroup
	all.Go(func() { send(0, 90) })
	all.Go(func() { send(1, 100) })
	all.Wait()
	f := fifo{in: append(in[0], in[1]...), drained: true}
	for from := clock(); ; {
		v, ok := q.take()
		if !ok {
			break
		}
		now := clock()
		f.out = append(f.out, dequeue{v, from, now})
		from = now
	}
	require.Len(t, f.out, 200)
	require.Error(t, f.check())
	require.False(t, f.porcupine())
}

// The check, the search, and the search by the literal specification agree on every
// small history, true or not.
func TestDecidersAgree(t *testing.T) {
	random := ringtest.Random(t)
	const histories = 4_000
	verdicts := map[bool]int{}
	for range histories {
		f := smallHistory(random)
		want := f.literally()
		verdicts[want]++
		err := f.check()
		if !assert.Equal(t, want, err == nil, "check: %v", err) || !assert.Equal(t, want, f.porcupine(), "search") {
			t.Fatalf("%+v", f)
		}
	}
	t.Logf("%d linearizable, %d not", verdicts[true], verdicts[false])
	require.Greater(t, verdicts[true], histories/10)
	require.Greater(t, verdicts[false], histories/10)
}

// smallHistory draws one: intervals anywhere, and values taken out mostly in an
// order that makes sense.
func smallHistory(random *rand.Rand) (f fifo) {
	n := 1 + random.IntN(5)
	const end = 20
	f.drained = random.IntN(2) == 0
	value := uint64('a')
	var order []uint64
	for range n {
		call := int64(random.IntN(end))
		e := enqueue{value: value, count: 1, call: 2 * call, ret: 2 * (call + int64(random.IntN(6)))}
		if random.IntN(4) == 0 {
			e.count = 2
		}
		if random.IntN(6) == 0 {
			e.ret = never
		}
		value += e.count
		f.in = append(f.in, e)
	}
	slices.SortFunc(f.in, func(a, b enqueue) int { return int(a.call - b.call + int64(random.IntN(12)-6)) })
	for _, e := range f.in {
		for i := range e.count {
			order = append(order, e.value+i)
		}
	}
	switch random.IntN(8) {
	case 0:
		i, j := random.IntN(len(order)), random.IntN(len(order))
		order[i], order[j] = order[j], order[i]
	case 1:
		order[random.IntN(len(order))] = order[0]
	case 2:
		order[random.IntN(len(order))] = 'z'
	case 3:
		order = order[:random.IntN(len(order))]
	case 4:
		i := random.IntN(len(order))
		order = slices.Delete(order, i, i+1)
	}
	// Odd instants, so that none is an enqueue's; each dequeue behind the last.
	from := int64(2*random.IntN(end) + 1)
	for _, v := range order {
		to := from + int64(2*random.IntN(6))
		f.out = append(f.out, dequeue{v, from, to})
		from = to + 2
	}
	return f
}
