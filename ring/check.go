package ring

import (
	"fmt"
)

// Check looks for anything in the segment that the protocol does not allow,
// and returns the first thing found, as a *CorruptError. It may run in any
// process while the ring runs: what changes under its eyes is looked at again.
//
//	a record ends at head, unless nothing was released yet, or damage was stepped over
//	between head and the frontier records follow each other without a gap
//	each fits its lap, has a state, and its messages fit it
//	words inside a record keep older tags
//	the hint is a record's start, or the frontier
//	behind head nothing is BUSY, and no word belongs to a lap still to come
//	owner, turn and sleep words, and the waiters' flag, are in range
func (r *Ring) Check() error {
	return r.access(func() error {
		const tries = 100
		var err error
		for range tries {
			var moved bool
			if moved, err = r.check(); !moved {
				return err
			}
		}
		// It runs too fast for a whole look: what was seen is not proof.
		return nil
	})
}

// check looks once. moved means that head went on meanwhile, so that what
// looks wrong may be what came later.
func (r *Ring) check() (moved bool, err error) {
	head := r.head.Load()
	hint := r.hint.Load()
	end, err := r.checkRecords(head, hint)
	if err == nil {
		err = r.checkHead(head, end)
	}
	if err == nil {
		err = r.checkWords(head, end)
	}
	if err == nil {
		err = r.checkControl(head)
	}
	return err != nil && r.head.Load() != head, err
}

// checkRecords walks from head to the frontier.
func (r *Ring) checkRecords(head, hint uint64) (end uint64, err error) {
	pos := head
	hintSeen := int64(hint-head) < 0 // behind head it cannot be judged any more
	for {
		w := r.load(pos)
		hintSeen = hintSeen || pos == hint
		if w.age(r.tag(pos)) < 0 {
			break
		}
		g, what := w.granules(), r.wrong(pos, w)
		if what == "" && int64(pos+g-head) > int64(r.size) {
			what = "record reaches into the lap behind head"
		}
		if what != "" {
			return pos, corrupt(pos, w, what)
		}
		for i := uint64(1); i < g; i++ {
			if in := r.load(pos + i); in.age(r.tag(pos+i)) >= 0 {
				return pos, corrupt(pos+i, in, "word inside a record carries its lap's tag")
			}
		}
		if w.is(commit) {
			if err := r.checkMessages(pos, g, w); err != nil {
				return pos, err
			}
		}
		pos += g
	}
	if !hintSeen && int64(hint-pos) < 0 {
		return pos, &CorruptError{hint, uint64(r.load(hint)), "hint is not the start of a record"}
	}
	if int64(hint-pos) > 0 && r.load(pos).age(r.tag(pos)) < 0 {
		return pos, &CorruptError{pos, hint, "hint is ahead of a granule that was never claimed"}
	}
	return pos, nil
}

// checkHead looks for the record that was released last, as long as its word
// cannot have been claimed in the next lap: the frontier stays a frame away.
func (r *Ring) checkHead(head, end uint64) error {
	if head == 0 || int64(end+r.limit-head) > int64(r.size) {
		return nil
	}
	if stepped := r.seg.Word64(offCounters + ctrResyncs).Load(); stepped != 0 {
		return nil
	}
	for g := uint64(1); g <= min(r.limit, head); g++ {
		if w := r.load(head - g); w.age(r.tag(head-g)) == 0 && w.granules() == g {
			return nil
		}
	}
	if r.load(end).age(r.tag(end)) >= 0 {
		return nil // producers went on
	}
	return corrupt(head, r.load(head), "no record ends at head")
}

func (r *Ring) checkMessages(pos, g uint64, w header) error {
	for at := uint64(0); at < g; {
		length, _ := splitInfo(r.entry(pos + at).info.Load())
		if length == void && at > 0 {
			return nil
		}
		if length > maxFrame || at+granulesFor(length) > g {
			return corrupt(pos, w, "message does not fit its record")
		}
		at += granulesFor(length)
	}
	return nil
}

// checkWords looks at every word that is not between head and the frontier:
// it belongs to a lap gone by, and that is over.
func (r *Ring) checkWords(head, end uint64) error {
	for pos := end; int64(pos-head) < int64(r.size); pos++ {
		w := r.load(pos)
		age := w.age(r.tag(pos))
		if age >= 0 && pos != end {
			// Somebody may have claimed from the frontier on since.
			if r.load(end).age(r.tag(end)) < 0 {
				return corrupt(pos, w, "claim ahead of a free granule")
			}
			return nil
		}
		if age < 0 && w.is(busy) {
			return corrupt(pos-r.size, w, "claim behind head")
		}
	}
	return nil
}

func (r *Ring) checkControl(head uint64) error {
	if s := sleepWord(r.sleep.Load()); s.mode() > stuck {
		return &CorruptError{head, uint64(s), fmt.Sprintf("sleep mode %d", s.mode())}
	}
	if n := r.roomWaiters.Load(); n > moreWait {
		return &CorruptError{head, uint64(n), "waiters' flag out of range"}
	}
	if t := r.turn.Load(); t != 0 && t&0xff == 0 {
		return &CorruptError{head, t, "turn without a slot"}
	}
	return nil
}
