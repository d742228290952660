package ring

import (
	"context"
	"os"
	"sync/atomic"
)

// A message's way through the ring is claim, fill, commit, wake. The header
// word of the record is the claim: one CAS writes owner and length at once,
// so there is no instant at which space belongs to nobody, and whatever
// instruction a producer dies at, the others know exactly what to step over.

// Producer sends. It is for one goroutine at a time; make one for each from
// the Attachment, or share one under a mutex.
type Producer struct {
	view // by value: its fields are one load away
	a    *Attachment
	slot int
	id   uint64 // names this claimant in the turn word

	pos    uint64 // behind its own last claim; a record start
	seen   uint64 // head as last loaded; never ahead of it
	hinted uint64 // where it last moved the hint to
	rung   uint64 // the episode of sleep that it last rang for

	unfenced uint64 // the fence word with which a send may commit at once

	replaced header // the word, older than its lap's tag, that a send's claim last found
	alike    int    // how often it was the same, from the last wrong guess on

	woken       bool   // out of the last sleep for room, before its time
	behindTurn  bool   // another had the turn when room was last looked for
	announced   bool   // it has waited for room before,
	announcedAt uint32 // in this episode

	records, bytes uint64 // counted here, published by publish
	told           uint64 // pos at which they were

	blank   header // the word of a claim, but for tag and granules
	filling header // the claim of a copying send under way, which ends at pos; 0: none

	lease *lease        // spare holder for the next zero-copy claim
	open  atomic.Uint64 // claims outstanding and calls that wait; stored by this producer only
	done  bool          // Close was called
}

// NewProducer makes a producer on the attachment's slot. Any goroutine may
// call it. A Producer ends with the attachment; who makes many of them closes
// each. On a closed attachment its methods return os.ErrClosed.
func (a *Attachment) NewProducer() *Producer {
	p := &Producer{view: a.ring.view, a: a, slot: a.slot, blank: makeHeader(busy, 0, a.slot, 0), unfenced: never}
	p.id = uint64(a.slot+1) | a.producers.Add(1)<<8
	a.register(p)
	return p
}

// Close takes the producer out of the attachment's books. Claims of it that are
// open stay so until they end. A second Close returns os.ErrClosed. Where a file
// was truncated it returns shm.ErrFault, and the producer is closed all the same.
func (p *Producer) Close() error {
	if p.done || p.a.closed.Load() {
		return os.ErrClosed
	}
	p.done = true
	err := p.publishGuarded()
	p.a.forget(p)
	return err
}

// TrySend sends a copy of b, or returns an error without having sent anything:
// ErrFull, ErrTooLarge, ErrMeta, os.ErrClosed after the attachment was closed,
// a *CorruptError, shm.ErrFault where a file was truncated. meta travels
// beside the message. When it returns nil the message is committed: it will
// be delivered even if this process dies at the next instruction.
func (p *Producer) TrySend(b []byte, meta uint64) error { return p.send(b, meta) }

// giveBack aborts the claim of a send that did not come to its commit: the
// copy faulted, or a caller recovered from the panic that it ended in. Left
// open it would be a living process's, and stop everybody.
func (p *Producer) giveBack() {
	w := p.filling
	p.filling = 0
	p.guarded(func() error { return p.abort(p.pos-w.granules(), w) })
}

// guarded runs f; where somebody may truncate the file, a fault becomes an
// error instead of the process's end.
func (p *Producer) guarded(f func() error) error {
	if p.named {
		return p.seg.Guarded(f)
	}
	return f()
}

// Send is TrySend that waits for room, until ctx ends (its error is returned)
// or no consumer is alive (ErrNoConsumer). ctx is not looked at where there is
// room; one without an end costs nothing.
func (p *Producer) Send(ctx context.Context, b []byte, meta uint64) error {
	err := p.send(b, meta)
	if err != ErrFull {
		return err
	}
	return p.whenRoom(ctx, granulesFor(len(b)), func() error { return p.send(b, meta) })
}

func (p *Producer) check(n int, meta uint64) error {
	switch {
	case p.done || p.a.closed.Load():
		return os.ErrClosed
	case uint64(n) > p.limit*Granule:
		return ErrTooLarge
	case meta > metaMask:
		return ErrMeta
	}
	return nil
}

// send is the usual way of a message, claim, fill and commit in one piece and
// without calls: the search would begin at the free granule, the record fits
// there, and nobody has the turn. Where one of these is not so nothing has been
// done, and claim searches. (A file that may be truncated is touched under
// guard only.)
func (p *Producer) send(b []byte, meta uint64) error {
	if err := p.check(len(b), meta); err != nil {
		return err
	}
	if p.named || p.filling != 0 {
		return p.sendElse(b, meta)
	}
	g := granulesFor(len(b))
	pos := max(p.hint.Load(), p.pos, p.seen)
	e, tag := p.entry(pos), p.tag(pos)
	w := p.blank.sized(tag, g)
	if g > p.rest(pos) || pos-p.seen > p.size-g || p.turn.Load() != 0 {
		return p.sendElse(b, meta)
	}
	// The words that a stream replaces are alike. To guess what is there saves
	// the load before the CAS, and with it a journey of the line, which the
	// consumer may be watching: the load would fetch it to be read, the CAS again
	// to be written. What was older once is older still.
	for was, guess := p.replaced, p.alike > 0; ; guess = false {
		if !guess {
			if was = header(e.word.Load()); was.age(tag) >= 0 {
				return p.sendElse(b, meta)
			}
			p.know(was)
		}
		if e.word.CompareAndSwap(uint64(was), uint64(w)) {
			break
		}
		if !guess {
			return p.sendElse(b, meta)
		}
		p.alike = -guessPause
	}
	p.pos = pos + g
	p.moveHint(p.pos)
	p.filling = w
	storeRelaxed(&e.info, makeInfo(len(b), meta))
	copy(p.view.bytes(pos, len(b)), b)
	p.filling = 0
	if uint64(p.fence.Load()) == p.unfenced {
		raceRelease(p.token)
		storeRelease(&e.word, uint64(w.with(commit)))
	} else if !p.end(e, w) {
		return ErrFenced
	}
	p.ring()
	p.count(1, uint64(len(b)))
	return nil
}

// know counts how often the word found was the one found before.
func (p *Producer) know(was header) {
	if p.alike++; was != p.replaced {
		p.alike, p.replaced = min(p.alike-1, 0), was
	}
}

// guessPause is how many sends behind a wrong guess do without: where senders
// compete, most guesses would be wrong.
const guessPause = 16

// sendElse is every other way of a message.
func (p *Producer) sendElse(b []byte, meta uint64) error {
	if p.named {
		return p.sending(func() error { return p.write(b, meta) })
	}
	return p.write(b, meta)
}

// sending runs a copying send; what it leaves behind by a fault is given back.
func (p *Producer) sending(f func() error) error {
	err := p.guarded(f)
	if p.filling != 0 {
		p.giveBack()
	}
	return err
}

func (p *Producer) write(b []byte, meta uint64) error {
	pos, w, err := p.claim(granulesFor(len(b)))
	if err != nil {
		return err
	}
	p.filling = w
	storeRelaxed(&p.entry(pos).info, makeInfo(len(b), meta))
	copy(p.view.bytes(pos, len(b)), b)
	p.filling = 0
	if err := p.commit(pos, w); err != nil {
		return err
	}
	p.count(1, uint64(len(b)))
	return nil
}

// commit makes the record at pos visible, and wakes the consumer if it sleeps.
func (p *Producer) commit(pos uint64, w header) error {
	if !p.end(p.entry(pos), w) {
		return ErrFenced
	}
	p.ring()
	return nil
}

// abort gives the record at pos back; the consumer steps over it.
func (p *Producer) abort(pos uint64, w header) error {
	if !p.cas(pos, w, w.with(skip)) {
		return ErrFenced
	}
	p.ring() // what was committed behind it may have been waiting for it
	return nil
}

// Position is the position behind this producer's last claim, in granules. It
// is what WaitReleased waits for.
func (p *Producer) Position() uint64 { return p.pos }
