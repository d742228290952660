package ring_test

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/anishathalye/porcupine"
)

// The plain specification: a FIFO queue of values. An enqueue appends its values,
// a batch's all at once; a dequeue takes the first. It says nothing of answers
// that are not a value; history_spec_test.go has those.
//
// A Send takes effect at its claim, somewhere in its interval; a claim that is
// committed later has the interval from the one's invocation to the other's
// answer. One that was not answered may have taken effect at any time since, or
// never. Deliveries that a dead consumer had not released are none: its successor's
// count.

type enqueue struct {
	value, count uint64
	call, ret    int64 // never: it may not have taken effect
}

type dequeue struct {
	value     uint64
	call, ret int64
}

// fifo is a history as the plain specification sees it.
type fifo struct {
	in      []enqueue
	out     []dequeue // in the order of the consumers' logs
	drained bool      // nothing that was answered may be left
}

// fifo extracts it. The error is a redelivery that differs from the delivery.
func (h *history) fifo() (f fifo, err error) {
	f.drained = h.drained
	open := map[uint64]int{} // index in f.in, by value
	var deliveries []op
	var takeOvers []op
	for _, o := range h.ops {
		switch o.kind {
		case opSend:
			if o.result != full {
				f.in = append(f.in, enqueue{o.value, o.count, o.call, o.ret})
			}
		case opClaim:
			if o.result != full {
				open[o.value] = len(f.in)
				f.in = append(f.in, enqueue{o.value, 1, o.call, never})
			}
		case opCommit:
			f.in[open[o.value]].ret = o.ret
		case opAbort:
			if o.result == done {
				f.in[open[o.value]].count = 0
			}
		case opDeliver:
			deliveries = append(deliveries, o)
		case opTakeOver:
			takeOvers = append(takeOvers, o)
		}
	}
	f.in = slices.DeleteFunc(f.in, func(e enqueue) bool { return e.count == 0 })
	// Consumers follow each other, so the instants tell the logs' order.
	slices.SortStableFunc(deliveries, func(a, b op) int { return cmp.Compare(a.ret, b.ret) })
	slices.SortFunc(takeOvers, func(a, b op) int { return cmp.Compare(a.call, b.call) })
	for _, o := range deliveries {
		for len(takeOvers) > 0 && takeOvers[0].log == o.log { // the first one of this consumer
			keep := slices.IndexFunc(f.out, func(d dequeue) bool { return position(deliveries, d.value) >= takeOvers[0].pos })
			if keep >= 0 {
				again := f.out[keep:]
				f.out = f.out[:keep:keep]
				defer func() {
					for i, d := range again {
						if err == nil && (keep+i >= len(f.out) || f.out[keep+i].value != d.value) {
							err = fmt.Errorf("value %x was delivered, not released, and not the next one again", d.value)
						}
					}
				}()
			}
			takeOvers = takeOvers[1:]
		}
		f.out = append(f.out, dequeue{o.value, o.call, o.ret})
	}
	return f, nil
}

func position(deliveries []op, value uint64) uint64 {
	for _, d := range deliveries {
		if d.value == value {
			return d.pos
		}
	}
	return 0
}

// check decides in linear time, but for sorting, whether the history is
// linearizable. Where values are unique and every dequeue brings one, a history is, exactly
// if none of these is in it (Henzinger, Sezgin, Vafeiadis, "Aspect-oriented
// linearizability proofs", 2013): a value out of nowhere or twice; one delivered
// before it was sent; two in the other order than they were certainly sent in, the
// later perhaps never delivered. A batch adds that its values are together.
func (f fifo) check() error {
	type place struct {
		in   int
		next uint64 // the value that has to follow, 0 if any may
	}
	of := map[uint64]place{}
	for i, e := range f.in {
		for v := e.value; v < e.value+e.count; v++ {
			p := place{in: i}
			if v+1 < e.value+e.count {
				p.next = v + 1
			}
			of[v] = p
		}
	}
	got := make([]uint64, len(f.in)) // values delivered
	latest := int64(-1)              // the last invocation among what was delivered
	must := uint64(0)
	for _, d := range f.out {
		p, sent := of[d.value]
		if !sent {
			return fmt.Errorf("value %x: delivered but never sent, or twice", d.value)
		}
		delete(of, d.value)
		e := f.in[p.in]
		switch {
		case must != 0 && d.value != must, must == 0 && d.value != e.value:
			return fmt.Errorf("value %x: delivered where its batch, or another one, goes on with %x", d.value, must)
		case d.ret < e.call:
			return fmt.Errorf("value %x: delivered before it was sent", d.value)
		case e.ret < latest:
			return fmt.Errorf("value %x: sent before, delivered behind another", d.value)
		}
		must = p.next
		got[p.in]++
		latest = max(latest, e.call)
	}
	if must != 0 && f.drained {
		return fmt.Errorf("value %x: the rest of its batch was delivered", must)
	}
	for i, e := range f.in {
		if got[i] == 0 && (e.ret < latest || f.drained && e.ret != never) {
			return fmt.Errorf("value %x: lost", e.value)
		}
	}
	return nil
}

// What porcupine is asked: the operations of a queue whose outcome is known. It
// would try the order of concurrent enqueues that nobody has dequeued yet, and
// find out too late. So each enqueue is told what place the history gives it in
// the order of dequeues: a FIFO queue delivers values in the order they came
// in, so there is no other place for it to come in at, nor for one whose values
// were never dequeued but behind all others.
type fifoStep struct {
	enqueue bool
	first   int // place of its first value; that of the value dequeued; -1 for none
	count   int
	last    bool // nothing may be in the queue but what comes later
}

type fifoState struct {
	in, out int
	more    bool // something that was never dequeued is in the queue
	left    bool // and was answered
}

// porcupine decides the same by search.
func (f fifo) porcupine() bool {
	place := map[uint64]int{}
	for i, d := range f.out {
		if _, twice := place[d.value]; twice {
			return false
		}
		place[d.value] = i
	}
	var all []porcupine.Operation
	for _, e := range f.in {
		s := fifoStep{enqueue: true, first: -1}
		if first, ok := place[e.value]; ok {
			s.first = first
		}
		for v := e.value; v < e.value+e.count; v++ {
			if at, ok := place[v]; ok {
				if s.first < 0 || at != s.first+int(v-e.value) {
					return false // not in its batch's order
				}
				delete(place, v)
				s.count++
			}
		}
		if s.count > 0 && s.count != int(e.count) && (f.drained || s.first+s.count != len(f.out)) {
			return false // a batch in part
		}
		if s.first < 0 && e.ret == never {
			continue // without effect: nobody can tell, and anything before would have to be in front of nothing
		}
		all = append(all, porcupine.Operation{Input: s, Call: e.call, Return: e.ret})
	}
	if len(place) > 0 {
		return false // out of nowhere
	}
	end := int64(0)
	for i, d := range f.out {
		end = max(end, d.ret)
		all = append(all, porcupine.Operation{Input: fifoStep{first: i}, Call: d.call, Return: d.ret})
	}
	if f.drained {
		for _, e := range f.in {
			if e.ret != never {
				end = max(end, e.ret)
			}
		}
		all = append(all, porcupine.Operation{Input: fifoStep{last: true}, Call: end + 1, Return: end + 1})
	}
	return porcupine.CheckOperations(fifoModel, all)
}

var fifoModel = porcupine.Model{
	Init: func() any { return fifoState{} },
	Step: func(state, input, _ any) (bool, any) {
		q, s := state.(fifoState), input.(fifoStep)
		switch {
		case s.last:
			return q.in == q.out && !q.left, q
		case s.enqueue && s.first < 0:
			q.more, q.left = true, true
			return true, q
		case s.enqueue:
			ok := !q.more && s.first == q.in
			q.in += s.count
			return ok, q
		}
		ok := s.first == q.out && q.out < q.in
		q.out++
		return ok, q
	},
}

// queueModel is the specification word by word, for histories of a few operations.
var queueModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		q := state.(string)
		switch in := input.(type) {
		case enqueue:
			for v := in.value; v < in.value+in.count; v++ {
				q += string(rune(v))
			}
			return true, q
		case dequeue:
			first := string(rune(in.value))
			return len(q) > 0 && q[:len(first)] == first, q[min(len(first), len(q)):]
		}
		return q == "", q // at the end
	},
}

// literally decides by search and the literal specification. Enqueues that may
// not have taken effect are tried both ways.
func (f fifo) literally() bool {
	open := slices.IndexFunc(f.in, func(e enqueue) bool { return e.ret == never && e.count > 0 })
	if open >= 0 {
		out, in := f, f
		out.in = slices.Delete(slices.Clone(f.in), open, open+1)
		in.in = slices.Clone(f.in)
		in.in[open].ret = never - 1
		return out.literally() || in.literally()
	}
	var all []porcupine.Operation
	end := int64(0)
	for _, e := range f.in {
		if e.ret != never-1 {
			end = max(end, e.ret)
		}
		all = append(all, porcupine.Operation{Input: e, Call: e.call, Return: e.ret})
	}
	for _, d := range f.out {
		end = max(end, d.ret)
		all = append(all, porcupine.Operation{Input: d, Call: d.call, Return: d.ret})
	}
	if f.drained {
		all = append(all, porcupine.Operation{Call: end + 1, Return: end + 1})
	}
	return porcupine.CheckOperations(queueModel, all)
}

// checkAnswers looks in linear time, but for sorting, at the answers that are not values, of a
// history in which nobody was killed. It is weaker than the search: it asks for each answer
// by itself whether any instant in its interval allows it.
func (h *history) checkAnswers() error {
	type record struct {
		end    uint64
		commit int64 // when it was certainly committed; never if it was aborted
	}
	records := map[uint64]record{} // by position
	at := map[uint64]uint64{}      // position by value
	type reach struct {
		instant int64
		pos     uint64
	}
	claims, heads := []reach{{0, h.start}}, []reach{{0, h.start}}
	for _, o := range h.ops {
		switch {
		case o.result != done:
		case o.kind == opSend:
			records[o.pos] = record{o.pos + o.granules, o.ret}
			claims = append(claims, reach{o.call, o.pos + o.granules})
		case o.kind == opClaim:
			records[o.pos] = record{o.pos + o.granules, never}
			at[o.value] = o.pos
			claims = append(claims, reach{o.call, o.pos + o.granules})
		case o.kind == opCommit:
			records[at[o.value]] = record{records[at[o.value]].end, o.ret}
		case o.head != 0:
			heads = append(heads, reach{o.ret, o.head})
		}
	}
	slices.SortStableFunc(claims, func(a, b reach) int { return cmp.Compare(a.instant, b.instant) })
	slices.SortStableFunc(heads, func(a, b reach) int { return cmp.Compare(a.instant, b.instant) })
	for i := 1; i < len(claims); i++ {
		claims[i].pos = max(claims[i].pos, claims[i-1].pos)
	}
	until := func(all []reach, instant int64) uint64 { // the last that is not after the instant
		i, _ := slices.BinarySearchFunc(all, instant, func(r reach, t int64) int {
			if r.instant <= t {
				return -1
			}
			return 1
		})
		return all[max(i-1, 0)].pos
	}
	const mostPad = 48 // one less than the largest record
	pad := func(pos uint64) uint64 {
		if rest := h.size - pos%h.size; rest < mostPad {
			return rest
		}
		return 0
	}
	for _, o := range h.ops {
		switch {
		case o.result == full:
			frontier, head, room := until(claims, o.ret), until(heads, o.call), h.size
			frontier += pad(frontier)
			if frontier+o.granules-head > room {
				continue
			}
			if h.waitsBeside(o) {
				room -= h.size / 4
			}
			if frontier+o.granules-head <= room {
				return fmt.Errorf("said full with %d of %d granules taken: %v", frontier-head, h.size, o)
			}
		case o.kind == opEmpty:
			r, ok := records[o.pos]
			if !ok { // then a pad, if anything
				r, ok = records[o.pos+pad(o.pos)]
			}
			if ok && r.commit < o.call {
				return fmt.Errorf("said empty before a record that was committed at %d: %v", r.commit, o)
			}
		}
	}
	return nil
}
