package ring_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// The parties of a history: what producers and consumers do in a round, as
// processes of their own or as goroutines.

// roundRules are what parties are told about their rounds.
type roundRules struct {
	seed    uint64
	ops     int // of each producer in a round
	entries int // of each log
}

func (r roundRules) args(log int) []string {
	return []string{strconv.Itoa(log), strconv.FormatUint(r.seed, 10), strconv.Itoa(r.ops), strconv.Itoa(r.entries)}
}

func parseRules(args []string) (log int, r roundRules, err error) {
	var errs [4]error
	log, errs[0] = strconv.Atoi(args[0])
	r.seed, errs[1] = strconv.ParseUint(args[1], 10, 64)
	r.ops, errs[2] = strconv.Atoi(args[2])
	r.entries, errs[3] = strconv.Atoi(args[3])
	return log, r, errors.Join(errs[:]...)
}

func (r roundRules) random(log int, round uint64) *rand.Rand {
	return rand.New(rand.NewPCG(r.seed, round<<8|uint64(log)))
}

const overRound = 1 << 30 // there is no further round

// awaitRound sleeps until a round after the last one is on.
func (b *books) awaitRound(last uint64) uint64 {
	for {
		w := b.word(ctlRound)
		if now := w.Load(); now != last {
			return now
		}
		shm.FutexWait(shm.Word32Low(w), uint32(last), shm.Now()+int64(time.Second))
	}
}

func (b *books) startRound(round, pace uint64) {
	b.word(ctlPace).Store(pace)
	w := b.word(ctlRound)
	w.Store(round)
	shm.FutexWake(shm.Word32Low(w), maxLogs)
}

// ended holds the last round that the party of a log has completed.
func (b *books) ended(log int) *atomic.Uint64 { return b.word(ctlEnded + int64(log)*8) }

// workHistoryProducer plays the producer of a log, round after round.
func workHistoryProducer(w *worker) error {
	log, rules, err := parseRules(w.args)
	if err != nil {
		return err
	}
	a, err := w.ring.Attach()
	if err != nil {
		return err
	}
	defer a.Close()
	b := openBooks(w.ring, rules.entries)
	p := a.NewProducer()
	for round := b.awaitRound(0); round != overRound; round = b.awaitRound(round) {
		if err := produceRound(b.writer(log, rules, round), p, rules, round); err != nil {
			return err
		}
		b.ended(log).Store(round)
	}
	return nil
}

// produceRound sends in every way there is, without waiting for room in even
// rounds. A record has at most 48 granules, and none of its producer's was
// aborted before an aborted one: see the consumer's releases in the specification.
func produceRound(l *logbook, p *ring.Producer, rules roundRules, round uint64) error {
	const largest = 48
	random := rules.random(l.log, round)
	ctx := context.Background()
	size := func() int {
		if random.IntN(3) > 0 {
			return 16 + random.IntN(112)
		}
		return 16 + random.IntN(largest*ring.Granule-15)
	}
	answer := func(f func(opResult, uint64), g uint64, err error) error {
		switch {
		case err == nil:
			f(done, p.Position()-g)
		case errors.Is(err, ring.ErrFull), errors.Is(err, ring.ErrNoConsumer): // the latter having found it full
			f(full, 0)
		default:
			return err
		}
		return nil
	}
	aborted := false
	for range rules.ops {
		waits := round%2 == 1 && random.IntN(3) == 0
		switch random.IntN(8) {
		default:
			n := size()
			g := granules(n)
			v := l.values(1)
			msg := historyMessage(v, n)
			f := l.invoke(opSend, waits, v, 1, g)
			var err error
			if waits {
				err = p.Send(ctx, msg, 0)
			} else {
				err = p.TrySend(msg, 0)
			}
			if err := answer(f, g, err); err != nil {
				return err
			}
			aborted = aborted && err != nil
		case 0: // several messages or none
			n := uint64(2 + random.IntN(3))
			v := l.values(n)
			var msgs [][]byte
			var g uint64
			for i := range n {
				msgs = append(msgs, historyMessage(v+i, 16+random.IntN(600)))
				g += granules(len(msgs[i]))
			}
			f := l.invoke(opSend, waits, v, n, g)
			var err error
			if waits {
				err = p.SendBatch(ctx, msgs, nil)
			} else {
				err = p.TryBatch(msgs, nil)
			}
			if err := answer(f, g, err); err != nil {
				return err
			}
			aborted = aborted && err != nil
		case 1, 2: // fill in place, perhaps sending something else meanwhile
			n := size()
			g := granules(n)
			v := l.values(1)
			f := l.invoke(opClaim, waits, v, 1, g)
			var c ring.Claim
			var err error
			if waits {
				c, err = p.Claim(ctx, n, 0)
			} else {
				c, err = p.TryClaim(n, 0)
			}
			if err := answer(f, g, err); err != nil {
				return err
			}
			if err != nil {
				continue
			}
			if random.IntN(4) == 0 && !aborted {
				// Nobody waits for room while a claim is open: it may be its own.
				v := l.values(1)
				msg := historyMessage(v, 16+random.IntN(100))
				f := l.invoke(opSend, false, v, 1, granules(len(msg)))
				err := p.TrySend(msg, 0)
				if err := answer(f, granules(len(msg)), err); err != nil {
					return err
				}
			}
			if random.IntN(8) == 0 {
				shm.Pause(random.IntN(2000))
			}
			l.pause()
			if !aborted && random.IntN(3) == 0 {
				f := l.invoke(opAbort, false, v, 1, g)
				c.Abort()
				f(done, 0)
				aborted = true
				continue
			}
			used := n - random.IntN(n-15)
			copy(c.Bytes(), historyMessage(v, used))
			f = l.invoke(opCommit, false, v, 1, g)
			if err := c.CommitN(used); err != nil {
				return err
			}
			f(done, 0)
			aborted = false
		}
	}
	return nil
}

func granules(n int) uint64 { return uint64(max(n, 1)+ring.Granule-1) / ring.Granule }

func historyMessage(v uint64, n int) []byte {
	b := make([]byte, n)
	ringtest.Fill(b, uint32(v>>32), uint64(uint32(v)))
	return b
}

// workHistoryConsumer plays the consumer of a log, round after round.
func workHistoryConsumer(w *worker) error {
	log, rules, err := parseRules(w.args)
	if err != nil {
		return err
	}
	b := openBooks(w.ring, rules.entries)
	call := clock()
	c, err := w.ring.Consume()
	for errors.Is(err, ring.ErrConsumerBusy) { // the kernel is still busy with the dead one's end
		time.Sleep(time.Millisecond)
		c, err = w.ring.Consume()
	}
	if err != nil {
		return err
	}
	defer c.Close()
	ret := clock()
	for round, first := b.awaitRound(0), true; round != overRound; round, first = b.awaitRound(round), false {
		l := b.writer(log, rules, round)
		if first {
			l.note(opTakeOver, call, ret, 0, c.Position(), b.r.Head())
		}
		if err := consumeRound(l, c, rules, round); err != nil {
			return err
		}
		b.ended(log).Store(round)
	}
	return nil
}

// consumeRound polls until the producers have ended and nothing is left. An
// instant is both the end of one delivery's interval and the beginning of the
// next one's: their order is that of the log.
func consumeRound(l *logbook, c *ring.Consumer, rules roundRules, round uint64) error {
	random := rules.random(l.log, round)
	var torn error
	for {
		last := l.word(ctlLast).Load() == round
		limit := 1 + random.IntN(12)
		from := clock()
		n, err := c.Poll(limit, func(f ring.Frame) ring.Action {
			now := clock()
			sender, number, err := ringtest.Verify(f.Data)
			if err != nil {
				torn = err
				return ring.Break
			}
			l.note(opDeliver, from, now, uint64(sender)<<32|number, f.Position, l.r.Head())
			from = now
			l.pause()
			return ring.Continue
		})
		now := clock()
		if err := errors.Join(err, torn); err != nil {
			return err
		}
		kind := opEmpty
		if n == limit {
			kind = opPolled
		}
		l.note(kind, from, now, 0, c.Position(), l.r.Head())
		if last && n < limit {
			if end, err := l.r.Frontier(); err != nil || c.Position() == end {
				return err
			}
		}
		switch {
		case n < limit:
			// Sleeping keeps the log short; now and then it looks again at once.
			if random.IntN(4) > 0 {
				err := c.WaitUntil(context.Background(), shm.Now()+int64(200*time.Microsecond))
				if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
					return err
				}
			}
		case random.IntN(6) == 0:
			for range random.IntN(20) { // the ring fills
				shm.Pause(2000)
				runtime.Gosched()
			}
		}
	}
}
