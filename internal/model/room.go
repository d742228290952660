package model

// Waiting for space. A claimant that finds the ring full:
//
//	full -> ring -> pcSeq -> pcFlag -> claim again -+-> claimed ... [pcGiveTurn]
//	                                                +-> full -> ring -> pcWait -> pcAsleep
//	claim again <- [pcTake] <- woken <-----------------------------------------------+
//
// The order of pcSeq and pcFlag is the point: a consumer that takes the flag bumps roomSeq afterwards, so a sequence loaded
// before the flag was set is out of date by the time the flag is gone. The consumer, after each store of head:
//
//	csRoomFlag -> csRoomLook -> csRoomSwap -> csRoomSeq -> csRoomWake

// full is where claim ends without room.
func (m *model) full(s *state, i int) {
	c := &s.claimants[i]
	msg := m.message(s, i)
	switch {
	case msg.Try && m.Mutant == QuietPad:
		m.next(s, i)
	case msg.Try:
		m.ring(s, i, afterMessage)
	case !m.Room:
		m.ring(s, i, afterRetry)
	case !c.is(waiting):
		m.ring(s, i, afterFirst)
	default:
		m.ring(s, i, afterFull)
	}
}

// prepare begins a turn of the waiting loop.
func (m *model) prepare(c *claimant) {
	c.t, c.w = 0, 0
	c.flags &^= limited
	c.pc = pcSeq
	if m.Mutant == SeqAfterFlag {
		c.pc = pcFlag
	}
}

func (m *model) stepRoom(s *state, i int) {
	c := &s.claimants[i]
	switch c.pc {
	case pcSeq:
		c.flags |= seqFresh
		c.pc = pcFlag
		if m.Mutant == SeqAfterFlag {
			m.restart(c)
		}
	case pcFlag:
		s.roomWaiters = 1
		c.flags |= waiting
		switch m.Mutant {
		case SeqAfterFlag:
			c.pc = pcSeq
		case NoRecheck:
			c.pc = pcWait
		default:
			m.restart(c)
		}
	case pcTake:
		if s.turn == 0 {
			s.turn = uint8(i + 1)
			c.flags |= took
		}
		m.restart(c)
	case pcWait:
		c.t, c.w = 0, 0
		c.flags &^= limited
		c.pc = pcAsleep
		if !c.is(seqFresh) {
			m.roomWoken(s, i)
		}
	case pcAskTurn:
		if s.turn == 0 || s.turn == uint8(i+1) {
			m.roomWoken(s, i)
			return
		}
		c.cell, c.pc = s.turn, pcAskLock
	case pcAskLock:
		c.pc = pcDropTurn
		if s.isLocked(m.slot(int(c.cell-1))) || m.Mutant == TurnForever {
			m.roomWoken(s, i)
		}
	case pcDropTurn:
		if s.turn == c.cell {
			s.turn = 0
		}
		m.roomWoken(s, i)
	case pcGiveTurn:
		if s.turn == uint8(i+1) {
			s.turn = 0
		}
		c.flags &^= took
		if c.after != afterClaim {
			m.next(s, i)
			return
		}
		c.after, c.pc = 0, pcFill
	}
}

// roomWoken looks again, whatever ended the wait, at first without the flag; a large frame takes the turn before that.
func (m *model) roomWoken(s *state, i int) {
	c := &s.claimants[i]
	c.cell = 0
	c.flags &^= seqFresh | waiting
	m.restart(c)
	if !c.is(took) && m.message(s, i).Granules >= large {
		c.pc = pcTake
	}
}

// stepWakeRoom is the consumer's half. How the consumer estimates what is free when the ring is not empty is left
// open (choice): it must be right to wake then, and right not to.
func (m *model) stepWakeRoom(s *state, choice int) {
	k := &s.consumer
	switch k.pc {
	case csRoomFlag:
		k.pc = csLook
		if s.roomWaiters != 0 {
			k.pc = csRoomLook
		}
	case csRoomLook:
		k.pc = csRoomSwap
		if choice == 0 && m.age(s.table[index(k.r)], k.r) == current {
			k.pc = csLook
		}
	case csRoomSwap:
		s.roomWaiters = 0
		k.pc = csRoomSeq
	case csRoomSeq:
		for i := range m.Scripts {
			s.claimants[i].flags &^= seqFresh
		}
		k.pc = csRoomWake
	case csRoomWake:
		for i := range m.Scripts {
			if c := &s.claimants[i]; c.pc == pcAsleep {
				m.roomWoken(s, i)
				if m.Mutant == WakeOneWaiter {
					break
				}
			}
		}
		k.pc = csLook
	}
}
