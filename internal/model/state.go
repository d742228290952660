package model

import (
	"fmt"
	"strings"
)

// maxClaimants is the number of claimants a state has room for.
const maxClaimants = 3

// state is a comparable value without padding, so that it can be hashed and compared as plain bytes.
type state struct {
	// Shared memory.
	table       [H]word  // T[i].word
	cells       [H]uint8 // one payload cell per granule, T[i].info included
	hint        uint8    // written by claimants, plain
	head        uint8    // written by the consumer
	sleep       doze     // written by the consumer
	roomWaiters uint8    // set by waiters, swapped to 0 by the consumer, which may set it again; the ring tells the two apart
	turn        uint8    // claimant+1 that a large frame waits for, 0 = nobody

	locked uint8 // the kernel's: bit per slot whose byte is locked; from bit 4 on, see closed

	instance, pid [maxClaimants]uint8 // the roster, per slot; a process's pid is the instance that it took

	consumer  consumer
	claimants [maxClaimants]claimant
	asker     asker
	reader    reader

	// Spent budget of events.
	kills, rebirths, crashes, asks uint8
	believedDead                   uint8 // mutant: slots once seen unlocked
}

// asker is a goroutine of the consumer's process that asks whether a slot is alive.
type asker struct{ pc, slot, turn uint8 }

// reader reads a seat of the roster.
type reader struct{ pc, slot, instance, pid uint8 }

// doze is the sleep word: where the consumer sleeps, in which episode, in which mode.
type doze struct{ pos, episode, mode uint8 }

const (
	awake  = iota
	idle   // before an older word
	inBusy // before a BUSY word
)

// consumer holds the consumer's locals.
type consumer struct {
	pc      uint8
	r       uint8 // position of the next record
	batch   uint8 // records of this Poll
	cell    uint8 // payload cell to be read next, inner word to be scrubbed, claimant to run a barrier
	value   uint8 // first cell of the record being read
	episode uint8
	nap     uint8 // minding: looks after waiters, having found nothing; short: its nap will be a short one
	_       uint8 // no padding
	w       word  // the word seen at r
}

// What the consumer does because it has found nothing.
const (
	minding = 1 + iota
	short
)

// claimant holds one claimant's locals: one goroutine of the process that holds the slot.
type claimant struct {
	w        word    // the word seen at t
	late     [2]word // stores on their way to memory, the older first
	lateAt   [2]uint8
	pc       uint8 // next step
	msg      uint8 // index of the message at hand in its script
	t        uint8 // position looked at, then start of the claim
	pos      uint8 // own last end
	head     uint8 // cached head
	hinted   uint8 // where it last moved the hint to
	cell     uint8 // payload cell to be written next; in a timeout, the turn seen
	lastRung uint8
	seen     doze  // the sleep word loaded by ring
	after    uint8 // what follows the ring, or the clearing of the turn
	flags    uint8

	// Ghosts: bit per message of the script.
	committed, delivered uint8
	released             uint8 // delivered when head was last stored
}

// Flags of a claimant.
const (
	limited  = 1 << iota // saw the turn held by another claimant
	waiting              // has set roomWaiters and is looking again
	took                 // holds the turn, as far as it knows
	seqFresh             // the roomSeq it loaded is still the current one
	entered              // waits for room, or has waited in this call: the slot stays
	searches             // the usual claim did not do, the search has begun
)

// begin is the state before the first step: every slot attached, nothing claimed.
func (m *model) begin() state {
	var s state
	s.hint, s.head, s.consumer.r = m.Start, m.Start, m.Start
	for i := range m.Scripts {
		c := &s.claimants[i]
		s.locked |= 1 << m.slot(i)
		c.pos, c.head, c.hinted = m.Start, m.Start, m.Start
		s.instance[m.slot(i)], s.pid[m.slot(i)] = 1, 1
		c.pc = pcHint
	}
	return s
}

func (s *state) isLocked(slot uint8) bool { return s.locked>>slot&1 != 0 }

func (c *claimant) is(flag uint8) bool { return c.flags&flag != 0 }

func (s *state) describe(m *model) string {
	var b strings.Builder
	fmt.Fprintf(&b, "T=%v cells=%x head=%d hint=%d r=%d sleep={%d e%d m%d}", s.table, s.cells, s.head, s.hint, s.consumer.r, s.sleep.pos, s.sleep.episode, s.sleep.mode)
	if m.Room {
		fmt.Fprintf(&b, " roomWaiters=%d turn=%d", s.roomWaiters, s.turn)
	}
	return b.String()
}
