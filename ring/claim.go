package ring

import (
	"context"
	"errors"
	"os"
	"runtime"

	"github.com/shmrouter/shmrouter/shm"
)

// Claim is space in the ring that its holder fills in place. It is a value;
// copies mean the same claim. Commit or Abort ends it; Abort after Commit does
// nothing, so `defer c.Abort()` right after the claim is the idiom. While a
// claim is open the consumer cannot pass it: fill it and commit, do not keep
// it. A claim that the program drops is aborted when the garbage collector
// finds it, and counted in Stats.
//
// A claim belongs to the goroutine that uses its Producer.
type Claim struct {
	l   *lease
	gen uint64
}

// lease holds what an open claim needs. A producer keeps a spare one, so that
// claims do not allocate; while the claim is open only the Claim refers to it.
type lease struct{ *grant }

// grant is the part that outlives the lease for the cleanup's sake.
type grant struct {
	p   *Producer
	gen uint64 // raised when the claim ends
	pos uint64
	w   header // the claim; 0: none is open
	n   int    // bytes asked for
	m   uint64 // meta
}

// TryClaim claims space for n bytes, aligned to Granule, for the caller to fill
// and commit. Errors are those of TrySend. The bytes are not zeroed: they hold
// whatever the last lap left there.
func (p *Producer) TryClaim(n int, meta uint64) (Claim, error) {
	if n < 0 {
		return Claim{}, ErrTooLarge
	}
	if err := p.check(n, meta); err != nil {
		return Claim{}, err
	}
	l := p.lease
	if l == nil {
		l = newLease(p)
	}
	g := granulesFor(n)
	var pos uint64
	var w header
	err := p.guarded(func() (err error) {
		pos, w, err = p.claim(g)
		return err
	})
	if err != nil {
		p.lease = l
		return Claim{}, err
	}
	p.lease = nil
	storeRelaxed(&p.open, p.open.Load()+1)
	l.pos, l.w, l.n, l.m = pos, w, n, meta
	return Claim{l, l.gen}, nil
}

// Claim is TryClaim that waits for room like Send. Errors are those of Send.
func (p *Producer) Claim(ctx context.Context, n int, meta uint64) (Claim, error) {
	c, err := p.TryClaim(n, meta)
	if err != ErrFull {
		return c, err
	}
	err = p.whenRoom(ctx, granulesFor(n), func() (err error) {
		c, err = p.TryClaim(n, meta)
		return err
	})
	return c, err
}

func newLease(p *Producer) *lease {
	l := &lease{&grant{p: p, gen: 1}}
	runtime.AddCleanup(l, (*grant).dropped, l.grant)
	return l
}

// dropped runs when a lease has become unreachable. If its claim is open the
// program has forgotten it, and everybody behind it is waiting.
func (t *grant) dropped() {
	a := t.p.a
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.w == 0 || a.left {
		return
	}
	t.p.guarded(func() error { // a file that was cut off has no claim to abort
		if t.p.cas(t.pos, t.w, t.w.with(skip)) {
			a.slotWord(slotDropped).Add(1)
			t.p.ringFor(t.pos, nil) // the producer's own memory is its goroutine's
		}
		return nil
	})
	a.dropped++
	a.leaveIfDone()
}

// Bytes is the claimed space, n bytes long. It is the caller's until Commit or
// Abort; writing to it later damages somebody else's message.
func (c Claim) Bytes() []byte {
	if !c.isOpen() {
		return nil
	}
	return c.l.p.view.bytes(c.l.pos, c.l.n)
}

// Position is where the claim starts, in granules.
func (c Claim) Position() uint64 {
	if !c.isOpen() {
		return 0
	}
	return c.l.pos
}

// Commit sends all the claimed bytes. Errors: ErrClaimDone if the claim has
// ended already, os.ErrClosed if the attachment was closed (the claim is
// aborted), ErrFenced; then the message was not sent.
func (c Claim) Commit() error {
	if !c.isOpen() {
		return ErrClaimDone
	}
	return c.CommitN(c.l.n)
}

// CommitN sends the first n of the claimed bytes. More than were claimed is
// ErrTooLarge, and leaves the claim open.
func (c Claim) CommitN(n int) error {
	if !c.isOpen() {
		return ErrClaimDone
	}
	l, p := c.l, c.l.p
	if n < 0 || n > l.n {
		return ErrTooLarge
	}
	if p.a.closed.Load() {
		c.Abort()
		return os.ErrClosed
	}
	err := p.guarded(func() error { return p.finish(l.pos, l.w, n, l.m) })
	if errors.Is(err, shm.ErrFault) {
		p.guarded(func() error { return p.abort(l.pos, l.w) }) // the header may be there still
	}
	c.end()
	return err
}

// finish commits the first n bytes of the record at pos; what is left of its
// granules is marked void.
func (p *Producer) finish(pos uint64, w header, n int, meta uint64) error {
	if used := granulesFor(n); used < w.granules() {
		storeRelaxed(&p.entry(pos+used).info, makeInfo(void, 0))
	}
	storeRelaxed(&p.entry(pos).info, makeInfo(n, meta))
	if err := p.commit(pos, w); err != nil {
		return err
	}
	p.count(1, uint64(n))
	return nil
}

// SetMeta replaces the meta value given to the claim. Errors: ErrClaimDone,
// ErrMeta.
func (c Claim) SetMeta(meta uint64) error {
	switch {
	case !c.isOpen():
		return ErrClaimDone
	case meta > metaMask:
		return ErrMeta
	}
	c.l.m = meta
	return nil
}

// Abort gives the space back unsent. On a claim that has ended it does nothing.
func (c Claim) Abort() {
	if !c.isOpen() {
		return
	}
	l, p := c.l, c.l.p
	p.guarded(func() error { return p.abort(l.pos, l.w) }) // fenced: it is gone already, as was asked
	c.end()
}

func (c Claim) isOpen() bool { return c.l != nil && c.l.gen == c.gen && c.l.w != 0 }

// end closes the claim and gives the lease back to its producer. It comes after
// the last access to the segment: once no claim is open, a closed attachment
// lets it go.
func (c Claim) end() {
	p := c.l.p
	c.l.gen++
	c.l.w = 0
	p.lease = c.l
	p.exit()
}
