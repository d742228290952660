package model

import (
	"fmt"
	"slices"
)

// Kind classifies what a run found wrong.
type Kind string

const (
	Torn          Kind = "torn"           // a record's payload is not what its claimant wrote
	Duplicated    Kind = "duplicated"     // delivered twice without a consumer's crash
	Reordered     Kind = "reordered"      // delivered before an earlier one, or that one is lost
	CommitRefused Kind = "commit refused" // a living claimant's commit or abort failed
	Corrupt       Kind = "corrupt"        // the protocol met a word that it takes for corruption
	Invariant     Kind = "invariant"      // see invariants
	Stuck         Kind = "stuck"          // a state from which nothing leads to drained
	LostWake      Kind = "lost wake"      // the same, in a run where only a timeout would help
)

// Violation is what was found, and the shortest way there.
type Violation struct {
	Kind  Kind
	Text  string
	Stuck int // states that never drain
	Trace []string
}

func (v *Violation) String() string { return fmt.Sprintf("%s: %s", v.Kind, v.Text) }

func (m *model) fail(k Kind, format string, args ...any) {
	if m.fault == nil {
		m.fault = &Violation{Kind: k, Text: fmt.Sprintf(format, args...)}
	}
}

// invariants holds what must be true of the shared words in every state.
//
//	I1  the hint, and every place where a claimant looks, is the start of a record
//	I2  the records from head on stay within their lap, and within H granules of head
//	I3  words inside a record keep older tags
//	I4  behind head nothing is BUSY
//	I5  a BUSY word of a locked slot has a claimant that will end it, or a sweep that is on its way
func (m *model) invariants(s *state) {
	switch m.Mutant {
	case TailFirst, NoLapTag: // other rings, judged by what they deliver
		return
	}
	var starts, records [2 * H]bool // relative to head
	p := s.head
	for p < s.head+H {
		w := s.table[index(p)]
		if m.age(w, p) != current {
			break
		}
		if !valid(w, p) || p+w.granules() > s.head+H {
			m.fail(Invariant, "I2: %v at %d, head %d", w, p, s.head)
			return
		}
		for q := p + 1; q < p+w.granules(); q++ {
			if m.age(s.table[index(q)], q) != older {
				m.fail(Invariant, "I3: %v at %d, inside the record at %d", s.table[index(q)], q, p)
				return
			}
		}
		if w.state() == busy && s.isLocked(w.owner()-1) && !m.tended(s, w, p) {
			m.fail(Invariant, "I5: nobody ends %v at %d", w, p)
		}
		starts[p-s.head], records[index(p)] = true, true
		p += w.granules()
	}
	starts[p-s.head] = true
	for k, w := range s.table {
		if w.state() == busy && !records[k] {
			m.fail(Invariant, "I4: %v at index %d, head %d", w, k, s.head)
		}
	}
	start := func(p uint8) bool {
		if p < s.head {
			return m.age(s.table[index(p)], p) != older
		}
		return p-s.head <= H && starts[p-s.head]
	}
	if !start(s.hint) {
		m.fail(Invariant, "I1: hint %d, head %d", s.hint, s.head)
	}
	for i := range m.Scripts {
		if c := &s.claimants[i]; (c.pc == pcNear || c.pc == pcLook || c.pc == pcHelp || c.pc == pcSweepLook) && !start(c.t) {
			m.fail(Invariant, "I1: claimant %d looks at %d, head %d", i, c.t, s.head)
		}
	}
}

// tended says whether somebody of the living owner of the BUSY word at p will end it.
func (m *model) tended(s *state, w word, p uint8) bool {
	for i := range m.Scripts {
		if m.owner(i) != w.owner() {
			continue
		}
		switch c := &s.claimants[i]; {
		case c.pc >= pcUnname && c.pc <= pcSweepSkip:
			return true
		case (c.pc >= pcHelpOwn && c.pc <= pcCleanup || c.pc == pcGiveTurn) && c.t == p:
			return true
		case slices.Contains(c.lateAt[:], lateWord+index(p)):
			return true
		}
	}
	return m.Mutant == NoSweep || m.Mutant == LeaveEarly
}

// drained: every script is done or its process dead, what was committed is delivered and released, and no claim is
// left.
func (m *model) drained(s *state) bool {
	k := &s.consumer
	if k.r != s.head || k.pc != csAsleep && k.pc != csLook || s.asker.pc != asIdle {
		return false
	}
	for i := range m.Scripts {
		c := &s.claimants[i]
		if c.pc != pcDone && c.pc != pcDead || c.released != c.committed || c.lateAt[0] != 0 {
			return false
		}
	}
	for _, w := range s.table {
		if w.state() == busy {
			return false
		}
	}
	return true
}
