package model

// fill, then commit or abort: from here to the commit the granules are the claimant's own.
//
//	pcFill -+-> [pcCheck] -> pcStore -> ring  (a claim that was handed out is compared)
//	        +-> pcCommit  -> ring             (where there are no barriers)
//	        +-> pcAbort   -> ring       (also where the attachment was closed meanwhile)
//	        +-> pcCleanup -> ring       (forgotten by the program)
func (m *model) stepCommit(s *state, i int) {
	c := &s.claimants[i]
	msg := m.message(s, i)
	switch c.pc {
	case pcFill:
		if msg.Drop {
			c.pc = pcCleanup
			return
		}
		s.cells[index(c.t+c.cell)] = identity(i, c.msg)
		c.cell++
		if c.cell < msg.Granules {
			return
		}
		c.cell, c.pc = 0, m.firstOfCommit(msg)
		if msg.Abort {
			c.pc = pcAbort
		}
		if m.Mutant == CommitFirst {
			m.ring(s, i, afterMessage)
		}
	case pcCheck, pcCommit:
		if msg.Claim && m.isClosed(s, i) {
			c.pc = pcAbort // closed before the commit began
			m.stepCommit(s, i)
			return
		}
		if c.pc == pcCheck {
			if at := m.wordOf(s, i, index(c.t)); at != makeWord(busy, c.t, m.owner(i), msg.Granules) {
				m.fail(CommitRefused, "claimant %d at %d finds %v", i, c.t, at)
			}
			c.pc = pcStore
			return
		}
		if !m.endClaim(s, i, commit) {
			return
		}
		c.committed |= 1 << c.msg
		if m.Mutant == CommitFirst {
			c.pc = pcFill
			return
		}
		m.ring(s, i, afterMessage)
	case pcStore:
		m.storeCommit(s, i)
		m.ring(s, i, afterMessage)
	case pcAbort:
		if !m.endClaim(s, i, skip) {
			return
		}
		if m.Mutant == QuietAbort {
			m.next(s, i)
			return
		}
		m.ring(s, i, afterMessage)
	case pcCleanup:
		if m.endClaim(s, i, skip) {
			m.ring(s, i, afterCleanup)
		}
	}
}

func (m *model) firstOfCommit(msg Msg) uint8 {
	switch {
	case m.Commit != ByStore:
		return pcCommit
	case msg.isClaim():
		return pcCheck
	}
	return pcStore
}

// endClaim is the CAS of commit and abort.
func (m *model) endClaim(s *state, i int, to uint8) bool {
	c := &s.claimants[i]
	at := &s.table[index(c.t)]
	mine := makeWord(busy, c.t, m.owner(i), m.message(s, i).Granules)
	if *at != mine {
		m.fail(CommitRefused, "claimant %d at %d finds %v", i, c.t, *at)
		return false
	}
	*at = mine.with(to)
	return true
}

// next goes on to the following message; nothing of the last one is remembered but its end and head.
func (m *model) next(s *state, i int) {
	c := &s.claimants[i]
	if c.is(took) {
		c.after, c.pc = afterMessage, pcGiveTurn
		return
	}
	if c.is(entered) || m.message(s, i).isClaim() {
		m.drain(s, i) // the count of open claims is stored by a locked instruction
	}
	c.msg++
	c.t, c.w, c.cell, c.seen, c.after, c.flags = 0, 0, 0, doze{}, 0, 0
	m.start(s, i)
}

// start begins the message at hand, or ends the script.
func (m *model) start(s *state, i int) {
	c := &s.claimants[i]
	c.pc = pcHint
	switch {
	case int(c.msg) == len(m.Scripts[i]):
		m.finish(s, i)
	case m.isClosed(s, i):
		m.shut(s, i)
	case m.message(s, i).Await:
		c.pc = pcReleased
	}
}
