package model

// Processes come and go. A kill takes all claimants of a slot, and the kernel frees its byte; an attach locks it and
// sweeps:
//
//	pcSweepHead -> pcSweepLook -+-> BUSY{me}: pcSweepSkip -> pcSweepLook
//	     ^                      +-> newer: again from head
//	     +----------------------+-> older: [pcSweepTurn] -> ring -> ready
//
// Leaving is the same sweep, then pcUnlock.

func (m *model) stepRoster(s *state, i int) {
	c := &s.claimants[i]
	switch c.pc {
	case pcSweepHead:
		c.t, c.pc = s.head, pcSweepLook
	case pcSweepLook:
		w := s.table[index(c.t)]
		switch a := m.age(w, c.t); {
		case a == newer:
			c.pc = pcSweepHead
		case a == older:
			c.t = 0
			m.swept(s, i)
		case w.state() == busy && w.owner() == m.owner(i):
			c.w, c.pc = w, pcSweepSkip
		default:
			c.t += w.granules()
		}
	case pcSweepSkip:
		if at := &s.table[index(c.t)]; *at == c.w {
			*at = at.with(skip)
		}
		c.t, c.w, c.pc = c.t+c.w.granules(), 0, pcSweepLook
	case pcSweepTurn:
		if s.turn != 0 && m.slot(int(s.turn-1)) == m.slot(i) && m.Mutant != TurnForever {
			s.turn = 0
		}
		m.ring(s, i, c.after)
	case pcUnlock:
		s.locked &^= 1 << m.slot(i)
		for j := range m.Scripts {
			if m.slot(j) == m.slot(i) {
				s.claimants[j].flags &^= dropped
			}
		}
		c.pc = pcDone
	}
}

func (m *model) swept(s *state, i int) {
	c := &s.claimants[i]
	if m.Room {
		c.pc = pcSweepTurn
		return
	}
	m.ring(s, i, c.after)
}

// attached lets the process's claimants begin.
func (m *model) attached(s *state, i int) {
	for j := range m.Scripts {
		if m.slot(j) != m.slot(i) {
			continue
		}
		c := &s.claimants[j]
		c.pc = pcHint
		if int(c.msg) == len(m.Scripts[j]) {
			m.finish(s, j)
		}
	}
}

// finish ends a claimant's script; the last one of a process leaves, if the run has it so.
func (m *model) finish(s *state, i int) {
	c := &s.claimants[i]
	c.pos, c.head, c.lastRung = 0, 0, 0
	c.pc = pcDone
	if !m.Leave || !s.isLocked(m.slot(i)) {
		return
	}
	for j := range m.Scripts {
		if m.slot(j) == m.slot(i) && s.claimants[j].pc != pcDone && m.Mutant != LeaveEarly {
			return
		}
	}
	c.pc, c.after = pcSweepHead, afterLeave
}

// kill ends the process in a slot. Its claimants' locals are gone, what they wrote stays.
func (m *model) kill(s *state, slot uint8) {
	s.kills++
	s.locked &^= 1 << slot
	for i := range m.Scripts {
		if m.slot(i) != slot {
			continue
		}
		c := &s.claimants[i]
		dead := claimant{pc: pcDead, committed: c.committed, delivered: c.delivered, released: c.released}
		if s.rebirths < m.Rebirths {
			dead.msg = c.msg
			if int(c.msg) < len(m.Scripts[i]) && c.pc >= pcHint && c.pc < pcSweepHead {
				dead.msg++ // the message at hand dies with its sender
			}
		}
		*c = dead
	}
}

// rebirth gives a free slot to a new process.
func (m *model) rebirth(s *state, slot uint8) {
	s.rebirths++
	s.locked |= 1 << slot
	first := true
	for i := range m.Scripts {
		if m.slot(i) != slot {
			continue
		}
		c := &s.claimants[i]
		c.pc = pcJoin
		if first {
			first = false
			c.pc, c.after = pcSweepHead, afterAttach
			if m.Mutant == NoSweep {
				m.swept(s, i)
			}
		}
	}
}

// crash ends the consumer; its successor holds the consumer's byte and takes over. What was delivered but not released
// may be delivered again.
func (m *model) crash(s *state) {
	s.crashes++
	s.consumer = consumer{pc: csTakeHead}
	if m.Bell {
		s.consumer.pc = csTakeSleep
	}
	for i := range m.Scripts {
		s.claimants[i].delivered = s.claimants[i].released
	}
}

func (m *model) stepTakeover(s *state) {
	k := &s.consumer
	switch k.pc {
	case csTakeSleep:
		s.sleep = doze{}
		k.pc = csTakeHead
	case csTakeHead:
		k.r, k.pc = s.head, csLook
		if m.Room && m.Mutant != QuietTakeover {
			k.pc = csRoomSeq
		}
	}
}
