package ring_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/require"
)

// mustBeLinearizable checks a history in every way there is.
func (h history) mustBeLinearizable(t testing.TB) {
	t.Helper()
	h = h.finish(t)
	f, err := h.fifo()
	if err == nil {
		err = f.check()
	}
	require.NoError(t, err, "%s", h.dump())
	require.True(t, f.porcupine(), "the search finds an error that the check does not:\n%s", h.dump())
	if !h.linearizable(t) {
		require.FailNow(t, "not linearizable", "%s\n%s", h.stuckAt(), h.dump())
	}
}

func (h history) dump() string {
	var s strings.Builder
	for _, o := range h.ops {
		s.WriteString(o.String() + "\n")
	}
	return s.String()
}

// recordHere plays a round with goroutines for parties.
func recordHere(t testing.TB, r *ring.Ring, b *books, rules roundRules, round uint64, producers []*ring.Producer, c *ring.Consumer) history {
	t.Helper()
	start := r.Head()
	var senders, all sync.WaitGroup
	errs := make([]error, len(producers)+1)
	logs := []int{len(producers)}
	for i, p := range producers {
		logs = append(logs, i)
		senders.Go(func() { errs[i] = produceRound(b.writer(i, rules, round), p, rules, round) })
	}
	all.Go(func() { errs[len(producers)] = consumeRound(b.writer(len(producers), rules, round), c, rules, round) })
	senders.Wait()
	b.word(ctlLast).Store(round)
	all.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	h := b.history(start, logs, nil)
	for _, log := range logs {
		b.clear(log)
	}
	return h
}

// Three producers and a consumer, goroutines of one process: it runs on heap
// memory too, and so under the race detector.
func TestHistories(t *testing.T) {
	for _, kind := range []shm.Kind{shm.Heap, shm.Memfd} {
		t.Run(kind.String(), func(t *testing.T) {
			random := ringtest.Random(t)
			rules := roundRules{seed: random.Uint64(), ops: 60, entries: 4096}
			r, b := historyRing(t, kind, 4, rules.entries)
			var producers []*ring.Producer
			for range 3 {
				producers = append(producers, ringtest.Producer(t, r))
			}
			c := ringtest.Consume(t, r)
			var seen tally
			for round := uint64(1); round <= 20 || seen.goOn(); round++ {
				h := recordHere(t, r, b, rules, round, producers, c)
				seen.add(h)
				h.mustBeLinearizable(t)
			}
			seen.log(t)
		})
	}
}

// troupe is a set of processes that play rounds together.
type troupe struct {
	t     *testing.T
	r     *ring.Ring
	b     *books
	rules roundRules
	next  int // log

	producers []*party
	consumer  *party
}

type party struct {
	*child
	log int
}

const troupeProducers = 3

func newTroupe(t *testing.T, rules roundRules) *troupe {
	p := &troupe{t: t, rules: rules}
	p.r, p.b = historyRing(t, shm.Memfd, maxLogs, rules.entries)
	for range troupeProducers {
		p.producers = append(p.producers, p.start("historyProducer"))
	}
	p.consumer = p.start("historyConsumer")
	return p
}

func (p *troupe) start(role string) *party {
	p.next++
	return &party{start(p.t, p.r, role, p.rules.args(p.next-1)...), p.next - 1}
}

// play plays a round, in which as many parties are killed, and replaced.
func (p *troupe) play(round uint64, kills int, random *rand.Rand) history {
	start := p.r.Head()
	pace := uint64(0)
	if kills > 0 {
		pace = 5000 // some 0.1 ms
	}
	p.b.startRound(round, pace)
	all := slices.Clone(p.producers)
	consumers := []*party{p.consumer}
	var deaths []op
	for range kills {
		if i := random.IntN(troupeProducers + 1); i < troupeProducers {
			deaths = append(deaths, p.killed(p.producers[i], round, random))
			p.producers[i] = p.start("historyProducer")
			all = append(all, p.producers[i])
		} else {
			p.killed(p.consumer, round, random)
			p.consumer = p.start("historyConsumer")
			consumers = append(consumers, p.consumer)
		}
	}
	for _, w := range p.producers {
		p.await(w, round)
	}
	p.b.word(ctlLast).Store(round)
	p.await(p.consumer, round)
	var logs []int
	for _, w := range append(all, consumers...) {
		logs = append(logs, w.log)
	}
	h := p.b.history(start, logs, deaths)
	for _, log := range logs {
		p.b.clear(log)
	}
	return h
}

// killed kills a party once it has begun so many operations that it is in the
// midst of the round; the instant is chance.
func (p *troupe) killed(w *party, round uint64, random *rand.Rand) op {
	n, after := 0, 1+random.IntN(p.rules.ops)
	ringtest.Until(p.t, "a party to be killed", func() bool {
		for range 1000 { // Until looks too seldom to meet the middle of a round
			if n = p.b.begun(w.log, n); n >= after || p.b.ended(w.log).Load() == round {
				return true
			}
		}
		return false
	})
	call := clock()
	w.kill()
	return op{kind: opDie, result: done, value: uint64(w.log), call: call, ret: clock()}
}

func (p *troupe) await(w *party, round uint64) {
	ringtest.Until(p.t, "the end of a round", func() bool { return p.b.ended(w.log).Load() == round })
}

// leave ends the processes, in order.
func (p *troupe) leave() {
	p.b.startRound(overRound, 0)
	for _, w := range append(p.producers, p.consumer) {
		require.NoError(p.t, w.wait())
	}
}

// Real processes, three producers and a consumer, round after round; in the last one
// some are killed with SIGKILL wherever they are, and others take their places.
// Each round is a history of some hundred operations that the search decides.
func TestProcessHistories(t *testing.T) {
	random := ringtest.Random(t)
	var seen tally
	for n := 0; n < 3 || seen.pending < 3 || seen.again < 1 || seen.goOn(); n++ {
		p := newTroupe(t, roundRules{seed: random.Uint64(), ops: 60, entries: 4096})
		for round := uint64(1); round <= 6; round++ {
			kills := 0
			if round > 4 {
				kills = 1 + random.IntN(3)
			}
			h := p.play(round, kills, random)
			seen.add(h)
			h.mustBeLinearizable(t)
		}
		p.leave()
	}
	seen.log(t)
}

// Long histories, too long for the search: the linear check decides.
func TestProcessLongHistories(t *testing.T) {
	random := ringtest.Random(t)
	ops := 10_000
	if raceEnabled {
		ops = 2_000 // the detector makes a minute of it
	}
	p := newTroupe(t, roundRules{seed: random.Uint64(), ops: ops, entries: 1 << 17})
	var seen tally
	for round := uint64(1); round <= 2 || seen.goOn(); round++ {
		h := p.play(round, 0, random).finish(t)
		seen.addLong(h)
		f, err := h.fifo()
		require.NoError(t, err)
		require.NoError(t, f.check())
		require.NoError(t, h.checkAnswers())
	}
	p.leave()
	seen.log(t)
}
