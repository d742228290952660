package ring_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
)

// The whole specification: what each answer of the ring says, of all that were
// given, at one instant within each operation.
//
// The ring is a sequence of records from head on, each claimed, committed or
// skipped, at most size granules in all. An operation is one or more steps:
//
//	send, batch   pad?, claim, commit
//	claim         pad?, claim
//	commit, abort the record that was claimed
//	full          pad?, full
//	deliver       the next message of the first record that is not skipped, which is committed
//	empty         no record is left to deliver, or the first is claimed and not committed
//	released      head moves to a record, and everything before it was delivered or skipped
//	take-over     what was delivered and not released is to be delivered again
//	death         of a process: what it has claimed may be skipped, what it has not begun is not
//
// Full is said only if at the instant of that step the record would not have
// fitted: frontier + granules - head > size, where what others have claimed, filled
// or not, counts, and so does what was delivered and not released; or, where the rest of
// the lap was too small for it, frontier + rest - head > size. That is exact. While somebody
// else is in a call that waits for room, who may have the turn, three quarters
// of the size take the place of size: whether the turn was taken is not seen from outside.
// A pad is a step of its own, since another record may come between it and the
// claim that it was made for. It is optional: not everybody who finds the rest of the
// lap too small makes it.
//
// Empty is weaker than a queue's: a message whose Send has returned may
// stand behind an open claim. That is the price of claims, and the exact rule.

type stepKind uint8

const (
	stepPad stepKind = iota
	stepClaim
	stepCommit
	stepAbort
	stepFull
	stepDeliver
	stepEmpty
	stepRelease
	stepTakeOver
	stepDie
	stepPolled // changes nothing but the consumers' turn
)

type step struct {
	kind     stepKind
	owner    int
	value    uint64 // of the record, or the message
	count    uint64
	granules uint64
	pos      uint64
	room     uint64 // claim, full: what counts as the ring's size
	optional bool   // not answered: it need not have happened
	turn     int    // deliver, empty, take-over: the number among the consumers' steps
}

func (s step) String() string {
	names := [...]string{"pad", "claim", "commit", "abort", "full", "deliver", "empty", "release", "take over", "die", "polled"}
	return fmt.Sprintf("%s %d %x×%d g=%d pos=%d", names[s.kind], s.owner, s.value, s.count, s.granules, int64(s.pos))
}

type recordState uint8

const (
	claimed recordState = iota
	committed
	skipped
)

type specRecord struct {
	value, count uint64
	pos, g       uint64
	owner        int
	state        recordState
}

// specState is never changed, but replaced.
type specState struct {
	size, head, frontier uint64
	records              []specRecord // from head to frontier
	next                 int          // the first that the consumer has not passed
	inner                uint64       // messages of it that were delivered
	dead                 uint32
	turn                 int
}

func (q specState) equal(p specState) bool {
	return q.head == p.head && q.frontier == p.frontier && q.next == p.next && q.inner == p.inner &&
		q.dead == p.dead && q.turn == p.turn && slices.Equal(q.records, p.records)
}

func (q specState) rest() uint64 { return q.size - q.frontier%q.size }

func (q specState) fits(g, room uint64) bool { return q.frontier+g-q.head <= room }

func (q specState) isDead(owner int) bool { return q.dead>>owner&1 != 0 }

func (q specState) append(r specRecord) specState {
	r.pos = q.frontier
	q.records = append(slices.Clip(q.records), r)
	q.frontier += r.g
	return q
}

func (q specState) find(value uint64) int {
	return slices.IndexFunc(q.records, func(r specRecord) bool { return r.value == value })
}

// pass steps over what is skipped; force is for the claims of the dead.
func (q specState) pass(dead bool) specState {
	for q.next < len(q.records) {
		r := q.records[q.next]
		if r.state != skipped && !(dead && r.state == claimed && q.isDead(r.owner)) {
			break
		}
		q.next, q.inner = q.next+1, 0
	}
	return q
}

// after returns the states that a step may lead to.
func (q specState) after(s step) []specState {
	switch s.kind {
	case stepPad:
		if rest := q.rest(); s.granules > rest && q.fits(rest, q.size) && !q.isDead(s.owner) {
			return []specState{q, q.append(specRecord{g: rest, state: skipped})}
		}
		return []specState{q}
	case stepClaim:
		var all []specState
		if s.optional && s.pos == unknown {
			all = append(all, q)
		}
		if (s.pos == unknown || s.pos == q.frontier) && s.granules <= q.rest() && q.fits(s.granules, q.size) && !q.isDead(s.owner) {
			all = append(all, q.append(specRecord{value: s.value, count: s.count, g: s.granules, owner: s.owner}))
		}
		return all
	case stepCommit, stepAbort:
		i := q.find(s.value)
		var all []specState
		if s.optional {
			all = append(all, q)
		}
		if i >= 0 && q.records[i].state == claimed && !q.isDead(s.owner) {
			q.records = slices.Clone(q.records)
			q.records[i].state = committed
			if s.kind == stepAbort {
				q.records[i].state = skipped
			}
			all = append(all, q)
		}
		return all
	case stepFull:
		need := s.granules
		if rest := q.rest(); need > rest {
			need = rest
		}
		if q.fits(need, s.room) {
			return nil
		}
		return []specState{q}
	case stepRelease:
		most := q.pass(true).next
		i := slices.IndexFunc(q.records, func(r specRecord) bool { return r.pos == s.pos })
		if s.pos == q.frontier {
			i = len(q.records)
		}
		if i < 0 || i > most {
			return nil
		}
		if i > q.next {
			q.next, q.inner = i, 0
		}
		q.records, q.head, q.next = q.records[i:], s.pos, q.next-i
		return []specState{q}
	case stepDie:
		q.dead |= 1 << s.owner
		return []specState{q}
	}
	// The consumers' own steps come in the order of their logs.
	if s.turn != q.turn {
		return nil
	}
	q.turn++
	switch s.kind {
	case stepDeliver:
		q = q.pass(true)
		if q.next == len(q.records) {
			return nil
		}
		r := q.records[q.next]
		if r.state != committed || r.pos != s.pos || r.value+q.inner != s.value {
			return nil
		}
		if q.inner++; q.inner == r.count {
			q.next, q.inner = q.next+1, 0
		}
	case stepEmpty:
		q = q.pass(false)
		if q.next < len(q.records) && q.records[q.next].state != claimed {
			return nil
		}
	case stepTakeOver:
		if s.pos != q.head {
			return nil
		}
		q.next, q.inner = 0, 0
	}
	return []specState{q}
}

// steps are the history's operations, as porcupine takes them.
func (h *history) steps() []porcupine.Operation {
	var all []porcupine.Operation
	add := func(o op, s step) {
		s.owner = o.log
		all = append(all, porcupine.Operation{ClientId: o.log, Input: s, Call: o.call, Return: o.ret})
	}
	var consumers []op
	for _, o := range h.ops {
		optional := o.result == pending
		s := step{value: o.value, count: o.count, granules: o.granules, pos: o.pos, optional: optional}
		pad := step{kind: stepPad, granules: o.granules}
		switch o.kind {
		case opSend, opClaim:
			add(o, pad)
			if o.result == full {
				s.kind, s.room = stepFull, h.size
				if h.waitsBeside(o) {
					s.room -= h.size / 4
				}
				add(o, s)
				continue
			}
			s.kind = stepClaim
			add(o, s)
			if o.kind == opSend {
				s.kind = stepCommit
				add(o, s)
			}
		case opCommit:
			s.kind = stepCommit
			add(o, s)
		case opAbort:
			s.kind = stepAbort
			add(o, s)
		case opDie:
			add(op{log: int(o.value), call: o.call, ret: o.ret}, step{kind: stepDie})
		default:
			consumers = append(consumers, o)
		}
	}
	h.consumerSteps(consumers, add)
	return all
}

// consumerSteps adds those of all consumers, which follow each other.
func (h *history) consumerSteps(ops []op, add func(op, step)) {
	slices.SortStableFunc(ops, func(a, b op) int {
		return cmp.Or(cmp.Compare(a.call, b.call), cmp.Compare(a.log, b.log), cmp.Compare(a.index, b.index))
	})
	head := h.start
	for turn, o := range ops {
		s := step{value: o.value, pos: o.pos, turn: turn}
		switch o.kind {
		case opDeliver:
			s.kind = stepDeliver
		case opEmpty, opPolled:
			s.kind = stepEmpty
			if o.kind == opPolled {
				s.kind = stepPolled
			}
		case opTakeOver:
			s.kind = stepTakeOver
		}
		if o.head != head {
			// One head at most is missed between two of the consumer's instants, a
			// quarter of the ring being stepped over at most: one of 48 granules for each of
			// three producers and each killed one, and a pad.
			release := o
			if o.kind == opTakeOver && turn > 0 {
				release.call = ops[turn-1].ret // by the one that died
			}
			head = o.head
			add(release, step{kind: stepRelease, pos: head})
		}
		add(o, s)
	}
}

// waitsBeside tells whether another party was in a call that waits for room at some
// instant of o.
func (h *history) waitsBeside(o op) bool {
	return slices.ContainsFunc(h.ops, func(w op) bool {
		return w.waits && w.log != o.log && w.call <= o.ret && w.ret >= o.call
	})
}

func (h *history) model() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{specState{size: h.size, head: h.start, frontier: h.start}} },
		Step: func(state, input, _ any) (next []any) {
			for _, q := range state.(specState).after(input.(step)) {
				next = append(next, q)
			}
			return next
		},
		Equal: func(a, b any) bool { return a.(specState).equal(b.(specState)) },
		Hash: func(state any) uint64 {
			q := state.(specState)
			return q.frontier<<32 ^ q.head<<16 ^ uint64(q.next)<<8 ^ q.inner ^ uint64(q.turn)<<48
		},
		DescribeOperation: func(input, _ any) string { return input.(step).String() },
	}
	return m.ToModel()
}

// linearizable asks porcupine for the whole specification.
func (h *history) linearizable(t testing.TB) bool {
	t.Helper()
	res := porcupine.CheckOperationsTimeout(h.model(), h.steps(), time.Minute)
	require.NotEqual(t, porcupine.Unknown, res, "the search has no end")
	return res == porcupine.Ok
}

// stuckAt tells how far the search came with a history that is not linearizable: its last
// steps, and those that were to come and can not.
func (h *history) stuckAt() string {
	steps := h.steps()
	_, info := porcupine.CheckOperationsVerbose(h.model(), steps, time.Minute)
	var longest []int
	for _, partial := range info.PartialLinearizations()[0] {
		if len(partial) > len(longest) {
			longest = partial
		}
	}
	var s strings.Builder
	done := map[int]bool{}
	for i, at := range longest {
		done[at] = true
		if i >= len(longest)-30 {
			fmt.Fprintf(&s, "      %v [%d %d]\n", steps[at].Input, steps[at].Call, steps[at].Return)
		}
	}
	var left []porcupine.Operation
	for i, o := range steps {
		if !done[i] {
			left = append(left, o)
		}
	}
	slices.SortFunc(left, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	for _, o := range left[:min(30, len(left))] {
		fmt.Fprintf(&s, "left: %v [%d %d]\n", o.Input, o.Call, o.Return)
	}
	return s.String()
}
