package sender

import (
	"context"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// Send sends a copy of b, and waits for room until ctx ends. The bytes stay the caller's. No bytes are a
// message, too.
//
// A message that does not fit a frame (an eighth of the ring, 16 MiB at most) is sent in several, and put
// together by the router. One such message of a process is on its way at a time, further ones wait, and small
// ones pass between its frames. If ctx ends in the middle it is not delivered.
//
// The error is nil if the message is committed, and otherwise, but for the last one here, it will not be
// delivered: ctx's error, also if it has ended before; a *StateError unless the Sender is open, or if it is
// stopped meanwhile; ErrTooLarge; ErrRouterGone if the router was stopped, or has died, which is noticed within
// a quarter of a second, except that where another router may go on (router.WithResume) there is no error
// before the ring is full; ring.ErrCorrupt; ring.ErrFenced where somebody took the message's space away before
// it was committed; or shm.ErrFault where somebody truncated the segment's file, which may show just after the
// commit.
func (s *Sender) Send(ctx context.Context, b []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.TrySend(b)
	switch err {
	case nil:
		return nil
	case ErrFull:
		return s.sendWaiting(ctx, b)
	case ErrTooLarge:
		return s.sendLarge(ctx, b)
	}
	return err
}

// TrySend sends a copy of b if there is room now, else it returns ErrFull. It takes one frame at most. Its
// other errors are those of Send. It never sleeps.
func (s *Sender) TrySend(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready("send"); err != nil {
		return err
	}
	return s.send(s.p, b)
}

// SendBatch sends copies of all the messages in one frame, which is to say all or none, and waits for room
// until ctx ends. They take 64 bytes of the frame, or a multiple of that, each. No messages are no batch, and
// succeed. The errors are those of Send.
func (s *Sender) SendBatch(ctx context.Context, msgs [][]byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.trySendBatch(msgs)
	if err == ErrFull {
		return s.sendBatchWaiting(ctx, msgs)
	}
	return err
}

// ready reports whether op may go on. The caller holds mu.
func (s *Sender) ready(op string) error {
	if s.state != StateOpen {
		return &StateError{op, s.state}
	}
	l := s.link
	if l.seg.Kind() != shm.Named {
		return l.serves(s.token.Epoch)
	}
	return l.seg.Guarded(func() error { return l.serves(s.token.Epoch) })
}

func (l *link) serves(epoch uint64) error {
	if !l.dir.Serves(epoch) {
		return errStopped
	}
	if l.dead.Load() && !l.dir.Resume() {
		return errNoConsumer
	}
	return nil
}

// send claims, fills and commits by p, for the caller, who holds mu. The number is used up only by success.
func (s *Sender) send(p *ring.Producer, b []byte) error {
	if len(b) > s.frame {
		return ErrTooLarge
	}
	if err := p.TrySend(b, wire.Meta(wire.Data, s.token.Index, s.seq+1)); err != nil {
		return err
	}
	s.seq++
	s.sent(p.Position(), 1, len(b))
	return nil
}

// sent accounts for n messages that were committed before pos.
func (s *Sender) sent(pos uint64, n, bytes int) {
	s.last = max(s.last, pos)
	s.stats.Messages += uint64(n)
	s.stats.Bytes += uint64(bytes)
}

func (s *Sender) sendWaiting(ctx context.Context, b []byte) error {
	return s.await(ctx, "send", nil, len(b), func(p *ring.Producer) error { return s.send(p, b) })
}

func (s *Sender) trySendBatch(msgs [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready("send"); err != nil {
		return err
	}
	return s.sendBatch(s.p, msgs)
}

func (s *Sender) sendBatch(p *ring.Producer, msgs [][]byte) error {
	bytes := 0
	for _, b := range msgs {
		if len(b) > s.frame {
			return ErrTooLarge
		}
		bytes += len(b)
	}
	if len(msgs) == 0 {
		return nil
	}
	if err := p.TryBatch(msgs, s.number); err != nil {
		return err
	}
	s.seq += uint64(len(msgs))
	s.sent(p.Position(), len(msgs), bytes)
	return nil
}

func (s *Sender) sendBatchWaiting(ctx context.Context, msgs [][]byte) error {
	room := 0
	for _, b := range msgs {
		room += max(1, (len(b)+ring.Granule-1)/ring.Granule) * ring.Granule
	}
	return s.await(ctx, "send", nil, room, func(p *ring.Producer) error { return s.sendBatch(p, msgs) })
}
