package model

// Processes come and go. A kill takes all claimants of a slot, and the kernel frees its byte; an attach locks it, signs on
// and sweeps:
//
//	[pcUnname -> pcInstance -> pcName] -> pcSweepHead -> pcSweepLook -+-> BUSY{me}: pcSweepSkip -> pcSweepLook
//	                                          ^                       +-> newer, or scrubbed: pcSweepNewer -> pcSweepLook
//	                                          +-----------------------+-> older: [pcSweepTurn, pcSweepGive] -> ring -> ready
//
// Closing an attachment tells those who wait for room; the last one out signs off, sweeps and unlocks:
//
//	[pcCloseSeq -> pcCloseWake] -> [pcSignOff] -> pcSweepHead ... -> ring -> pcUnlock

func (m *model) stepRoster(s *state, i int) {
	c := &s.claimants[i]
	slot := m.slot(i)
	switch c.pc {
	case pcUnname:
		s.pid[slot], c.pc = 0, pcInstance
		if m.Mutant == NameLate {
			c.pc = pcName
		}
	case pcInstance:
		s.instance[slot]++
		c.pc = pcName
		if m.Mutant == NameLate {
			c.pc = pcUnname
		}
	case pcName:
		s.pid[slot], c.pc = s.instance[slot], pcSweepHead
		m.signedOn(s, i)
	case pcSweepHead:
		c.t, c.pc = s.head, pcSweepLook
	case pcSweepLook:
		w := s.table[index(c.t)]
		switch a := m.age(w, c.t); {
		case a == older:
			c.t = 0
			m.swept(s, i)
		case a == newer || !valid(w, c.t):
			c.pc = pcSweepNewer
		case w.state() == busy && w.owner() == m.owner(i):
			c.w, c.pc = w, pcSweepSkip
		default:
			c.t += w.granules()
		}
	case pcSweepNewer:
		if s.head <= c.t {
			m.fail(Corrupt, "sweep of %d sees a newer tag, or what does not fit, at %d, head %d", i, c.t, s.head)
		}
		c.t, c.pc = s.head, pcSweepLook
	case pcSweepSkip:
		if at := &s.table[index(c.t)]; *at == c.w {
			*at = at.with(skip)
			c.t += c.w.granules()
		}
		c.w, c.pc = 0, pcSweepLook
	case pcSweepTurn:
		if s.turn != 0 && m.slot(int(s.turn-1)) == slot && m.Mutant != TurnForever {
			c.cell, c.pc = s.turn, pcSweepGive
			return
		}
		m.ring(s, i, c.after)
	case pcSweepGive:
		if s.turn == c.cell {
			s.turn = 0
		}
		c.cell = 0
		m.ring(s, i, c.after)
	case pcCloseSeq:
		m.newRoomSeq(s)
		c.pc = pcCloseWake
	case pcCloseWake:
		m.wakeRoom(s, 0)
		m.lastOut(s, i)
	case pcSignOff:
		s.pid[slot], c.pc = 0, pcSweepHead
	case pcUnlock:
		s.locked &^= 0x11 << slot
		for j := range m.Scripts {
			if m.slot(j) == slot && int(s.claimants[j].msg) < len(m.Scripts[j]) {
				s.claimants[j].pc = pcDead // what it had still to send is for the next process
			}
		}
		if c.pc == pcUnlock {
			c.pc = pcDone
		}
	}
}

// signedOn is where a joining process sweeps.
func (m *model) signedOn(s *state, i int) {
	if m.Mutant == NoSweep {
		m.swept(s, i)
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
		if m.slot(j) == m.slot(i) {
			m.start(s, j)
		}
	}
}

// isClosed says whether the claimant's attachment was closed, which its process alone knows.
func (m *model) isClosed(s *state, i int) bool { return s.locked>>m.slot(i)&0x10 != 0 }

// finish ends a claimant's script. The first one of a process that is done closes the attachment, if the run has it so
// and the others are at rest: done, between two messages, with an open claim, or in a wait for room.
func (m *model) finish(s *state, i int) {
	c := &s.claimants[i]
	c.pos, c.head, c.hinted, c.lastRung = 0, 0, 0, 0
	c.pc = pcDone
	if m.isClosed(s, i) {
		m.lastOut(s, i)
		return
	}
	if !m.Leave || !s.isLocked(m.slot(i)) {
		return
	}
	for j := range m.Scripts {
		if j != i && m.slot(j) == m.slot(i) && !m.atRest(s, j) {
			return
		}
	}
	m.drain(s, i) // closed is swapped
	s.locked |= 0x10 << m.slot(i)
	if m.Room {
		c.pc = pcCloseSeq
		return
	}
	m.lastOut(s, i)
}

func (m *model) atRest(s *state, j int) bool {
	c := &s.claimants[j]
	if c.lateAt[0] != 0 {
		return false // whoever tells the closer so does it by a locked instruction
	}
	return c.pc == pcDone || c.pc == pcHint && !c.is(searches) || m.isOpen(s, j)
}

// isOpen says whether a claimant keeps the slot: it waits for room, or a claim of it is in its caller's hands.
func (m *model) isOpen(s *state, j int) bool {
	c := &s.claimants[j]
	if c.pc == pcDone || c.pc == pcDead || c.pc == pcJoin || c.pc >= pcUnname {
		return false
	}
	if c.is(entered) {
		return true
	}
	return m.message(s, j).isClaim() &&
		(c.pc >= pcFill && c.pc <= pcCleanup || c.pc >= pcRing && c.pc <= pcRingWake && (c.after == afterMessage || c.after == afterCleanup))
}

// shut ends the script of a claimant that finds its attachment closed.
func (m *model) shut(s *state, i int) {
	c := &s.claimants[i]
	if c.is(took) {
		c.after, c.pc = afterMessage, pcGiveTurn // and next finds it closed
		return
	}
	c.t, c.w, c.cell, c.seen, c.after, c.flags = 0, 0, 0, doze{}, 0, 0
	c.pos, c.head, c.hinted, c.lastRung = 0, 0, 0, 0
	c.pc = pcDone
	m.lastOut(s, i)
}

// lastOut leaves the ring once nothing of the process is open.
func (m *model) lastOut(s *state, i int) {
	s.claimants[i].pc = pcDone
	for j := range m.Scripts {
		if m.slot(j) != m.slot(i) {
			continue
		}
		if c := &s.claimants[j]; c.after == afterLeave || c.pc == pcUnlock {
			return // it does so already
		}
		if m.isOpen(s, j) && m.Mutant != LeaveEarly {
			return
		}
	}
	c := &s.claimants[i]
	c.pc, c.after = pcSweepHead, afterLeave
	if m.Names {
		c.pc = pcSignOff
	}
}

// kill ends the process in a slot. Its claimants' locals are gone, what they wrote stays.
func (m *model) kill(s *state, slot uint8) {
	s.kills++
	for i := range m.Scripts {
		if m.slot(i) == slot {
			m.drain(s, i)
		}
	}
	s.locked &^= 0x11 << slot
	for i := range m.Scripts {
		if m.slot(i) != slot {
			continue
		}
		c := &s.claimants[i]
		dead := claimant{pc: pcDead, committed: c.committed, delivered: c.delivered, released: c.released}
		if s.rebirths < m.Rebirths {
			dead.msg = c.msg
			if int(c.msg) < len(m.Scripts[i]) && c.pc >= pcHint && c.pc < pcUnname {
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
		if !first {
			continue
		}
		first = false
		c.pc, c.after = pcSweepHead, afterAttach
		switch {
		case m.Names && m.Mutant == NameLate:
			c.pc = pcInstance
		case m.Names:
			c.pc = pcUnname
		default:
			m.signedOn(s, i)
		}
	}
}

// crash ends the consumer; its successor holds the consumer's byte and takes over. What was delivered but not released
// may be delivered again.
func (m *model) crash(s *state) {
	s.crashes++
	s.asker = asker{}
	s.consumer = consumer{pc: csTakeHead}
	if m.Bell {
		s.consumer.pc = csTakeLoad
	}
	for i := range m.Scripts {
		s.claimants[i].delivered = s.claimants[i].released
	}
}

func (m *model) stepTakeover(s *state) {
	k := &s.consumer
	switch k.pc {
	case csTakeLoad:
		k.pc = csTakeSleep
	case csTakeSleep:
		s.sleep = doze{}
		k.pc = csTakeHead
	case csTakeHead:
		k.r, k.pc = s.head, csLook
		if m.Room && m.Mutant != QuietTakeover {
			k.pc = csTakeSeq
		}
	}
}

// stepReader reads a seat as statistics do: what it believes must be of one process.
func (m *model) stepReader(s *state) {
	o := &s.reader
	switch o.pc {
	case rdInstance:
		o.instance, o.pc = s.instance[o.slot], rdPID
	case rdPID:
		o.pid, o.pc = s.pid[o.slot], rdAgain
	case rdAgain:
		if s.instance[o.slot] == o.instance && o.pid != 0 && o.pid != o.instance {
			m.fail(Invariant, "a reader takes pid %d for that of instance %d", o.pid, o.instance)
		}
		*o = reader{}
	}
}
