package model

// Store buffers, as x86 has them. A plain store waits in its claimant's buffer, in order, and reaches memory some time
// later; the claimant itself sees it at once. Locked instructions and system calls wait until the buffer is empty. What a
// killed process has stored reaches memory before the kernel frees its locks.
//
// Payload needs no buffer: nobody reads it before he has seen the commit, which never overtakes it.

const (
	lateHint = iota + 1
	lateWord // and the index in T
)

// plain stores v at a place, or puts it into the buffer. room is for the caller to see to: see blocked.
func (m *model) plain(s *state, i int, at uint8, v word) {
	c := &s.claimants[i]
	switch {
	case m.Buffers == 0:
		m.arrive(s, i, at, v)
	case c.lateAt[0] == 0:
		c.late[0], c.lateAt[0] = v, at
	default:
		c.late[1], c.lateAt[1] = v, at
	}
}

func (m *model) arrive(s *state, i int, at uint8, v word) {
	if at == lateHint {
		s.hint = uint8(v)
		return
	}
	slot := &s.table[at-lateWord]
	if slot.state() != busy || slot.with(commit) != v {
		m.fail(CommitRefused, "claimant %d's store of %v arrives on %v", i, v, *slot)
	}
	*slot = v
}

// drainOne lets the oldest store arrive, and says whether there was one.
func (m *model) drainOne(s *state, i int) bool {
	c := &s.claimants[i]
	at, v := c.lateAt[0], c.late[0]
	if at == 0 {
		return false
	}
	c.lateAt[0], c.late[0] = c.lateAt[1], c.late[1]
	c.lateAt[1], c.late[1] = 0, 0
	m.arrive(s, i, at, v)
	return true
}

func (m *model) drain(s *state, i int) {
	for m.drainOne(s, i) {
	}
}

// blocked says whether the claimant's next step has to wait for its buffer.
func (m *model) blocked(s *state, i int) bool {
	c := &s.claimants[i]
	if c.lateAt[0] == 0 {
		return false
	}
	a := claimantSteps[c.pc]
	full := c.lateAt[1] != 0 || m.Buffers == 1
	return a.locked() || full && a.op == "plain" && c.pc != pcFill
}

// hintOf and wordOf are loads: the claimant's own late stores come first.
func (m *model) hintOf(s *state, i int) uint8 {
	if v, ok := s.claimants[i].lateStore(lateHint); ok {
		return uint8(v)
	}
	return s.hint
}

func (m *model) wordOf(s *state, i int, k uint8) word {
	if v, ok := s.claimants[i].lateStore(lateWord + k); ok {
		return v
	}
	return s.table[k]
}

func (c *claimant) lateStore(at uint8) (word, bool) {
	for k := len(c.lateAt) - 1; k >= 0; k-- {
		if c.lateAt[k] == at {
			return c.late[k], true
		}
	}
	return 0, false
}

func (m *model) storeHint(s *state, i int, pos uint8) {
	s.claimants[i].hinted = pos
	m.plain(s, i, lateHint, word(pos))
}

// storeCommit is the store of a commit. The ghost says committed from here on, as Send returns; a store that a kill
// catches in the buffer still arrives.
func (m *model) storeCommit(s *state, i int) {
	c := &s.claimants[i]
	c.committed |= 1 << c.msg
	m.plain(s, i, lateWord+index(c.t), makeWord(commit, c.t, m.owner(i), m.message(s, i).Granules))
}
