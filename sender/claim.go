package sender

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
)

// Claim is space in the ring that its holder fills in place. It is a value; copies mean the same claim.
// Commit or Abort ends it, and what comes later does nothing, so `defer c.Abort()` right after the claim is
// the idiom. One goroutine at a time may use a claim, and any number of claims may be open.
//
// While a claim is open, nothing behind it is delivered, from any sender of the router: fill it and commit. A
// claim that the program drops is aborted when the garbage collector finds it.
type Claim struct {
	h     *holder
	gen   uint64
	bytes []byte
}

// holder is what open claims refer to, and is used again for the next. Nothing but Claims, and its Sender's
// list of spare ones, leads to it, so that the collector sees when a claim was dropped. What has to outlive
// it is the lease.
type holder struct{ *lease }

// lease is one place for a claim, with a producer of its own, as claims of one Sender are filled at the same
// time.
type lease struct {
	s   *Sender
	gen atomic.Uint64 // raised, with mu of s held, when the claim has ended

	// Guarded by mu of s.
	p     *ring.Producer
	claim ring.Claim
	open  bool
	pos   uint64 // behind the claim
}

// TryClaim claims space for n bytes, at most a frame, if there is room now, else it returns ErrFull. The
// errors are those of TrySend; ErrTooLarge also for n < 0.
func (s *Sender) TryClaim(n int) (Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready("claim"); err != nil {
		return Claim{}, err
	}
	h := s.takeHolder()
	c, err := s.claim(h, n)
	if err != nil {
		s.spare = append(s.spare, h)
	}
	return c, err
}

// Claim is TryClaim that waits for room until ctx ends, like Send. The errors are those of both but ErrFull.
func (s *Sender) Claim(ctx context.Context, n int) (Claim, error) {
	if err := ctx.Err(); err != nil {
		return Claim{}, err
	}
	c, err := s.TryClaim(n)
	if err == ErrFull {
		return s.claimWaiting(ctx, n)
	}
	return c, err
}

// WriteFunc claims space for n bytes, waiting for room like Claim, calls fn to fill it, and commits the
// number of bytes that fn returns. If fn returns an error, which WriteFunc then returns, or a number above n
// or below 0, which is ErrTooLarge, or panics, nothing is sent. The bytes are fn's until it returns. They are
// not zeroed.
func (s *Sender) WriteFunc(ctx context.Context, n int, fn func(b []byte) (int, error)) error {
	c, err := s.Claim(ctx, n)
	if err != nil {
		return err
	}
	defer c.Abort()
	used, err := fn(c.bytes)
	if err != nil {
		return err
	}
	if used < 0 || used > n {
		return fmt.Errorf("sender: %d bytes written to a claim of %d: %w", used, n, ErrTooLarge)
	}
	return c.CommitN(used)
}

// claim opens a claim at h, for the caller, who holds mu. Its number is used up, whatever becomes of it.
func (s *Sender) claim(h *holder, n int) (Claim, error) {
	if n < 0 || n > s.frame {
		return Claim{}, ErrTooLarge
	}
	c, err := h.p.TryClaim(n, wire.Meta(wire.Data, s.token.Index, s.seq+1))
	if err != nil {
		return Claim{}, err
	}
	s.seq++
	s.claims++
	h.claim, h.open, h.pos = c, true, h.p.Position()
	return Claim{h, h.gen.Load(), c.Bytes()}, nil
}

func (s *Sender) claimWaiting(ctx context.Context, n int) (c Claim, err error) {
	s.mu.Lock()
	if err := s.enter("claim"); err != nil {
		s.mu.Unlock()
		return Claim{}, err
	}
	defer s.waiting.Done()
	h := s.takeHolder()
	s.mu.Unlock()
	err = s.await(ctx, "claim", h.p, n, func(*ring.Producer) (err error) {
		c, err = s.claim(h, n)
		return err
	})
	if err != nil {
		s.mu.Lock()
		s.spare = append(s.spare, h) // Stop has not looked yet: it waits for this goroutine
		s.mu.Unlock()
	}
	return c, err
}

// takeHolder returns an idle holder. The caller holds mu.
func (s *Sender) takeHolder() *holder {
	if n := len(s.spare); n > 0 {
		h := s.spare[n-1]
		s.spare = s.spare[:n-1]
		return h
	}
	h := &holder{&lease{s: s, p: s.link.take()}}
	runtime.AddCleanup(h, (*lease).dropped, h.lease)
	return h
}

// Bytes returns the claimed space, n bytes that start on a cache line, or nil once the claim has ended. They
// are the holder's until Commit or Abort; writing to them later damages another message.
func (c Claim) Bytes() []byte {
	if c.h == nil || c.h.gen.Load() != c.gen {
		return nil
	}
	return c.bytes
}

// Commit sends all the claimed bytes. The error is ErrClaimDone if the claim had ended before; and else, the
// claim having ended now, a *StateError if the Sender was stopped meanwhile, ErrRouterGone, ring.ErrFenced, or
// shm.ErrFault. The message was not sent then, except perhaps after shm.ErrFault: where somebody truncates
// the segment's file, the fault may come just after the commit.
func (c Claim) Commit() error { return c.CommitN(len(c.bytes)) }

// CommitN sends the first n of the claimed bytes. If n is below 0 or more than were claimed, the error is
// ErrTooLarge, nothing is sent, and the claim stays open. The other errors are those of Commit.
func (c Claim) CommitN(n int) error {
	if c.h == nil {
		return ErrClaimDone
	}
	s := c.h.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.h.gen.Load() != c.gen {
		return ErrClaimDone
	}
	if err := s.ready("commit"); err != nil {
		c.h.abort()
		c.h.rest()
		return err
	}
	if n < 0 || n > len(c.bytes) {
		return ErrTooLarge
	}
	err := s.link.seg.Guarded(func() error { return c.h.claim.CommitN(n) })
	if err == nil {
		s.sent(c.h.pos, 1, n)
	}
	c.h.finish()
	c.h.rest()
	return err
}

// Abort gives the space back, and sends nothing. On a claim that has ended it does nothing.
func (c Claim) Abort() {
	if c.h == nil {
		return
	}
	s := c.h.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.h.gen.Load() != c.gen {
		return
	}
	c.h.abort()
	c.h.rest()
	s.stats.Aborted++
}

// rest puts the holder where the next claim finds it, or, if none follows, its producer. The caller holds mu.
func (h *holder) rest() {
	if h.s.state == StateOpen {
		h.s.spare = append(h.s.spare, h)
	} else {
		h.s.link.give(h.s.att, h.p)
	}
}

// dropped runs when the holder has become unreachable. If its claim is open the program has forgotten it, and
// everybody behind it is waiting.
func (t *lease) dropped() {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if t.open {
		t.abort()
		t.s.stats.Dropped++
		t.s.link.give(t.s.att, t.p)
	}
}

// abort gives the space back to the ring; a segment that was cut short has none to give back. After Stop this
// may be what lets the process leave the roster. The caller holds mu.
func (t *lease) abort() {
	t.s.link.seg.Guarded(func() error {
		t.claim.Abort()
		return nil
	})
	t.finish()
}

// finish ends the claim that was open. The caller holds mu.
func (t *lease) finish() {
	t.gen.Add(1)
	t.open, t.claim = false, ring.Claim{}
	t.s.claims--
}
