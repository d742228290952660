package sweep

import (
	"errors"
	"os"
	"slices"
	"time"

	"github.com/shmrouter/shmrouter/ring"
)

// What the survivors of a ring do while a victim stands, and when it is dead.

const (
	afterKill = 60                    // messages of the neighbour after a death: more than a lap
	pressing  = 200                   // while a victim stands: three laps
	giveUp    = 10 * time.Millisecond // without room for so long, the neighbour gives up
)

// others lets the neighbour send while victims stand, and the consumer read. Either they do several laps, or
// a victim's claim stands in the way, and the consumer says whose it is.
func (w *ringWorld) others(stopped []*role) error {
	w.pressed = true
	if err := w.ring.Check(); err != nil {
		w.book.complain("while the victim %s: %v", doing(stopped), err)
	}
	if w.reader != nil {
		return w.withoutReader(stopped)
	}
	if err := w.friend.tell(order{Do: doPress, Count: pressing, Seed: w.seed, Patience: giveUp}, nil); err != nil {
		return err
	}
	w.awaken()
	for end := time.Now().Add(patience); ; {
		n, err := w.cons.Poll(manyTakes, w.deliver)
		if err != nil {
			w.book.complain("Poll, while the victim stands: %v", err)
			return nil
		}
		full, err := w.noRoom()
		if err != nil {
			return err
		}
		switch {
		case !full && !w.friend.owed:
			if err := w.drain(); err != nil || len(stopped) == 0 || w.op.asleep {
				return err
			}
			// When the victim goes on, every granule holds a message that is not yet consumed.
			return w.friend.do(order{Do: doFill, Size: ring.Granule}, nil)
		case full && slices.ContainsFunc(stopped, w.holdsUp):
			return nil // and that is right
		case full && w.empty(): // it was only slow
			if err := w.friend.tell(order{Do: doPress, Count: pressing, Seed: w.seed, Patience: giveUp}, nil); err != nil {
				return err
			}
		case time.Now().After(end):
			w.book.complain("while the victim %s, the others do not get on, and it is not one that may hold a claim", doing(stopped))
			return nil
		}
		if n > 0 {
			continue
		}
		if err := w.cons.WaitUntil(background, in(2*time.Millisecond)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			w.book.complain("Wait, while the victim stands: %v", err)
			return nil
		}
	}
}

func doing(stopped []*role) string {
	if len(stopped) == 0 {
		return "is through"
	}
	return "stands"
}

// holdsUp tells whether the consumer says that a claim of this victim is in the way. One that has just taken
// the slot of a dead one is named when it has written down its name; before that it is the dead one, or nobody.
func (w *ringWorld) holdsUp(r *role) bool {
	return w.stalled[r.pid] || r.op.name == "attach" && (w.stalled[w.corpse.pid] || w.stalled[0])
}

// noRoom asks whether the neighbour is done because it found no room.
func (w *ringWorld) noRoom() (full bool, err error) {
	if !w.friend.owed {
		return true, nil
	}
	a, _, err := w.friend.answered(0)
	if a.Err != "" {
		w.book.complain("the neighbour, while the victim stands: %s", a.Err)
	}
	return a.Full, err
}

// empty tells whether there is nothing that the consumer has not consumed.
func (w *ringWorld) empty() bool {
	end, err := w.ring.Frontier()
	return err == nil && w.cons.Position() >= end
}

// withoutReader is others where the victim has the consumer's seat, or had it, or is about to take it.
func (w *ringWorld) withoutReader(stopped []*role) (err error) {
	c, err := w.ring.Consume(ring.WithWaiting(ring.Thrift), ring.WithOnSkip(func(ring.SkipEvent) { w.skips++ }))
	if err == nil { // it is free
		w.cons = c
		w.inherit(w.reader)
		w.drainAll("while the victim stands")
		return w.leave()
	}
	if !errors.Is(err, ring.ErrConsumerBusy) {
		return err
	}
	if err := w.friend.tell(order{Do: doPress, Count: pressing, Seed: w.seed, Patience: giveUp}, nil); err != nil {
		return err
	}
	a, ok, err := w.friend.answered(patience)
	switch {
	case err != nil:
		return err
	case !ok:
		w.book.complain("Send does not end at its deadline while the consumer stands")
	case a.Err != "":
		w.book.complain("the neighbour, while the consumer stands: %s", a.Err)
	case !a.Full:
		w.book.complain("the consumer stands, and three laps were sent")
	}
	return nil
}

// drainAll has the neighbour send, and consumes all there is.
func (w *ringWorld) drainAll(when string) {
	sent := w.friend.sent + afterKill
	if err := w.friend.tell(order{Do: doSend, Count: afterKill, Seed: w.seed, Patience: patience}, nil); err != nil {
		w.book.complain("%s: %v", when, err)
		return
	}
	w.wake("the neighbour sends")
	w.drainUntil(when, func() bool { return w.book.from[byNeighbour].last >= sent })
	a, ok, err := w.friend.answered(patience)
	switch {
	case err != nil:
		w.book.complain("%s: %v", when, err)
	case !ok:
		w.book.complain("%s: the neighbour does not get on", when)
	case a.Err != "":
		w.book.complain("%s: the neighbour: %s", when, a.Err)
	}
	if end, err := w.ring.Frontier(); err != nil {
		w.book.complain("%s: %v", when, err)
	} else {
		w.drainUntil(when, func() bool { return w.cons.Position() >= end })
	}
}

// drainUntil consumes until cond holds. It sleeps without a time limit but that of the test.
func (w *ringWorld) drainUntil(when string, cond func() bool) {
	for end := in(patience); !cond(); {
		n, err := w.cons.Poll(manyTakes, w.deliver)
		if err == nil && n == 0 && !cond() {
			err = w.cons.WaitUntil(background, end)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			w.book.complain("%s: no progress for %v: what was sent does not arrive", when, patience)
			return
		}
		if err != nil {
			w.book.complain("%s: %v", when, err)
			return
		}
	}
}

// goesOn puts the consumer to sleep again where it slept when the victim began.
func (w *ringWorld) goesOn() error {
	if !w.op.asleep || w.waiter != nil {
		return nil
	}
	if w.empty() {
		return w.sleep()
	}
	return nil
}

// through sees that who sleeps is woken by what the victim did, and that nothing is left in the way.
func (w *ringWorld) through() error {
	if w.reader != nil {
		return nil
	}
	if w.waiter != nil {
		end, err := w.ring.Frontier()
		if err != nil {
			w.book.complain("at the operation's end: %v", err)
			return nil
		}
		if end > w.sleeper {
			w.wake("there is something to be consumed")
		}
	}
	return w.others(nil)
}

// aftermath judges the try when its victims are dead.
func (w *ringWorld) aftermath(all []*role) error {
	if err := w.ring.Check(); err != nil {
		w.book.complain("after the death: %v", err)
	}
	if w.cons == nil {
		return nil // the complaint is made
	}
	w.drainAll("after the death")
	for _, r := range all {
		w.book.judgeVictim(r.diary, r.sender, r.op)
		if r.whole && r.diary.result.Load() == pending {
			w.book.complain("%s came to its end, and its call has not returned", senderNames[r.sender])
		}
	}
	w.book.judgeWhole(byNeighbour, w.friend.sent)
	if w.corpse != nil {
		w.book.judgeWhole(byCorpse, w.corpse.diary.acked.Load())
	}
	if err := w.friend.do(order{Do: doLeave}, nil); err != nil {
		w.book.complain("detaching: %v", err)
	}
	if err := w.ring.Check(); err != nil {
		w.book.complain("at the end: %v", err)
	}
	return nil
}
