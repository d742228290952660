package model

// stepConsumer makes the consumer's next step, and says whether there is one: an idle consumer without a bell has none
// until something arrives, and one asleep has none until it is woken.
func (m *model) stepConsumer(s *state, choice int) bool {
	k := &s.consumer
	switch k.pc {
	case csLook:
		return m.consume(s, choice)
	case csScrub:
		m.scrub(s)
	case csRead:
		m.read(s)
	case csHead:
		s.head = k.r
		for i := range m.Scripts {
			s.claimants[i].released = s.claimants[i].delivered
		}
		if m.Room {
			k.pc = csRoomFlag
		} else {
			m.released(s)
		}
	case csRoomFlag, csRoomLook, csRoomSwap, csRoomSeq, csRoomWake, csRoomMore, csTakeSeq, csTakeWake:
		m.stepWakeRoom(s, choice)
	case csSleep, csBarrier, csFutex, csAwake, csLock, csReload, csSkip:
		m.stepWait(s)
	case csAsleep:
		if k.nap != short {
			return false
		}
		k.pc = csAwake // its nap has ended
	case csTakeLoad, csTakeSleep, csTakeHead:
		m.stepTakeover(s)
	}
	return true
}

// consume looks at the word at r, once.
func (m *model) consume(s *state, choice int) bool {
	k := &s.consumer
	w := s.table[index(k.r)]
	a := m.age(w, k.r)
	if a == newer || a == current && !valid(w, k.r) {
		m.fail(Corrupt, "consumer at %d sees %v", k.r, w)
		return true
	}
	switch {
	case a == current && w.state() != busy:
		k.w = w
		if m.Mutant == HeadFirst && w.state() == commit {
			s.head = k.r + w.granules()
		}
		if m.Scrub && w.granules() > 1 {
			k.cell, k.pc = 1, csScrub
			break
		}
		m.pass(s)
	case a == current && choice == 1:
		k.w, k.pc = w, csLock
	case k.r != s.head:
		k.pc = csHead
	case m.Room && m.Mutant != RestUnminded && (m.Bell || s.roomWaiters != 0 && a == older):
		k.w, k.nap, k.pc = w, minding, csRoomFlag
	case m.Bell:
		k.w, k.pc = w, csSleep
	case a == current:
		k.w, k.pc = w, csLock
	default:
		return false
	}
	return true
}

// mayAsk says whether the consumer has the choice to ask for the owner of a BUSY word at once, instead of releasing its
// batch or sleeping first. Where nobody can die the answer is known, and not waited for.
func (m *model) mayAsk(s *state) bool {
	k := &s.consumer
	w := s.table[index(k.r)]
	return (m.Kills > 0 || m.Leave) && (m.Bell || k.r != s.head) && w.state() == busy && m.age(w, k.r) == current
}

// scrub renews one word inside the record at hand: it gets the tag of the lap before.
func (m *model) scrub(s *state) {
	k := &s.consumer
	p := k.r + k.cell
	s.table[index(p)] = makeWord(skip, p, padOwner, 0) - 1<<tagShift
	if k.cell++; k.cell == k.w.granules() {
		k.cell = 0
		m.pass(s)
	}
}

// pass comes before the record is handed out: where a Poll has consumed much, what lies before it is released.
func (m *model) pass(s *state) {
	k := &s.consumer
	if m.Mutant != HeadFirst && k.r-s.head >= m.Quarter {
		k.pc = csHead
		return
	}
	m.hand(s)
}

// hand delivers the record at hand, or steps over it.
func (m *model) hand(s *state) {
	k := &s.consumer
	if k.pc = csRead; k.w.state() == skip {
		m.stepOver(s)
	}
}

// released goes on after a release: with the record at hand, or with a new Poll. Who has found nothing goes to sleep.
func (m *model) released(s *state) {
	k := &s.consumer
	if k.nap != 0 && m.Bell {
		k.pc = csSleep
		return
	}
	if k.nap != 0 {
		k.nap, k.w = 0, 0
	}
	if k.w != 0 {
		m.hand(s)
		return
	}
	k.pc, k.batch = csLook, 0
}

// read takes one payload cell; the last one completes the delivery.
func (m *model) read(s *state) {
	k := &s.consumer
	v := s.cells[index(k.r+k.cell)]
	if k.cell == 0 {
		k.value = v
		m.judge(s, v)
	} else if v != k.value {
		m.fail(Torn, "at %d: cells %02x and %02x in one record", k.r, k.value, v)
	}
	if m.fault != nil {
		return
	}
	k.cell++
	if k.cell < k.w.granules() {
		return
	}
	s.claimants[v>>4-1].delivered |= 1 << (v & 15)
	k.cell, k.value = 0, 0
	m.stepOver(s)
}

// judge compares a delivery's first cell with what its claimant has committed and the consumer has seen of it.
func (m *model) judge(s *state, v uint8) {
	k := &s.consumer
	i, msg := int(v>>4)-1, v&15
	if i < 0 || m.owner(i) != k.w.owner() {
		m.fail(Torn, "at %d: cell %02x under %v", k.r, v, k.w)
		return
	}
	c := &s.claimants[i]
	switch bit := uint8(1) << msg; {
	case c.delivered&bit != 0:
		m.fail(Duplicated, "at %d: message %d of claimant %d again", k.r, msg, i)
	case c.committed&bit == 0:
		m.fail(Torn, "at %d: message %d of claimant %d is not committed", k.r, msg, i)
	case c.committed&(bit-1)&^c.delivered != 0:
		m.fail(Reordered, "at %d: message %d of claimant %d before an earlier one", k.r, msg, i)
	case m.Scripts[i][msg].Granules != k.w.granules():
		m.fail(Torn, "at %d: message %d of claimant %d under %v", k.r, msg, i, k.w)
	}
}

// stepOver leaves the record at hand behind; a full batch is released.
func (m *model) stepOver(s *state) {
	k := &s.consumer
	w := k.w
	k.w = 0
	if m.Mutant == NoLapTag {
		s.table[index(k.r)] = 0
	}
	k.r += w.granules()
	k.batch++
	k.pc = csLook
	if k.batch >= m.Batch {
		k.pc = csHead
		if k.r == s.head {
			k.batch, k.pc = 0, csLook
		}
	}
}
