package model

// fill, then commit or abort: from here to the commit the granules are the claimant's own.
func (m *model) stepCommit(s *state, i int) {
	c := &s.claimants[i]
	msg := m.message(s, i)
	switch c.pc {
	case pcFill:
		if msg.Drop {
			c.flags |= dropped
			m.next(s, i)
			return
		}
		s.cells[index(c.t+c.cell)] = identity(i, c.msg)
		c.cell++
		if c.cell < msg.Granules {
			return
		}
		c.cell, c.pc = 0, pcCommit
		if m.Mutant == CommitFirst {
			m.ring(s, i, afterMessage)
		}
	case pcCommit:
		at := &s.table[index(c.t)]
		mine := makeWord(busy, c.t, m.owner(i), msg.Granules)
		if *at != mine {
			m.fail(CommitRefused, "claimant %d at %d finds %v", i, c.t, *at)
			return
		}
		if msg.Abort {
			*at = mine.with(skip)
			if m.Mutant == QuietAbort {
				m.next(s, i)
				return
			}
		} else {
			*at = mine.with(commit)
			c.committed |= 1 << c.msg
		}
		if m.Mutant == CommitFirst {
			c.pc = pcFill
			return
		}
		m.ring(s, i, afterMessage)
	}
}

// next goes on to the following message; nothing of the last one is remembered but its end and head.
func (m *model) next(s *state, i int) {
	c := &s.claimants[i]
	if c.is(took) {
		c.after, c.pc = afterMessage, pcGiveTurn
		return
	}
	c.msg++
	c.t, c.w, c.cell, c.seen, c.after = 0, 0, 0, doze{}, 0
	c.flags &= dropped
	c.pc = pcHint
	if int(c.msg) == len(m.Scripts[i]) {
		m.finish(s, i)
	}
}
