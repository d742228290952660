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
	roomWaiters uint8    // set by waiters, swapped to 0 by the consumer
	turn        uint8    // claimant+1 that a large frame waits for, 0 = nobody

	locked uint8 // the kernel's: bit per slot whose byte is locked

	consumer  consumer
	claimants [maxClaimants]claimant

	// Spent budget of events.
	kills, rebirths, crashes uint8
	believedDead             uint8 // mutant: slots once seen unlocked
}

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
	batch   uint8 // records since head was last stored
	cell    uint8 // payload cell to be read next
	value   uint8 // first cell of the record being read
	episode uint8
	w       word // the word seen at r
}

// claimant holds one claimant's locals: one goroutine of the process that holds the slot.
type claimant struct {
	w        word  // the word seen at t
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
	dropped              // has left a claim behind, neither committed nor aborted
)

// The steps of a claimant, named by the access they make.
const (
	pcDone      = iota // script at its end
	pcDead             // killed
	pcJoin             // process starting: a sibling sweeps
	pcHint             // t = max(hint, pos, head)
	pcLook             // w = T[t]
	pcHelp             // hint = t
	pcNewer            // head, after a newer tag
	pcTurn             // turn
	pcRoom             // head, because the cached one leaves too little room
	pcTurnLast         // turn once more, with the new head
	pcClaim            // CAS T[t]: PAD or BUSY
	pcHelpOwn          // hint = end of the own claim
	pcHeader           // mutant: header by plain store
	pcFill             // one payload cell
	pcCommit           // CAS T[t]: COMMIT or SKIP
	pcRing             // sleep
	pcRingWord         // T[sleep.pos]
	pcRingWake         // FUTEX_WAKE(T[sleep.pos], 1)
	pcSeq              // roomSeq
	pcFlag             // roomWaiters = 1
	pcTake             // CAS turn: 0 -> me
	pcWait             // FUTEX_WAIT(roomSeq): compare and sleep
	pcAsleep           // in the kernel
	pcAskTurn          // after a timeout: turn
	pcAskLock          // its holder's byte
	pcDropTurn         // CAS turn: dead holder -> 0
	pcGiveTurn         // CAS turn: me -> 0
	pcSweepHead        // attach and leave: head
	pcSweepLook        // T[t]
	pcSweepSkip        // CAS T[t]: BUSY{me} -> SKIP
	pcSweepTurn        // CAS turn: my slot -> 0
	pcUnlock           // leave: unlock the byte
)

var pcNames = [...]string{"done", "dead", "join", "load hint", "load T[t]", "store hint", "load head (newer tag)",
	"load turn", "load head (room)", "load turn again", "CAS T[t] (claim)", "store hint (own)", "store T[t]", "fill cell", "CAS T[t] (commit/abort)", "ring: load sleep",
	"ring: load T[sleep]", "ring: FUTEX_WAKE", "load roomSeq", "store roomWaiters=1", "CAS turn (take)", "FUTEX_WAIT roomSeq",
	"asleep for room", "timeout: load turn", "timeout: ask lock", "timeout: CAS turn (dead)", "CAS turn (give back)",
	"sweep: load head", "sweep: load T[t]", "sweep: CAS T[t] to SKIP", "sweep: CAS turn", "unlock slot"}

// begin is the state before the first step: every slot attached, nothing claimed.
func (m *model) begin() state {
	var s state
	s.hint, s.head, s.consumer.r = m.Start, m.Start, m.Start
	for i := range m.Scripts {
		c := &s.claimants[i]
		s.locked |= 1 << m.slot(i)
		c.pos, c.head, c.hinted = m.Start, m.Start, m.Start
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
