package model

// The consumer's sleep. Claimants ring:
//
//	pcRing -> pcRingAgain -> pcRingWord -> pcRingWake
//
// and the consumer waits:
//
//	csSleep -> [csBarrier, behind a claim] -> csFutex -> csAsleep -> csAwake
//	csLock -> csSkip                            (instead, for a BUSY word, when it is time to ask)
//
// The store of sleep precedes the kernel's compare, the store of T precedes the load of sleep: one of the two sees
// the other. Sleep and ring both name an episode, so that each claimant wakes at most once in each.

// What follows a ring, or the giving back of the turn.
const (
	afterMessage = iota // the message is done
	afterClaim          // fill
	afterFull           // claim has rung, the wait for room rings as well
	afterWait           // sleep until there is room
	afterFirst          // begin to wait for room
	afterRetry          // look for room again at once
	afterCleanup        // out, and the message is done
	afterAttach         // the new process is ready
	afterLeave          // the process that leaves unlocks its slot
)

// ring begins a ring; without a bell it is over at once. Who rings for others than a producer remembers no episode,
// and loads the sleep word once.
func (m *model) ring(s *state, i int, after uint8) {
	c := &s.claimants[i]
	c.after, c.pc = after, pcRing
	if !c.remembers() {
		c.pc = pcRingAgain
	}
	if !m.Bell {
		m.rung(s, i)
	}
}

func (c *claimant) remembers() bool { return c.after < afterCleanup }

func (m *model) stepRing(s *state, i int) {
	c := &s.claimants[i]
	switch c.pc {
	case pcRing:
		c.pc = pcRingAgain
		if s.sleep.mode == awake {
			m.rung(s, i)
		}
	case pcRingAgain:
		d := s.sleep
		if d.mode == awake || c.remembers() && d.episode == c.lastRung {
			m.rung(s, i)
			return
		}
		if m.Mutant == WakeOwnRecord && d.pos != c.t {
			m.rung(s, i)
			return
		}
		c.seen, c.pc = d, pcRingWord
	case pcRingWord:
		if !m.worthWaking(m.wordOf(s, i, index(c.seen.pos)), c.seen) {
			m.rung(s, i)
			return
		}
		c.pc = pcRingWake
	case pcRingWake:
		// A sleeper on its way into the kernel is not there yet: only a wake that arrived settles the episode.
		woke := m.wakeConsumer(s, c.seen.pos)
		if c.remembers() && woke || m.Mutant == RungUnheeded || m.Mutant == ShortSleepLap {
			c.lastRung = c.seen.episode
		}
		m.rung(s, i)
	}
}

// worthWaking: a sleeper is woken for a record that is ready, or, if it sleeps untimed by BUSY, for any record.
func (m *model) worthWaking(w word, d doze) bool {
	a := m.age(w, d.pos)
	if m.Mutant == ShortSleepLap || m.Mutant == ShortSleepHeeded {
		a = older
		if w.tag() != 0 && w.tag()&1 == tagOf(d.pos)&1 {
			a = current
		}
	}
	return a == newer || a == current && (w.state() != busy || d.mode == idle)
}

func (m *model) wakeConsumer(s *state, pos uint8) bool {
	k := &s.consumer
	if k.pc != csAsleep || index(k.r) != index(pos) {
		return false
	}
	k.pc = csAwake
	return true
}

// rung returns from ring.
func (m *model) rung(s *state, i int) {
	c := &s.claimants[i]
	c.seen = doze{}
	switch c.after {
	case afterMessage:
		m.next(s, i)
	case afterFull:
		m.ring(s, i, afterWait)
	case afterWait:
		c.after, c.pc = 0, pcWait
	case afterCleanup:
		m.next(s, i)
	case afterFirst:
		c.after = 0
		m.prepare(c)
	case afterRetry:
		c.after = 0
		m.restart(c)
	case afterAttach:
		c.after = 0
		m.attached(s, i)
	case afterLeave:
		c.after, c.pc = 0, pcUnlock
	}
}

// stepWait is the consumer's half; the word in k.w is older (idle) or BUSY.
func (m *model) stepWait(s *state) {
	k := &s.consumer
	switch k.pc {
	case csSleep:
		mode := uint8(idle)
		if m.age(k.w, k.r) == current {
			mode = inBusy
		}
		m.newEpisode(s)
		s.sleep = doze{k.r, k.episode, mode}
		k.pc = csFutex
		if mode == inBusy && m.Commit == ByStore && m.Buffers > 0 && m.Mutant != NoMembarrier {
			k.pc = csBarrier
		}
	case csBarrier:
		if m.Mutant != Unregistered || k.cell == 0 {
			m.drain(s, int(k.cell))
		}
		if k.cell++; int(k.cell) == len(m.Scripts) {
			k.cell, k.pc = 0, csFutex
		}
	case csFutex:
		k.pc = csAsleep
		if s.table[index(k.r)].futexHalf() != k.w.futexHalf() && m.Mutant != WaitWithoutCmp {
			k.pc = csAwake
		}
	case csAwake:
		s.sleep = doze{} // its episode stays, and is one of the others from here on
		k.pc, k.w, k.nap = csLook, 0, 0
	case csLock:
		slot := k.w.owner() - 1
		if m.Mutant == DeathRemembered && !s.isLocked(slot) {
			s.believedDead |= 1 << slot
		}
		if s.isLocked(slot) && m.Mutant != SkipLiving && s.believedDead>>slot&1 == 0 {
			k.pc, k.w = csLook, 0
			return
		}
		k.pc = csSkip
		if m.Mutant == ReloadBeforeSkip {
			k.pc = csReload
		}
	case csReload:
		k.pc, k.w = csSkip, s.table[index(k.r)]
		if k.w.state() != busy {
			k.pc, k.w = csLook, 0
		}
	case csSkip:
		if at := &s.table[index(k.r)]; *at == k.w {
			*at = at.with(skip)
		}
		k.pc, k.w = csLook, 0
	}
}

// newEpisode counts. Only equality with the episode at hand is ever asked for, so older numbers are forgotten:
// 1 is the episode at hand, 0 every other. The mutant that counts anew after a takeover keeps real numbers.
func (m *model) newEpisode(s *state) {
	if m.Mutant == EpisodeRestart {
		s.consumer.episode++
		return
	}
	s.consumer.episode = 1
	for i := range m.Scripts {
		s.claimants[i].lastRung = 0
		s.claimants[i].seen.episode = 0
	}
}
