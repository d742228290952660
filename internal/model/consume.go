package model

// The steps of the consumer, named by the access they make.
const (
	csLook      = iota // w = T[r]
	csRead             // one payload cell
	csHead             // head = r
	csRoomFlag         // roomWaiters
	csRoomLook         // T[r]: empty?
	csRoomSwap         // swap roomWaiters to 0
	csRoomSeq          // roomSeq++
	csRoomWake         // FUTEX_WAKE(roomSeq, all)
	csSleep            // sleep = {r, episode, mode}
	csFutex            // FUTEX_WAIT(T[r]): compare and sleep
	csAsleep           // in the kernel
	csAwake            // sleep = 0
	csLock             // the owner's byte
	csReload           // mutant: T[r] once more
	csSkip             // CAS T[r]: BUSY -> SKIP
	csTakeSleep        // successor: sleep = 0
	csTakeHead         // successor: head
)

var csNames = [...]string{"load T[r]", "read cell", "store head", "load roomWaiters", "load T[r] (empty?)", "swap roomWaiters", "roomSeq++",
	"FUTEX_WAKE roomSeq", "store sleep", "FUTEX_WAIT T[r]", "asleep", "store sleep=0", "ask owner's lock", "load T[r] again", "CAS T[r] to SKIP",
	"takeover: store sleep=0", "takeover: load head"}

// stepConsumer makes the consumer's next step, and says whether there is one: an idle consumer without a bell has none
// until something arrives, and one asleep has none until it is woken.
func (m *model) stepConsumer(s *state, choice int) bool {
	k := &s.consumer
	switch k.pc {
	case csLook:
		return m.consume(s, choice)
	case csRead:
		m.read(s)
	case csHead:
		s.head = k.r
		k.pc, k.batch = csLook, 0
		for i := range m.Scripts {
			s.claimants[i].released = s.claimants[i].delivered
		}
		if m.Room {
			k.pc = csRoomFlag
		}
	case csRoomFlag, csRoomLook, csRoomSwap, csRoomSeq, csRoomWake:
		m.stepWakeRoom(s, choice)
	case csSleep, csFutex, csAwake, csLock, csReload, csSkip:
		m.stepWait(s)
	case csAsleep:
		return false
	case csTakeSleep, csTakeHead:
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
	case a == current && w.state() == commit:
		k.w, k.pc = w, csRead
		if m.Mutant == HeadFirst {
			s.head = k.r + w.granules()
		}
	case a == current && w.state() == skip:
		m.stepOver(s, w)
	case a == current && choice == 1:
		k.w, k.pc = w, csLock
	case k.batch > 0:
		k.pc = csHead
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
	return (m.Kills > 0 || m.Leave) && (m.Bell || k.batch > 0) && w.state() == busy && m.age(w, k.r) == current
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
	w := k.w
	k.cell, k.value, k.w, k.pc = 0, 0, 0, csLook
	m.stepOver(s, w)
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

// stepOver leaves a record behind; a full batch is released.
func (m *model) stepOver(s *state, w word) {
	k := &s.consumer
	if m.Mutant == NoLapTag {
		s.table[index(k.r)] = 0
	}
	k.r += w.granules()
	k.batch++
	k.pc = csLook
	if k.batch >= m.Batch {
		k.pc = csHead
	}
}
