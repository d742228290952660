package stress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
)

// churn opens and closes pipes all the time, with senders in the main process, and
// judges them as the workers'. It ends them in every way there is.
type churn struct {
	pipes    atomic.Uint64
	discards atomic.Uint64 // messages that may have been for closed pipes
}

const (
	churnSeat   = 1 << 20 // no worker's
	churnEvery  = 5 * time.Millisecond
	pulledQueue = 32 // messages that a receiver without a handler holds
)

// run churns until ctx ends.
func (c *churn) run(ctx context.Context, r *Run, h *here) {
	rnd := rand.New(rand.NewPCG(r.cfg.Seed, saltChurn))
	noise := r.fleet.noise
	for k := 1; ctx.Err() == nil; k++ {
		p := newPlan(r.cfg.Seed, Sizes{Given: true, Max: 4 << 10, Frame: r.cfg.Sizes.Frame}, churnSeat, k, noise)
		if err := c.pipe(r, h, rnd, p); err != nil {
			r.book.violation("pipe %d of this process: %v", k, err)
			return
		}
		c.pipes.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(rnd.Int64N(int64(2 * churnEvery)))):
		}
	}
}

// pipe is the life of one pipe.
func (c *churn) pipe(r *Run, h *here, rnd *rand.Rand, p plan) error {
	s, rcv, err := h.router.Pipe()
	if err != nil {
		return err
	}
	l := &local{plan: p, lane: newLane(p), s: s, rcv: rcv, ended: make(chan error, 1), book: r.book}
	patience, cancel := context.WithTimeout(context.Background(), r.cfg.Patience)
	defer cancel()
	defer s.Close()
	n := uint64(rnd.IntN(64))
	switch rnd.IntN(6) {
	case 0: // closed before anybody came
		if err := rcv.Close(); err != nil {
			return err
		}
		if err := s.Start(); !errors.Is(err, sender.ErrPipeClosed) {
			return fmt.Errorf("start of a sender whose pipe is closed: %v", err)
		}
		return nil
	case 1: // closed while it sends
		l.handle()
		c.discards.Add(n)
		if err := errors.Join(s.Start(), l.send(patience, n/2), rcv.Close(), l.send(patience, n-n/2), s.Stop()); err != nil {
			return err
		}
		<-s.Context().Done()
		return nil // what arrived before the Close is anybody's guess
	case 2: // asked to stop
		l.handle()
		if err := errors.Join(s.Start(), l.send(patience, n), rcv.Cancel()); err != nil {
			return err
		}
		select {
		case <-s.Context().Done():
		case <-patience.Done():
			return errors.New("a cancelled sender was not told")
		}
		if err := context.Cause(s.Context()); !errors.Is(err, sender.ErrCancelled) {
			return fmt.Errorf("a cancelled sender was told: %w", err)
		}
	case 3: // its receiver is full, and everybody waits
		n += pulledQueue
		go l.pull(patience, time.Duration(rnd.Int64N(int64(5*time.Millisecond))))
		if err := errors.Join(s.Start(), l.send(patience, n)); err != nil {
			return err
		}
	default:
		l.handle()
		if err := errors.Join(s.Start(), l.send(patience, n)); err != nil {
			return err
		}
	}
	if err := s.Stop(); err != nil {
		return err
	}
	select {
	case err := <-l.ended:
		if err != nil {
			return fmt.Errorf("it was stopped, and its receiver told: %w", err)
		}
	case <-patience.Done():
		return errors.New("its end does not come")
	}
	if err := rcv.Close(); err != nil {
		return err
	}
	return l.settle()
}

// local is a pipe with both ends in this process.
type local struct {
	plan  plan
	lane  *lane
	s     *sender.Sender
	rcv   *router.Receiver
	ended chan error
	book  *book
	n     uint64 // sent
	buf   []byte
}

func (l *local) handle() {
	l.rcv.Handle(func(m router.Message) { l.arrive(m) }, func(err error) { l.ended <- err })
}

func (l *local) arrive(m router.Message) {
	l.lane.arrive(m.Data)
	l.book.arrived.Add(1)
}

// pull takes what is there, after a while.
func (l *local) pull(ctx context.Context, after time.Duration) {
	time.Sleep(after)
	for {
		m, err := l.rcv.Recv(ctx)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			l.ended <- err
			return
		}
		l.arrive(m)
	}
}

func (l *local) send(ctx context.Context, n uint64) error {
	for range n {
		next := l.n + 1
		size := l.plan.size(next)
		if cap(l.buf) < size {
			l.buf = make([]byte, size)
		}
		b := l.buf[:size]
		l.plan.fill(b, next)
		l.plan.seal(b, next, shm.Now())
		if err := l.s.Send(ctx, b); err != nil {
			return err
		}
		l.n = next
	}
	return nil
}

// settle closes the account. The end has been told: nobody else uses the lane.
func (l *local) settle() error {
	l.lane.settle(l.n, l.n)
	l.book.mu.Lock()
	l.book.total.add(l.lane.tally)
	l.book.sent += l.n
	l.book.acked += l.n
	l.book.mu.Unlock()
	if c := l.lane.complaint(); c != "" {
		return errors.New(c)
	}
	return nil
}
