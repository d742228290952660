package stress

import (
	"fmt"
	"maps"
	"strings"
)

// A lane judges what arrives from one incarnation: its messages are numbered
// from 1 without a gap, so whatever arrives is the next one, or something is
// wrong. When the process is gone and the end of its pipe has been told, settle
// compares with the diary:
//
//	acknowledged <= delivered <= sent
//
// and between the two there is nothing or everything of one last send, because
// a worker sends one thing at a time.
type lane struct {
	plan plan

	next  uint64              // the lowest number that has not come
	ahead map[uint64]struct{} // numbers above next that have come
	gone  map[uint64]struct{} // numbers below next that were given up: lost, unless they come late
	odd   []string            // what was wrong with the first few, for the report

	life  int    // of the main process
	again uint64 // the last message that came a second time in this life; 0: none did
	fresh bool   // in this life something new has come: nothing comes a second time any more

	tally
}

// tally counts one lane, or all of them.
type tally struct {
	delivered  uint64 // different messages that came whole
	bytes      uint64
	torn       uint64 // of wrong length, or with wrong bytes
	duplicated uint64 // came again
	reordered  uint64 // came after one that was sent later
	lost       uint64 // acknowledged, and did not come
	invented   uint64 // came, and was never meant to be sent
	partial    uint64 // batches of which a part came
}

func (t *tally) add(o tally) {
	t.delivered += o.delivered
	t.bytes += o.bytes
	t.torn += o.torn
	t.duplicated += o.duplicated
	t.reordered += o.reordered
	t.lost += o.lost
	t.invented += o.invented
	t.partial += o.partial
}

// aheadMax bounds the memory of a lane that has lost something, and window the
// search for the place of a message that does not say its number.
const (
	aheadMax = 1024
	window   = 4096
)

func newLane(p plan) *lane {
	return &lane{plan: p, next: 1, ahead: map[uint64]struct{}{}, gone: map[uint64]struct{}{}}
}

// arrive takes a message. sent is when it was sent, 0 if it does not say.
func (l *lane) arrive(b []byte) (sent int64) {
	if len(b) < headerSize {
		if n, ok := l.placeShort(b); ok {
			l.place(n, len(b))
			return 0
		}
	} else if n, sent, ok := l.plan.open(b); ok {
		l.place(n, len(b))
		return sent
	}
	// It stands where the next one should.
	l.torn++
	l.note("message %d or so, of %d bytes, came torn with %d", l.next, l.plan.size(l.next), len(b))
	l.pass()
	return 0
}

// repeated takes a message if it is a second delivery that may be: marked, at the beginning of
// a life, and in order without a gap. All others are for arrive.
func (l *lane) repeated(b []byte, life int, marked bool) bool {
	if life != l.life {
		l.life, l.again, l.fresh = life, 0, false
	}
	if l.fresh || len(b) < headerSize {
		return false
	}
	n, _, ok := l.plan.open(b)
	if !ok {
		return false
	}
	if n >= l.next {
		if l.again != 0 && l.again != l.next-1 {
			l.reordered++
			l.note("after message %d came a second time, message %d did, and not those between", l.again, n)
		}
		l.fresh = true
		return false
	}
	if !marked || l.again != 0 && n != l.again+1 {
		return false
	}
	l.again = n
	return true
}

// place notes that message n has come whole.
func (l *lane) place(n uint64, size int) {
	_, early := l.ahead[n]
	_, late := l.gone[n]
	switch {
	case n == l.next:
		if len(l.ahead) > 0 {
			l.reordered++
			l.note("message %d, of %d bytes, came late", n, size)
		}
		l.pass()
	case n > l.next && !early:
		l.ahead[n] = struct{}{}
		if len(l.ahead) > aheadMax {
			l.giveUp()
		}
	case late:
		delete(l.gone, n)
		l.reordered++
		l.note("message %d, of %d bytes, came late", n, size)
	default:
		l.duplicated++
		l.note("message %d, of %d bytes, came again", n, size)
		return
	}
	l.delivered++
	l.bytes += uint64(size)
}

// pass moves next on, over what has come already.
func (l *lane) pass() {
	for l.next++; len(l.ahead) > 0; l.next++ {
		if _, ok := l.ahead[l.next]; !ok {
			return
		}
		delete(l.ahead, l.next)
	}
}

// giveUp stops waiting for the numbers in front of the first one ahead.
func (l *lane) giveUp() {
	for {
		if _, ok := l.ahead[l.next]; ok {
			delete(l.ahead, l.next)
			l.pass()
			return
		}
		if len(l.gone) < 64*aheadMax {
			l.gone[l.next] = struct{}{}
		} else {
			l.lost++
		}
		l.next++
	}
}

// placeShort finds the number of a message without a header: nearly always the
// next one; otherwise the nearest that looks like it and has not come, or has.
func (l *lane) placeShort(b []byte) (n uint64, ok bool) {
	if l.plan.isShort(b, l.next) {
		return l.next, true
	}
	for n := range l.gone {
		if l.plan.isShort(b, n) {
			return n, true
		}
	}
	for n := l.next + 1; n < l.next+window; n++ {
		if _, early := l.ahead[n]; !early && l.plan.isShort(b, n) {
			return n, true
		}
	}
	for n := l.next - 1; n > 0 && n+window > l.next; n-- {
		if l.plan.isShort(b, n) {
			return n, true
		}
	}
	return 0, false
}

// settle compares with the diary of the process, which is gone.
func (l *lane) settle(sent, acked uint64) {
	for n := range l.gone {
		if n <= acked { // a larger one was given up for one that must not exist
			l.lose(n, acked)
		}
	}
	for n := l.next; n <= acked; n++ {
		if _, ok := l.ahead[n]; !ok {
			l.lose(n, acked)
		}
	}
	last := l.next - 1
	for n := range maps.Keys(l.ahead) {
		last = max(last, n)
	}
	if last > sent {
		l.invented += last - sent
	} else if last > acked && last < sent {
		l.partial++
	}
}

func (l *lane) lose(n, acked uint64) {
	l.lost++
	l.note("message %d of %d, of %d bytes, was lost", n, acked, l.plan.size(n))
}

// note keeps the first few words about what was wrong.
func (l *lane) note(format string, args ...any) {
	if len(l.odd) < 4 {
		l.odd = append(l.odd, fmt.Sprintf(format, args...))
	}
}

// complaint describes what is wrong with the lane, "" if nothing.
func (l *lane) complaint() string {
	t := l.tally
	if t.torn+t.duplicated+t.reordered+t.lost+t.invented+t.partial == 0 {
		return ""
	}
	return fmt.Sprintf("worker %d.%d: %d lost, %d torn, %d duplicated, %d reordered, %d never sent, %d sends delivered in part: %s",
		l.plan.seat, l.plan.incarnation, t.lost, t.torn, t.duplicated, t.reordered, t.invented, t.partial, strings.Join(l.odd, "; "))
}
