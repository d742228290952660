package ring_test

import (
	"slices"
	"testing"
	"time"
)

// tally counts what was in the histories of a test, so that its log shows
// whether they are worth checking.
type tally struct {
	began                                                                   time.Time
	histories, ops, sent, batches, aborted, full, fullBeside, empty, killed int
	overlapping, pending, again                                             int
}

func (n *tally) add(h history) {
	n.addLong(h)
	for _, o := range h.ops {
		if slices.ContainsFunc(h.ops, func(w op) bool { return w.log != o.log && w.call <= o.ret && w.ret >= o.call }) {
			n.overlapping++
		}
		if o.result == full && h.waitsBeside(o) {
			n.fullBeside++
		}
	}
}

// addLong leaves out what takes quadratic time.
func (n *tally) addLong(h history) {
	if n.histories == 0 {
		n.began = time.Now()
	}
	n.histories++
	n.ops += len(h.ops)
	delivered := map[uint64]bool{}
	for _, o := range h.ops {
		switch {
		case o.result == full:
			n.full++
		case o.result == pending:
			n.pending++
		case o.kind == opSend && o.count > 1:
			n.batches++
		case o.kind == opSend, o.kind == opCommit:
			n.sent++
		case o.kind == opAbort:
			n.aborted++
		case o.kind == opEmpty:
			n.empty++
		case o.kind == opDie:
			n.killed++
		case o.kind == opDeliver && delivered[o.value]:
			n.again++
		case o.kind == opDeliver:
			delivered[o.value] = true
		}
	}
}

// goOn says whether a longer soak was asked for than has been done.
func (n *tally) goOn() bool { return time.Since(n.began) < *soakTime-3*time.Second }

func (n *tally) log(t *testing.T) {
	t.Logf("%d histories, %d operations, %d of them beside another; %d messages and %d batches sent, %d records aborted; "+
		"full %d times, %d of them beside one that waits; empty %d; %d killed, %d operations unanswered, %d deliveries repeated",
		n.histories, n.ops, n.overlapping, n.sent, n.batches, n.aborted, n.full, n.fullBeside, n.empty, n.killed, n.pending, n.again)
}
