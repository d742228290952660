package ring_test

import (
	"slices"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
)

// queue is what a ring should be: records in the order of their claims, each open,
// filled or skipped, in a space of so many granules.
type queue struct {
	size, head, frontier uint64
	records              []*record // from head on
	next                 uint64    // where the consumer is
	inner                int       // messages of the record there that it has taken
	released             uint64    // head, as of the consumer's own last release
	manual               bool
	polls                []uint64 // where polls of this consumer ended
	counts               ring.ConsumerStats

	seats    []*seatModel
	turn     *ring.Producer
	turnSeat *seatModel
}

type seatModel struct {
	slot                int
	closed, dead, freed bool // freed: the slot is somebody else's to take
	open                []*record
}

type record struct {
	pos, g   uint64
	state    uint8 // ring.Busy, ring.Commit, ring.Skip
	pad      bool
	taken    bool // this consumer has skipped it, its owner being dead
	messages []ringtest.Message
	seat     *seatModel
	claim    ring.Claim
	n        int // bytes claimed
}

func (r *record) commit(all ...ringtest.Message) {
	r.state = ring.Commit
	for _, m := range all {
		m.Slot, m.Position = r.seat.slot, r.pos
		r.messages = append(r.messages, m)
	}
}

// claim appends a record, behind a pad where the rest of the lap is too small; nil
// means full, which may leave the pad.
func (q *queue) claim(s *seatModel, p *ring.Producer, g uint64) *record {
	limit := q.size
	if q.turn != nil && q.turn != p {
		limit -= q.size / 4
	}
	if rest := q.size - q.frontier%q.size; g > rest {
		if q.frontier+rest-q.head > limit {
			return nil
		}
		q.append(&record{g: rest, state: ring.Skip, pad: true})
	}
	if q.frontier+g-q.head > limit {
		return nil
	}
	return q.append(&record{g: g, state: ring.Busy, seat: s})
}

func (q *queue) append(r *record) *record {
	r.pos = q.frontier
	q.frontier += r.g
	q.records = append(q.records, r)
	return r
}

// at is the index of the consumer's record.
func (q *queue) at() int {
	i := slices.IndexFunc(q.records, func(r *record) bool { return r.pos == q.next })
	if i < 0 {
		return len(q.records)
	}
	return i
}

func (q *queue) front() *record {
	if i := q.at(); i < len(q.records) {
		return q.records[i]
	}
	return nil
}

func (q *queue) ready() bool {
	r := q.front()
	return r != nil && r.state != ring.Busy
}

func (r *record) orphaned() bool { return r.state == ring.Busy && r.seat.dead }

func (q *queue) deadInFront() bool {
	r := q.front()
	return r != nil && r.orphaned()
}

func (q *queue) skipFront() {
	r := q.front()
	r.state, r.taken = ring.Skip, true
}

// pass is the consumer's step behind a record, and its release where that is a quarter.
func (q *queue) pass(r *record) {
	q.next, q.inner = r.pos+r.g, 0
	if r.pos-q.released >= q.size/4 && !q.manual {
		q.released = r.pos
		q.release(r.pos)
	}
}

// poll is Poll: at most limit messages, until an open claim; how answers for the
// message with index stop. Claims of the dead end it or not, as the time is: where the real
// one came to, end, decides.
func (q *queue) poll(limit, stop int, how ring.Action, end uint64) (got []ringtest.Message, heads []uint64, consumed int) {
	heads = []uint64{}
	defer func() {
		if q.next != q.released && !q.manual {
			q.released = q.next
			q.release(q.next)
		}
		q.polls = append(q.polls, q.next)
	}()
	for consumed < limit {
		r := q.front()
		if r == nil {
			return
		}
		if r.orphaned() && r.pos < end {
			r.state, r.taken = ring.Skip, true
		}
		switch r.state {
		case ring.Busy:
			return
		case ring.Skip:
			switch {
			case r.taken:
				q.counts.SkippedDead++
			case r.pad:
				q.counts.Pads++
			default:
				q.counts.SkippedAborted++
			}
			q.pass(r)
			continue
		}
		m, inner, next := r.messages[q.inner], q.inner, q.next
		last := q.inner+1 == len(r.messages)
		q.inner++
		if last {
			q.pass(r)
		}
		got, heads = append(got, m), append(heads, q.head)
		if len(got) == stop+1 && how == ring.Leave {
			q.next, q.inner = next, inner
			return
		}
		consumed++
		q.counts.Messages++
		q.counts.Bytes += uint64(len(m.Data))
		if last {
			q.counts.Records++
		}
		if len(got) == stop+1 && how == ring.Break {
			return
		}
	}
	return
}

// release moves head.
func (q *queue) release(pos uint64) {
	q.head = pos
	for len(q.records) > 0 && q.records[0].pos < pos {
		q.records = q.records[1:]
	}
}

func (q *queue) polled() uint64 {
	if len(q.polls) == 0 {
		return q.head
	}
	return q.polls[len(q.polls)-1]
}

func (q *queue) takeOver() {
	q.next, q.inner, q.released, q.polls = q.head, 0, q.head, nil
	for _, r := range q.records {
		r.taken = false
	}
}

// attach takes the lowest slot; what a dead holder had claimed is skipped.
func (q *queue) attach() *seatModel {
	s := &seatModel{}
	for slices.ContainsFunc(q.seats, func(o *seatModel) bool { return o.slot == s.slot && !o.dead && !o.freed }) {
		s.slot++
	}
	q.seats = append(q.seats, s)
	q.vacate(s.slot)
	return s
}

// vacate is the sweep of a slot.
func (q *queue) vacate(slot int) {
	for _, r := range q.records {
		if r.state == ring.Busy && r.seat.slot == slot && (r.seat.dead || r.seat.freed) {
			r.state = ring.Skip
		}
	}
	if q.turnSeat != nil && q.turnSeat.slot == slot {
		q.turn, q.turnSeat = nil, nil
	}
}

func (q *queue) leave(s *seatModel) {
	s.closed = true
	if len(s.open) == 0 {
		s.freed = true
		q.vacate(s.slot)
	}
}

// ended is told that an open claim has ended.
func (q *queue) ended(r *record) {
	s := r.seat
	s.open = slices.DeleteFunc(s.open, func(o *record) bool { return o == r })
	if s.closed {
		q.leave(s)
	}
}

func (q *queue) alive(slot int) bool {
	return slices.ContainsFunc(q.seats, func(s *seatModel) bool { return s.slot == slot && !s.dead && !s.freed })
}
