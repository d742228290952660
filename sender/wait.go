package sender

import (
	"context"
	"errors"
	"os"

	"github.com/shmrouter/shmrouter/ring"
)

// Drain waits until the router has released everything that this Sender has committed so far: it was copied
// out, or, for a router that can be resumed, handled. The error is ctx's; a *StateError unless the Sender is
// open, or if it is stopped meanwhile; or ErrRouterGone.
func (s *Sender) Drain(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	last, err := s.last, s.enter("drain")
	s.mu.Unlock()
	if err != nil {
		return err
	}
	defer s.waiting.Done()
	if last == 0 {
		return nil // never sent anything: positions are above 0
	}
	joined, release := s.join(ctx)
	defer release()
	p := s.link.take()
	defer s.link.give(s.att, p)
	err = s.link.seg.Guarded(func() error { return p.WaitReleased(joined, last) })
	return s.waitError(ctx, "drain", err)
}

// enter is the way to do something without mu that Stop has to wait for, until waiting.Done. The caller holds
// mu.
func (s *Sender) enter(op string) error {
	if err := s.ready(op); err != nil {
		return err
	}
	s.waiting.Add(1)
	return nil
}

// await calls try, with mu held and the Sender ready, until it returns something else than ErrFull, and in
// between sleeps until there is room for n bytes. try uses p, which is nil for any producer.
//
// One goroutine of the process waits at the ring, with a thread of its own; the others queue for its place.
func (s *Sender) await(ctx context.Context, op string, p *ring.Producer, n int, try func(*ring.Producer) error) error {
	s.mu.Lock()
	s.stats.Waits++
	err := s.enter(op)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	defer s.waiting.Done()
	joined, release := s.join(ctx)
	defer release()
	l := s.link
	if p == nil {
		p = l.take()
		defer l.give(s.att, p)
	}
	attempt := func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if err := s.ready(op); err != nil {
			return err
		}
		return try(p)
	}
	select {
	case l.room <- struct{}{}:
	default:
		select {
		case l.room <- struct{}{}:
		case <-joined.Done():
			return s.waitError(ctx, op, joined.Err())
		}
		// Whoever was here before may have learned, in its own time, that nobody makes room any more. Ask at
		// once: a queue of goroutines must not take that time each.
		if err := attempt(); err != ErrFull {
			<-l.room
			return err
		}
		if alive, err := s.att.ConsumerAlive(); err == nil && !alive {
			<-l.room
			return errNoConsumer
		}
	}
	defer func() { <-l.room }()
	err = l.seg.Guarded(func() error { return p.AwaitRoom(joined, n, attempt) })
	return s.waitError(ctx, op, err)
}

// join returns a context that ends with ctx and with Stop. Afterwards call release.
func (s *Sender) join(ctx context.Context) (joined context.Context, release func()) {
	if ctx.Done() == nil {
		return s.stopped, func() {}
	}
	joined, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.stopped, cancel)
	return joined, func() {
		stop()
		cancel()
	}
}

// waitError says in the caller's terms why a wait ended.
func (s *Sender) waitError(ctx context.Context, op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ring.ErrNoConsumer):
		return errNoConsumer
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrClosed):
		if err := ctx.Err(); err != nil {
			return err
		}
		return &StateError{op, StateClosed} // of the two that could end the joined one
	}
	return err
}
