package model

// claim: search for the frontier, see that there is room, and take it by one CAS on the header word.
//
// A send tries the usual claim first: nothing to step over, room as far as it knows, no pad, nobody has the turn.
//
//	pcHint -> [pcTurn] -> pcLook -> pcClaim -+-> [pcHelpOwn] -> pcFill
//	                                         +-> (any of these is not so) pcHint
//
// Where the last words that it replaced were alike it makes the CAS without the look, with that word. If the word is
// that, it is a look and a claim between which nobody has come; if it is not, nothing has been done.
//
// What then begins anew, and a claim that is handed out, is the search:
//
//	pcHint -> [pcNear] -> pcLook -+-> (current) step over -> [pcHelp] -> pcLook
//	                              +-> (newer, or scrubbed) pcNewer -> pcLook
//	                              +-> (older) [pcTurn] -> [pcRoom, pcTurnLast] -+-> pcPad -> pcLook
//	                                                                           +-> pcClaim -+-> [pcHelpOwn] -> pcFill
//	                                                                           |            +-> pcLook (lost the race)
//	                                                                           +-> full
func (m *model) stepClaim(s *state, i int) {
	c := &s.claimants[i]
	switch c.pc {
	case pcHint:
		m.begins(s, i)
	case pcNear:
		// Unsigned: a head that has gone past counts as far ahead.
		c.head = s.head
		if c.t-c.head > H {
			if c.t > c.head {
				m.fail(Corrupt, "claimant %d starts at %d, head %d", i, c.t, c.head)
			}
			c.t, c.pos, c.hinted = c.head, c.head, c.head
		}
		c.pc = pcLook
	case pcLook:
		m.look(s, i)
	case pcHelp:
		m.storeHint(s, i, c.t)
		c.pc = pcLook
	case pcNewer:
		c.head = s.head
		if c.head <= c.t {
			m.fail(Corrupt, "claimant %d sees a newer tag, or what does not fit, at %d, head %d", i, c.t, s.head)
		}
		c.t, c.pc = c.head, pcLook
	case pcTurn:
		m.loadTurn(s, i)
		if !m.usual(s, i) {
			m.judgeRoom(s, i)
		} else if c.pc = pcLook; s.turn != 0 {
			m.search(c)
		}
	case pcRoom:
		c.head = s.head
		switch {
		case c.head > c.t && m.Mutant == TailFirst:
			m.restart(c)
		case c.head > c.t:
			c.t, c.w, c.pc = c.head, 0, pcLook
			c.flags &^= limited
		case m.Room:
			c.pc = pcTurnLast
		default:
			m.judgeRoomLast(s, i)
		}
	case pcTurnLast:
		m.loadTurn(s, i)
		m.judgeRoomLast(s, i)
	case pcPad, pcClaim:
		m.claimCAS(s, i)
	case pcHelpOwn:
		m.storeHint(s, i, c.pos)
		m.fillFrom(s, i)
	case pcHeader:
		n := m.message(s, i).Granules
		if pad, rest := padOf(c.t, n); pad {
			s.table[index(c.t)] = makeWord(skip, c.t, padOwner, rest)
			c.w, c.pc = 0, pcLook
			m.restart(c)
			break
		}
		s.table[index(c.t)] = makeWord(busy, c.t, m.owner(i), n)
		c.pc = pcFill
	}
}

// begins chooses where the search starts.
func (m *model) begins(s *state, i int) {
	c := &s.claimants[i]
	if m.isClosed(s, i) && !c.is(searches) {
		m.shut(s, i)
		return
	}
	c.t, c.pc = max(m.hintOf(s, i), c.pos, c.head), pcLook
	switch {
	case m.Mutant == HintOnly || m.Mutant == HintStart:
		c.t = s.hint
	case m.Mutant == TailFirst:
		c.t = s.hint
		m.judgeRoom(s, i)
	case c.t-c.head > H && m.Mutant != NoLapTag && !m.usual(s, i):
		c.pc = pcNear
	case m.usual(s, i):
		n := m.message(s, i).Granules
		if pad, _ := padOf(c.t, n); pad || c.t-c.head > H-n { // unsigned
			m.search(c)
		} else if m.Room {
			c.pc = pcTurn
		}
	}
}

// usual says whether the claimant is trying the usual claim. Mutants that search otherwise have none.
func (m *model) usual(s *state, i int) bool {
	switch m.Mutant {
	case TailFirst, HintOnly, HintStart, NoLapTag, PadStore:
		return false
	}
	return !s.claimants[i].is(searches) && !m.message(s, i).isClaim()
}

// search begins anew after the usual claim, which has done nothing.
func (m *model) search(c *claimant) {
	m.restart(c)
	c.flags |= searches
}

// look judges T[t] by its tag.
func (m *model) look(s *state, i int) {
	c := &s.claimants[i]
	w := m.wordOf(s, i, index(c.t))
	switch a := m.age(w, c.t); {
	case m.usual(s, i):
		if a != older {
			m.search(c)
			return
		}
		c.w, c.pc = w, pcClaim
	case a == older:
		c.w = w
		if m.Room {
			c.pc = pcTurn
		} else {
			m.judgeRoom(s, i)
		}
	case a == newer || !valid(w, c.t):
		c.pc = pcNewer
		if m.Mutant == HintOnly {
			m.restart(c)
		}
	default:
		c.t += w.granules()
		if m.helps(c, c.t) {
			c.pc = pcHelp
		}
	}
}

// judgeRoom compares with the cached head, in signed arithmetic.
func (m *model) judgeRoom(s *state, i int) {
	c := &s.claimants[i]
	c.pc = pcRoom
	if m.fits(c, m.message(s, i).Granules) {
		m.takes(s, i)
	}
}

// judgeRoomLast has the newest head, and decides.
func (m *model) judgeRoomLast(s *state, i int) {
	if !m.fits(&s.claimants[i], m.message(s, i).Granules) {
		m.full(s, i)
		return
	}
	m.takes(s, i)
}

func (m *model) takes(s *state, i int) {
	c := &s.claimants[i]
	c.pc = pcClaim
	if pad, _ := padOf(c.t, m.message(s, i).Granules); pad {
		c.pc = pcPad
	}
}

func (m *model) loadTurn(s *state, i int) {
	c := &s.claimants[i]
	c.flags &^= limited
	if s.turn != 0 && s.turn != uint8(i+1) {
		c.flags |= limited
	}
}

// helps says whether the hint is worth a store; the store itself may come late, and put back an old value.
func (m *model) helps(c *claimant, pos uint8) bool {
	return m.Mutant != NoHelp && int(pos)-int(c.hinted) >= int(m.Help)
}

func (m *model) fits(c *claimant, n uint8) bool {
	need, limit := n, uint8(H)
	if pad, rest := padOf(c.t, n); pad {
		need = rest
	}
	if c.is(limited) {
		limit -= m.Quarter
	}
	return int(c.t)+int(need)-int(c.head) <= int(limit)
}

// padOf says whether n granules at t would cross the end of the lap, and how many are left before it.
func padOf(t, n uint8) (pad bool, rest uint8) {
	rest = H - index(t)
	return n > rest, rest
}

// claimCAS is the claim itself, or the PAD before it.
func (m *model) claimCAS(s *state, i int) {
	c := &s.claimants[i]
	n := m.message(s, i).Granules
	at := &s.table[index(c.t)]
	pad, rest := padOf(c.t, n)
	c.flags &^= limited
	switch {
	case *at != c.w && m.usual(s, i):
		m.search(c)
		return
	case m.Mutant == TailFirst:
		if s.hint != c.t {
			m.restart(c)
			return
		}
		c.pc = pcHeader
		s.hint += min(n, rest)
		return
	case *at != c.w && !(pad && m.Mutant == PadStore): // somebody was faster
		c.pc, c.w = pcLook, 0
		return
	case pad:
		*at = makeWord(skip, c.t, padOwner, rest)
		c.pc, c.w = pcLook, 0
		return
	}
	*at = makeWord(busy, c.t, m.owner(i), n)
	c.pos, c.w = c.t+n, 0
	m.claimed(s, i)
}

// claimed goes on to the hint, the turn and the payload.
func (m *model) claimed(s *state, i int) {
	c := &s.claimants[i]
	c.flags &= took | entered
	if m.helps(c, c.pos) {
		c.pc = pcHelpOwn
		return
	}
	m.fillFrom(s, i)
}

// fillFrom begins to fill. A claim that is handed out gives the turn back first, a send when it is done.
func (m *model) fillFrom(s *state, i int) {
	c := &s.claimants[i]
	c.pc = pcFill
	if m.Mutant == CommitFirst {
		c.pc = pcCommit
	}
	if c.is(entered) && m.message(s, i).isClaim() {
		c.after, c.pc = afterClaim, pcGiveTurn
		if !c.is(took) {
			m.turnGiven(s, i)
		}
	}
}

// restart begins the claim anew; locals that the search does not need are forgotten.
func (m *model) restart(c *claimant) {
	c.t, c.w, c.pc = 0, 0, pcHint
	c.flags &^= limited | searches
}
