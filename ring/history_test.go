package ring_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A history is what the parties did to a ring, each operation with the instants
// between which it must have taken effect. Every party writes a log of its own
// in the segment's user area, which outlives it: the invocation before it calls
// the ring, the answer when the call has returned. An operation without an answer
// is its last: it was killed there, and may or may not have taken effect.
//
// Instants are readings of CLOCK_MONOTONIC, by the system call. The kernel keeps
// that clock from going backwards between processors, so an instant that was read
// before another in the order of cause and effect is never the larger one. (shm.Now
// would not do: it ties the runtime's clock to the kernel's anew in each process,
// to about a microsecond.) The processor cannot move the operation out of its
// interval either: the invocation's instant is published in the log by a locked
// store before the call begins, and the answer's is read behind the locked
// instructions that the call ends with. A coarse clock makes instants equal; then the
// two operations count as concurrent. So coarseness, and the time between reading
// the clock and calling the ring, only ever widen an interval: they can hide an
// error, not make one.

// clock is the instant of now.
func clock() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

const never = math.MaxInt64 // the instant of an answer that did not come

type opKind uint8

const (
	opSend     opKind = iota + 1 // one message or a batch, claimed and committed by one call
	opClaim                      // space for one message
	opCommit                     // of the record that begins with the value
	opAbort                      // likewise
	opDeliver                    // one message was handed to the consumer's handler
	opEmpty                      // Poll ended without a limit or the handler having ended it
	opPolled                     // Poll ended because of its limit
	opTakeOver                   // a consumer took the seat
	opDie                        // the test killed the party whose log number is the value
)

type opResult uint8

const (
	pending opResult = iota // no answer
	done
	full
)

// op is one operation. Values are unique: the number of the log, and a count.
type op struct {
	log, index int // where it stands
	kind       opKind
	waits      bool // the call waits for room, and may hold the turn meanwhile
	result     opResult
	call, ret  int64
	value      uint64 // the first
	count      uint64 // of a batch's values, which follow each other
	granules   uint64
	pos        uint64 // of the record; of the consumer after a Poll or take-over
	head       uint64 // as the consumer sees it, released up to here
}

const unknown = math.MaxUint64 // a position that nobody has told

func (o op) String() string {
	names := [...]string{"?", "send", "claim", "commit", "abort", "deliver", "empty", "polled", "take over", "die"}
	return fmt.Sprintf("%d.%d %s %x×%d g=%d pos=%d head=%d %v [%d %d]", o.log, o.index, names[o.kind], o.value, o.count,
		o.granules, int64(o.pos), o.head, [...]string{"pending", "done", "full"}[o.result], o.call, o.ret)
}

// Words of the user area: the controls, on a page of their own, and then the
// logs. An entry has eight words; its invocation's instant is written last.
const (
	ctlRound  = 0  // futex: the round that parties are in
	ctlLast   = 8  // the round whose producers have ended
	ctlPace   = 16 // parties pause for up to so many PAUSEs at every turn
	ctlEnded  = 64 // by log: the last round that its party has completed
	logsAt    = 4096
	entrySize = 64
	maxLogs   = 16

	entCall   = 0
	entReturn = 8
	entWhat   = 16 // kind, result, waits, granules, count: see pack
	entValue  = 24
	entPos    = 32
	entHead   = 40
)

// books are the logs of all parties.
type books struct {
	r       *ring.Ring
	at      int64
	entries int // in each log
}

func booksSize(logs, entries int) int64 { return logsAt + int64(logs)*int64(entries)*entrySize }

func openBooks(r *ring.Ring, entries int) *books {
	at, _ := r.User()
	return &books{r, at, entries}
}

func (b *books) word(off int64) *atomic.Uint64 { return b.r.Segment().Word64(b.at + off) }

func (b *books) entry(log, index int) int64 {
	return logsAt + (int64(log)*int64(b.entries)+int64(index))*entrySize
}

func pack(kind opKind, result opResult, waits bool, granules, count uint64) uint64 {
	w := uint64(kind) | uint64(result)<<8 | granules<<24 | count<<48
	if waits {
		w |= 1 << 16
	}
	return w
}

// read returns a log's entries.
func (b *books) read(log int) (all []op) {
	for i := range b.entries {
		at := b.entry(log, i)
		call := int64(b.word(at + entCall).Load())
		if call == 0 {
			break
		}
		what := b.word(at + entWhat).Load()
		o := op{
			log: log, index: i, kind: opKind(what), result: opResult(what >> 8), waits: what>>16&1 != 0,
			call: call, ret: int64(b.word(at + entReturn).Load()),
			value: b.word(at + entValue).Load(), granules: what >> 24 & 0xffffff, count: what >> 48,
			pos: b.word(at + entPos).Load(), head: b.word(at + entHead).Load(),
		}
		if o.ret == 0 { // killed before the answer, or while it was written
			o.ret, o.result, o.pos = never, pending, unknown
		}
		all = append(all, o)
	}
	return all
}

// begun tells how many operations the party of a log has begun, at least since.
func (b *books) begun(log, since int) int {
	for since < b.entries && b.word(b.entry(log, since)+entCall).Load() != 0 {
		since++
	}
	return since
}

func (b *books) clear(log int) {
	for i, n := 0, b.begun(log, 0); i < n; i++ {
		for off := int64(0); off < entrySize; off += 8 {
			b.word(b.entry(log, i) + off).Store(0)
		}
	}
}

// logbook is the writer of one log.
type logbook struct {
	*books
	log, next int
	number    uint64 // values so far
	pauses    *rand.Rand
}

// writer is that of a log in a round.
func (b *books) writer(log int, rules roundRules, round uint64) *logbook {
	return &logbook{books: b, log: log, pauses: rules.random(maxLogs+log, round)}
}

// values takes n new values and returns the first.
func (l *logbook) values(n uint64) uint64 {
	first := uint64(l.log)<<32 | (l.number + 1)
	l.number += n
	return first
}

// invoke writes an invocation. The caller then does it, and writes the answer.
func (l *logbook) invoke(kind opKind, waits bool, value, count, granules uint64) (answer func(opResult, uint64)) {
	at := l.take()
	l.word(at + entWhat).Store(pack(kind, pending, waits, granules, count))
	l.word(at + entValue).Store(value)
	l.word(at + entCall).Store(uint64(clock()))
	l.pause()
	return func(result opResult, pos uint64) {
		l.pause()
		ret := clock()
		l.word(at + entWhat).Store(pack(kind, result, waits, granules, count))
		l.word(at + entPos).Store(pos)
		l.word(at + entReturn).Store(uint64(ret))
	}
}

// note writes an operation that is over.
func (l *logbook) note(kind opKind, call, ret int64, value, pos, head uint64) {
	at := l.take()
	l.word(at + entWhat).Store(pack(kind, done, false, 0, 1))
	l.word(at + entValue).Store(value)
	l.word(at + entPos).Store(pos)
	l.word(at + entHead).Store(head)
	l.word(at + entReturn).Store(uint64(ret))
	l.word(at + entCall).Store(uint64(call))
}

// pause lets others come between, where a round is to be slow: so that who is
// killed is met in the midst of an operation.
func (l *logbook) pause() {
	if n := l.word(ctlPace).Load(); n > 0 {
		shm.Pause(l.pauses.IntN(int(n)))
	}
}

func (l *logbook) take() int64 {
	if l.next == l.entries {
		panic(fmt.Sprintf("log %d is full", l.log))
	}
	l.next++
	return l.entry(l.log, l.next-1)
}

// history is one round: it begins with an empty ring at a position.
type history struct {
	size  uint64 // of the ring, in granules
	start uint64
	ops   []op
	// drained: the consumer went on until it had come behind everything claimed.
	drained bool
}

// parties that play a round on r, each with its log.
func (b *books) history(start uint64, logs []int, kills []op) history {
	h := history{size: b.r.Granules(), start: start, drained: true}
	for _, log := range logs {
		h.ops = append(h.ops, b.read(log)...)
	}
	h.ops = append(h.ops, kills...)
	return h
}

// locate tells operations without an answer where their record lay, if one of its
// messages was delivered.
func (h *history) locate() {
	at := map[uint64]uint64{}
	for _, o := range h.ops {
		if o.kind == opDeliver {
			at[o.value] = o.pos
		}
	}
	for i := range h.ops {
		o := &h.ops[i]
		if o.result == pending && (o.kind == opSend || o.kind == opClaim) {
			for v := o.value; v < o.value+max(o.count, 1); v++ {
				if pos, ok := at[v]; ok {
					o.pos = pos
				}
			}
		}
	}
}

// finish is the history as the checkers take it.
func (h history) finish(t testing.TB) history {
	t.Helper()
	h.locate()
	for _, o := range h.ops {
		require.True(t, o.ret >= o.call, "the clock went backwards: %v", o)
	}
	return h
}

// historyRing makes a ring with room for logs.
func historyRing(t testing.TB, kind shm.Kind, logs, entries int) (*ring.Ring, *books) {
	r := ringtest.New(t, kind, ring.Options{Capacity: ring.MinCapacity, UserSize: booksSize(logs, entries)})
	return r, openBooks(r, entries)
}
