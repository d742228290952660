package model

import "fmt"

// Result is what an exploration found.
type Result struct {
	States, Edges int // edges without kills and other events
	Events        int // kills, crashes, rebirths and cancellations
	Resting       int // states in which only a timeout goes on, and something is still to do
	Complete      bool
	Violation     *Violation
}

func (r Result) String() string {
	s := fmt.Sprintf("%d states, %d edges, %d events", r.States, r.Edges, r.Events)
	if r.Resting > 0 {
		s += fmt.Sprintf(", %d rest on a timeout", r.Resting)
	}
	if !r.Complete {
		s += ", incomplete"
	}
	if r.Violation != nil {
		s += "; " + r.Violation.String()
	}
	return s
}

// explorer visits states breadth first, so that the way to a violation is a shortest one.
type explorer struct {
	m      *model
	seen   *store
	queue  queue // what is seen and not visited yet
	parent []uint32
	first  []uint32 // first[k] is where the progress edges of state k begin
	edges  []uint32
	events int
	rests  int
	drains []uint32 // the drained states
}

// Explore visits every state that the configuration can reach, up to limit states.
func Explore(c Config, limit int) Result {
	x := &explorer{m: newModel(c), seen: newStore()}
	s := x.m.begin()
	x.seen.add(&s)
	x.queue.push(&s)
	x.parent = append(x.parent, 0)
	complete := true
	var k uint32
	for ; k < x.seen.n && x.m.fault == nil; k++ {
		if complete = int(x.seen.n) <= limit; !complete {
			break
		}
		x.visit(k)
	}
	r := Result{States: int(x.seen.n), Edges: len(x.edges), Events: x.events, Complete: complete, Violation: x.m.fault}
	switch {
	case r.Violation != nil:
		r.Violation.Trace = x.trace(k - 1)
		r.Complete = false
	case complete:
		x.first = append(x.first, uint32(len(x.edges)))
		r.Violation = x.progress()
		r.Resting = x.rests
	}
	return r
}

// visit tries every step and every event in state k, the next in the queue.
func (x *explorer) visit(k uint32) {
	x.first = append(x.first, uint32(len(x.edges)))
	s := x.queue.pop()
	resting, timed := true, false
	x.m.successors(s, func(n *state, how transition) {
		if x.m.fault != nil {
			return
		}
		id, fresh := x.seen.add(n)
		if fresh {
			x.queue.push(n)
			x.parent = append(x.parent, k)
			x.m.invariants(n)
		}
		if how.kind == event {
			x.events++
			return
		}
		timed = timed || how.kind == timeout
		resting = resting && how.kind == timeout
		x.edges = append(x.edges, id)
	})
	switch {
	case x.m.drained(s):
		x.drains = append(x.drains, k)
	case resting && timed:
		x.rests++
	}
}

// transition names one way from a state to the next.
type transition struct {
	kind  kind
	actor int // claimant, -1 the consumer, -2 the asker, -3 the reader
	what  access
}

type kind int

const (
	step    kind = iota
	timeout      // a timed wait ends by itself
	event        // may happen, need not: never counted on for progress
)

// successors calls yield with each state that may follow s, in a place that the next one takes.
func (m *model) successors(s *state, yield func(*state, transition)) {
	n := &m.successor
	for i := range m.Scripts {
		pc := s.claimants[i].pc
		*n = *s
		if !m.blocked(s, i) && m.stepClaimant(n, i) {
			yield(n, transition{step, i, claimantSteps[pc]})
		}
		if *n = *s; m.drainOne(n, i) {
			yield(n, transition{step, i, access{"late", "store"}})
		}
		if pc == pcAsleep {
			m.asleep(s, i, yield)
		}
	}
	pc := s.consumer.pc
	*n = *s
	if m.stepConsumer(n, 0) {
		yield(n, transition{step, -1, consumerSteps[pc]})
	}
	for choice := 1; choice < m.roomChoices(s); choice++ {
		*n = *s
		m.stepConsumer(n, choice)
		yield(n, transition{step, -1, consumerSteps[pc]})
	}
	if *n = *s; pc == csLook && m.mayAsk(s) && m.stepConsumer(n, 1) {
		yield(n, transition{step, -1, consumerSteps[pc]})
	}
	if pc == csAsleep && m.Timeouts {
		*n = *s
		n.consumer.pc = csAwake
		yield(n, transition{timeout, -1, access{word: "timeout"}})
	}
	if pc := s.asker.pc; pc != asIdle {
		*n = *s
		m.stepAsker(n)
		yield(n, transition{step, -2, askerSteps[pc]})
	}
	if pc := s.reader.pc; pc != rdIdle {
		*n = *s
		m.stepReader(n)
		yield(n, transition{step, -3, readerSteps[pc]})
	}
	m.events(s, yield)
}

// asleep: what may end a wait for room, besides the consumer.
func (m *model) asleep(s *state, i int, yield func(*state, transition)) {
	n := &m.successor
	if m.Timeouts {
		*n = *s
		n.claimants[i].pc = pcAskTurn
		yield(n, transition{timeout, i, access{word: "timeout"}})
	}
	if m.message(s, i).Cancel {
		*n = *s
		m.next(n, i)
		yield(n, transition{event, i, access{word: "cancelled"}})
	}
}

// events: kills, new processes, consumers' crashes, within the budget.
func (m *model) events(s *state, yield func(*state, transition)) {
	var seen uint8
	n := &m.successor
	for i := range m.Scripts {
		slot := m.slot(i)
		if seen>>slot&1 != 0 {
			continue
		}
		seen |= 1 << slot
		if s.kills < m.Kills && s.isLocked(slot) && m.unfinished(s, slot) {
			*n = *s
			m.kill(n, slot)
			yield(n, transition{event, i, access{word: "killed"}})
		}
		if s.rebirths < m.Rebirths && !s.isLocked(slot) && m.unfinished(s, slot) {
			*n = *s
			m.rebirth(n, slot)
			yield(n, transition{event, i, access{word: "new process locks the slot"}})
		}
		if m.Names && s.reader.pc == rdIdle {
			*n = *s
			n.reader = reader{pc: rdInstance, slot: slot}
			yield(n, transition{event, -3, access{word: "begins"}})
		}
		if s.asks < m.Asks && s.asker.pc == asIdle && s.consumer.pc < csTakeLoad {
			*n = *s
			n.asks++
			n.asker = asker{pc: asTurn, slot: slot}
			yield(n, transition{event, -2, access{word: "begins"}})
		}
	}
	if s.crashes < m.Crashes {
		*n = *s
		m.crash(n)
		yield(n, transition{event, -1, access{word: "killed"}})
	}
}

// unfinished says whether a claimant of the slot has something left to do.
func (m *model) unfinished(s *state, slot uint8) bool {
	for i := range m.Scripts {
		c := &s.claimants[i]
		if m.slot(i) == slot && c.pc != pcDone && (c.pc != pcDead || int(c.msg) < len(m.Scripts[i])) {
			return true
		}
	}
	return false
}

// stepClaimant makes claimant i's next step, and says whether there is one.
func (m *model) stepClaimant(s *state, i int) bool {
	switch pc := s.claimants[i].pc; {
	case pc <= pcJoin || pc == pcAsleep:
		return false
	case pc <= pcHeader:
		m.stepClaim(s, i)
	case pc <= pcCleanup:
		m.stepCommit(s, i)
	case pc <= pcRingWake:
		m.stepRing(s, i)
	case pc <= pcGiveTurn:
		m.stepRoom(s, i)
	default:
		m.stepRoster(s, i)
	}
	return true
}
