package sender

import (
	"context"
	"encoding/binary"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
)

// sendLarge sends b in frames: First with the length, as many More as it takes, and Last, with which the
// message counts and is numbered. The router puts together what comes from one process, so one message at a
// time; mu is held for each frame only. One that ends early stays unfinished there until the next First.
func (s *Sender) sendLarge(ctx context.Context, b []byte) (err error) {
	s.mu.Lock()
	err = s.enter("send")
	s.mu.Unlock()
	if err != nil {
		return err
	}
	defer s.waiting.Done()
	if len(b) > s.most {
		return ErrTooLarge
	}
	if err := s.takeLarge(ctx); err != nil {
		return err
	}
	defer func() { <-s.link.large }()

	total, size := len(b), s.link.ring.MaxFrame()
	if err := s.sendFrame(ctx, wire.First, binary.LittleEndian.AppendUint64(nil, uint64(total)), 0); err != nil {
		return err // nothing of it was sent
	}
	for err == nil && len(b) > size {
		err = s.sendFrame(ctx, wire.More, b[:size], 0)
		b = b[size:]
	}
	if err == nil {
		err = s.sendFrame(ctx, wire.Last, b, total)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.stats.Unfinished++
	} else {
		s.stats.Large++
	}
	return err
}

// takeLarge waits until no other large message of this process is on its way.
func (s *Sender) takeLarge(ctx context.Context) error {
	select {
	case s.link.large <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped.Done():
		return &StateError{"send", StateClosed}
	}
}

// sendFrame sends one frame of a large message, of total bytes where it is the last.
func (s *Sender) sendFrame(ctx context.Context, kind wire.Kind, b []byte, total int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	try := func(p *ring.Producer) error {
		if kind != wire.Last {
			return p.TrySend(b, wire.Meta(kind, s.token.Index, 0))
		}
		if err := p.TrySend(b, wire.Meta(kind, s.token.Index, s.seq+1)); err != nil {
			return err
		}
		s.seq++
		s.sent(p.Position(), 1, total)
		return nil
	}
	s.mu.Lock()
	err := s.ready("send")
	if err == nil {
		err = try(s.p)
	}
	s.mu.Unlock()
	if err == ErrFull {
		return s.await(ctx, "send", nil, len(b), try)
	}
	return err
}
