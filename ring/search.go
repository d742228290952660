package ring

// The claim as a search: from where the frontier may be, over the records of
// others, to the free granule. The usual way of a send makes do with the first
// step of it.

// claim takes g granules and returns their position, and the word that claims
// them. It starts at the largest of the hint, its own last position and head:
// each is the start of a record or the first free granule, and each may lag.
func (p *Producer) claim(g uint64) (uint64, header, error) {
	if p.filling != 0 {
		p.giveBack()
	}
	pos := max(p.hint.Load(), p.pos, p.seen)
	if pos-p.seen > p.size {
		pos = p.startNear(pos)
	}
	for range p.patience() {
		w, tag := p.load(pos), p.tag(pos)
		if age := w.age(tag); age >= 0 {
			next, err := p.stepOver(pos, w, age)
			if err != nil {
				return 0, 0, err
			}
			pos = next
			continue
		}
		need := min(g, p.rest(pos))
		if !p.fits(pos, need) {
			if p.seen = p.head.Load(); int64(p.seen-pos) > 0 {
				pos = p.seen
				continue
			}
			if !p.fits(pos, need) {
				break
			}
		}
		if need < g {
			// Whether this CAS wins or loses, a record is there now. A pad
			// is complete at once: it has no owner that could die with it.
			p.cas(pos, w, makeHeader(skip, tag, ownerNone, need))
			continue
		}
		if mine := makeHeader(busy, tag, p.slot, g); p.cas(pos, w, mine) {
			p.pos = pos + g
			p.moveHint(p.pos)
			return pos, mine, nil
		}
	}
	p.ring()
	return 0, 0, ErrFull
}

// stepOver goes on from a word that is not free for this lap, to where the search
// continues.
func (p *Producer) stepOver(pos uint64, w header, age int64) (uint64, error) {
	why := "newer lap ahead of head"
	if age == 0 {
		// A record of this lap is stepped over.
		if p.valid(pos, w.granules()) {
			pos += w.granules()
			p.moveHint(pos)
			return pos, nil
		}
		// Behind head such words are scrubbed ones, or damage that the
		// consumer has left behind.
		why = "record does not fit its lap"
	}
	// The ring has gone past: start again at head.
	if p.seen = p.head.Load(); int64(p.seen-pos) <= 0 {
		return 0, p.barred(pos, w, why)
	}
	return p.seen, nil
}

// startNear is for a start that looks further ahead of head than the ring is
// long: the head seen last is old, or somebody has scribbled on the hint or on
// head. What is wrong is left aside, so that the producer recovers when the
// segment does; a word that was older further on need not be here.
func (p *Producer) startNear(pos uint64) uint64 {
	p.alike = 0
	p.seen = p.head.Load()
	if pos-p.seen > p.size {
		pos = p.seen
		p.pos, p.hinted = pos, pos
	}
	return pos
}

// barred is the end of a claim that damage at pos, ahead of head, is in the way
// of. The hint tells the consumer, which need not come to see it: the word in
// front of that may have become that of a free granule.
func (p *Producer) barred(pos uint64, w header, what string) error {
	p.hinted = pos
	storeRelaxed(p.hint, pos)
	return corrupt(pos, w, what)
}

// fits reports whether a claim up to pos+g leaves head's granules alone, and,
// while another claimant has the turn, a quarter of the ring besides. The
// difference is signed: seen may lag behind pos by any amount, and never by
// less than the truth.
func (p *Producer) fits(pos, g uint64) bool {
	limit := p.size
	t := p.turn.Load()
	if p.behindTurn = t != 0 && t != p.id; p.behindTurn {
		limit -= p.size / 4
	}
	return int64(pos+g-p.seen) <= int64(limit)
}

// moveHint lets others start further on, every hintStride granules. The store
// is plain: it may arrive late and put back an older record start, which
// costs the others a walk, and nothing else.
func (p *Producer) moveHint(pos uint64) {
	if int64(pos-p.hinted) >= hintStride {
		p.hinted = pos
		storeRelaxed(p.hint, pos)
	}
}

// patience bounds the steps of a claim: two rounds of the table, and as many
// lost races. Who loses that many in a row is told that the ring is full.
func (v *view) patience() uint64 { return 2*v.size + 1<<16 }
