package ring

import (
	"context"
	"errors"
	"math"
	"os"
	"sync/atomic"
	"time"

	"github.com/shmrouter/shmrouter/shm"
)

// Waiting for room, both halves.
//
// A producer that finds the ring full loads the room episode, sets the waiters
// flag, tries once more, and sleeps on the episode. The consumer stores head
// and then looks at the flag; when a quarter of the ring is free it takes the
// flag down, raises the episode and wakes everybody: waking one, who may be
// killed before it does anything, would strand the rest.
//
// Why no wake is lost: flag before head on one side, head before flag on the
// other, all sequentially consistent. If the producer's second try saw the old
// head, the consumer sees the flag. The episode is loaded before the flag is
// set, so whoever takes this flag down raises the episode after that load, and
// the kernel's compare fails or the wake arrives.
//
// The turn keeps a large frame from starving behind small ones: a waiter that
// was passed over takes the turn word, and while it holds it everybody else
// leaves a quarter of the ring free (fits in producer.go), enough for any
// frame and the pad before it. A dead holder's turn is taken away by whoever
// finds it in the way.
const (
	roomSpin      = 64 // looks at head before sleeping
	patientTries  = 3  // times a small frame is passed over before it takes the turn
	largeFraction = 16 // frames of at least 1/16 of the ring take it the first time
)

// roomNap is the time between looks at who is alive. Tests raise it, so that a
// lost wake cannot hide behind it.
var roomNap = int64(100 * time.Millisecond)

// AwaitRoom calls try until it returns something else than ErrFull, and waits for
// room in between: it is what Send, Claim and SendBatch are made of, for
// callers that have more to do at each try (take a lock, number a message).
// n is the number of bytes wanted; try must use this Producer, whose turn it
// may be. Errors besides those of try: ctx's, os.ErrClosed, ErrNoConsumer.
func (p *Producer) AwaitRoom(ctx context.Context, n int, try func() error) error {
	return p.whenRoom(ctx, granulesFor(max(n, 0)), try)
}

func (p *Producer) whenRoom(ctx context.Context, g uint64, try func() error) error {
	return p.guarded(func() error { return p.untilRoom(ctx, g, try) })
}

func (p *Producer) untilRoom(ctx context.Context, g uint64, try func() error) error {
	if err := p.enter(); err != nil {
		return err
	}
	defer p.exit()
	p.publish()
	large := g >= p.size/largeFraction
	defer p.turn.CompareAndSwap(p.id, 0)
	asked := shm.Now()
	for passed := 0; ; passed++ {
		if now := shm.Now(); now-asked > roomNap {
			asked = now
			if err := p.a.buryTurn(); err != nil {
				return err
			}
		}
		if passed > 0 && (large || passed > patientTries) {
			p.turn.CompareAndSwap(0, p.id)
		}
		if err := p.waitHead(ctx, try); err != ErrFull {
			return err
		}
	}
}

// WaitReleased waits until the consumer has released everything before pos
// (a Position of this process's producers). Errors are those of AwaitRoom.
func (p *Producer) WaitReleased(ctx context.Context, pos uint64) error {
	released := func() error {
		if int64(p.head.Load()-pos) < 0 {
			return ErrFull
		}
		return nil
	}
	return p.guarded(func() error {
		if err := p.enter(); err != nil {
			return err
		}
		defer p.exit()
		err := released()
		for err == ErrFull {
			err = p.waitHead(ctx, released)
		}
		return err
	})
}

// enter counts a call that may wait among the open claims, so that the segment
// stays until it has left although the attachment is closed meanwhile.
func (p *Producer) enter() error {
	p.open.Store(p.open.Load() + 1)
	if p.done || p.a.closed.Load() {
		p.exit()
		return os.ErrClosed
	}
	return nil
}

func (p *Producer) exit() {
	p.open.Store(p.open.Load() - 1) // before the look at closed: Close stores that and then looks here
	if p.a.closed.Load() {
		p.a.lastOut()
	}
}

// waitHead waits for head to move: it spins for a moment, then announces
// itself, takes the second look, and sleeps. ErrFull means look again.
func (p *Producer) waitHead(ctx context.Context, try func() error) error {
	if shm.CanSpin() {
		from := p.head.Load()
		for i := 0; i < roomSpin && p.head.Load() == from; i++ {
			shm.Pause(10)
		}
		if err := try(); err != ErrFull {
			return err
		}
	}
	episode := p.roomEpisode.Load() // before the flag, see above
	p.roomWaiters.Store(1)
	if err := try(); err != ErrFull {
		return err
	}
	p.ring()
	return p.napForRoom(ctx, episode)
}

// napForRoom sleeps until the consumer makes room, for roomNap at most.
func (p *Producer) napForRoom(ctx context.Context, episode uint32) error {
	if p.a.closed.Load() {
		return os.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	stop := wakeWhenDone(ctx, p.roomEpisode)
	err := shm.FutexWait(p.roomEpisode, episode, shm.Now()+roomNap)
	stop()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		return ErrFull
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	}
	// Nobody ended the sleep. Is there a consumer, and is the turn held by
	// the dead?
	if alive, err := p.a.ConsumerAlive(); err != nil {
		return err
	} else if !alive {
		return ErrNoConsumer
	}
	if err := p.a.buryTurn(); err != nil {
		return err
	}
	return ErrFull
}

// wakeWhenDone wakes the sleepers on w when ctx ends, until stop is called:
// one wake could come just before the sleep.
func wakeWhenDone(ctx context.Context, w *atomic.Uint32) (stop func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	var awake atomic.Bool
	cancel := context.AfterFunc(ctx, func() {
		for d := time.Microsecond; !awake.Load(); d = min(2*d, time.Millisecond) {
			shm.FutexWake(w, math.MaxInt32)
			time.Sleep(d)
		}
	})
	return func() {
		awake.Store(true)
		cancel()
	}
}

// makeRoom is the consumer's half: it publishes that everything before pos is
// free, and wakes the waiters when that is a quarter of the ring. The hint
// stands for the end of what is claimed; where it lags the ring looks emptier
// than it is, and the waiters look once more than they had to.
func (c *Consumer) makeRoom(pos uint64) {
	c.head.Store(pos)
	if c.roomWaiters.Load() == 0 {
		return
	}
	used := int64(c.hint.Load() - pos)
	if used > int64(c.size-c.size/4) {
		return
	}
	if c.roomWaiters.Swap(0) != 0 {
		c.wakeWaiters()
	}
}

func (c *Consumer) wakeWaiters() {
	c.roomEpisode.Add(1)
	shm.FutexWake(c.roomEpisode, math.MaxInt32)
}
