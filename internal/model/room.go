package model

// Waiting for space. A claimant that finds the ring full:
//
//	full -> ring -> pcSeq -> pcFlag -> claim again -+-> claimed ... [pcGiveTurn]
//	                                                +-> full -> ring, ring -> pcWait -> pcAsleep
//	claim again <- [pcTake] <- woken <------------------------------------------------------+
//
// The order of pcSeq and pcFlag is the point: a consumer that takes the flag bumps roomSeq afterwards, so a sequence loaded
// before the flag was set is out of date by the time the flag is gone. The consumer, after each store of head:
//
//	csRoomFlag -> csRoomLook -> csRoomSwap -> csRoomSeq -> csRoomWake [-> csRoomMore]
//
// It wakes a few, and sets the flag again if there may be more. The same it does when it has found nothing, before it
// sleeps: while the flag is up it naps for a moment only, unless a claim in front keeps the ring full.
//
// Who waits for the release of what it sent has pcReleased in the place of the claim, which does not ring.

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
	c.flags &^= limited | searches
	c.flags |= entered
	c.pc = pcSeq
	if m.Mutant == SeqAfterFlag {
		c.pc = pcFlag
	}
}

// again repeats what did not succeed for want of room.
func (m *model) again(s *state, i int) {
	c := &s.claimants[i]
	m.restart(c)
	if m.message(s, i).Await {
		c.pc = pcReleased
	}
}

func (m *model) stepRoom(s *state, i int) {
	c := &s.claimants[i]
	switch c.pc {
	case pcSeq:
		c.flags |= seqFresh
		c.pc = pcFlag
		if m.Mutant == SeqAfterFlag {
			m.again(s, i)
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
			m.again(s, i)
		}
	case pcReleased:
		switch {
		case s.head >= c.pos:
			m.next(s, i)
		case c.is(waiting):
			m.ring(s, i, afterWait)
		default:
			m.prepare(c)
		}
	case pcTake:
		if s.turn == 0 {
			s.turn = uint8(i + 1)
		}
		c.flags &^= took
		if s.turn == uint8(i+1) {
			c.flags |= took
		}
		m.loop(s, i)
	case pcWait:
		c.t, c.w = 0, 0
		c.flags &^= limited | searches
		if m.isClosed(s, i) {
			m.shut(s, i)
			return
		}
		c.pc = pcAsleep
		if !c.is(seqFresh) {
			m.roomWoken(s, i)
		}
	case pcAskTurn:
		if s.turn == 0 || m.slot(int(s.turn-1)) == m.slot(i) {
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
		m.turnGiven(s, i)
	}
}

// turnGiven returns from the wait for room.
func (m *model) turnGiven(s *state, i int) {
	c := &s.claimants[i]
	c.flags &^= entered
	if c.after != afterClaim {
		m.next(s, i)
		return
	}
	c.after, c.pc = 0, pcFill
}

// roomWoken looks again, whatever ended the wait; a large frame takes the turn before that.
func (m *model) roomWoken(s *state, i int) {
	c := &s.claimants[i]
	c.cell = 0
	c.flags &^= seqFresh | waiting
	if msg := m.message(s, i); !msg.Await && msg.Granules >= m.Large {
		m.restart(c)
		c.pc = pcTake
		return
	}
	m.loop(s, i)
}

// loop begins a pass: with a look without the flag, unless there is no point in spinning.
func (m *model) loop(s *state, i int) {
	m.again(s, i)
	if m.NoSpin {
		m.prepare(&s.claimants[i])
	}
}

// stepWakeRoom is the consumer's half. What the consumer thinks of what is free, and whether it is time to wake some more,
// is left open (choice): it must be right to wake, and right not to yet. The ring compares the hint with head, which
// lags. Also open is how many are woken, and which of them; those of another size than the kernel was asked for were all.
func (m *model) stepWakeRoom(s *state, choice int) {
	k := &s.consumer
	switch k.pc {
	case csRoomFlag:
		m.released(s)
		if s.roomWaiters != 0 {
			k.pc = csRoomLook
		}
	case csRoomLook:
		k.pc = csRoomSwap
		if choice == 0 && k.nap != 0 {
			k.nap = short
		}
		if choice != 1 {
			m.released(s)
		}
	case csRoomSwap:
		if k.pc = csRoomSeq; s.roomWaiters == 0 {
			m.released(s)
		}
		s.roomWaiters = 0
	case csRoomSeq, csTakeSeq:
		m.newRoomSeq(s)
		k.pc++
	case csRoomWake:
		if m.wakeRoom(s, choice); choice != 0 && m.Mutant != WakeOneWaiter {
			k.pc = csRoomMore
			return
		}
		m.admitted(s)
	case csRoomMore:
		s.roomWaiters = 1 // also where a waiter was faster
		m.admitted(s)
	case csTakeWake:
		m.wakeRoom(s, 0)
		k.pc = csLook
	}
}

// admitted goes on after a wake: who found nothing looks again.
func (m *model) admitted(s *state) {
	if k := &s.consumer; k.nap != 0 {
		k.pc, k.w, k.nap, k.batch = csLook, 0, 0, 0
		return
	}
	m.released(s)
}

// roomChoices is the number of choices that the consumer has at its step, if that is one of these.
func (m *model) roomChoices(s *state) int {
	switch s.consumer.pc {
	case csRoomLook:
		if k := &s.consumer; k.nap != 0 && s.hint > s.head && s.hint-s.head > H-m.Quarter {
			return 3 // also to rest: there is nothing for those who wait
		}
		return 2
	case csRoomWake:
		return 1 << m.asleepForRoom(s)
	}
	return 1
}

func (m *model) asleepForRoom(s *state) (n int) {
	for i := range m.Scripts {
		if s.claimants[i].pc == pcAsleep {
			n++
		}
	}
	return n
}

func (m *model) newRoomSeq(s *state) {
	for i := range m.Scripts {
		s.claimants[i].flags &^= seqFresh
	}
}

// wakeRoom wakes those of the sleepers whose bit is set in choice; 0 is all of them.
func (m *model) wakeRoom(s *state, choice int) {
	bit := 1
	for i := range m.Scripts {
		if s.claimants[i].pc != pcAsleep {
			continue
		}
		if choice == 0 || choice&bit != 0 {
			m.roomWoken(s, i)
		}
		bit <<= 1
	}
}

// stepAsker is a question whether a slot is alive, from the consumer's process: it gives a dead one's turn back.
func (m *model) stepAsker(s *state) {
	a := &s.asker
	switch a.pc {
	case asTurn:
		a.turn, a.pc = s.turn, asLock
	case asLock:
		if a.pc = asDrop; s.isLocked(a.slot) || a.turn == 0 || m.slot(int(a.turn-1)) != a.slot {
			*a = asker{}
		}
	case asDrop:
		if s.turn == a.turn {
			s.turn = 0
		}
		*a = asker{}
	}
}
