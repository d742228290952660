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
// flag down, raises the episode and wakes a few: the kernel's queue is first
// come, first served, and a crowd that is woken at once finds the ring full
// again. If the kernel woke as many as it was asked to, there may be more, and
// the flag goes up again.
//
// Who was woken may be killed before it does anything, or have nothing to send
// any more. So the consumer does not rest while the flag is up and a quarter is
// free: it naps for a moment only, and wakes more each time.
//
// Why no wake is lost: flag before head on one side, head before flag on the
// other, all sequentially consistent. If the producer's second try saw the old
// head, the consumer sees the flag. The episode is loaded before the flag is
// set, so whoever takes this flag down raises the episode after that load, and
// the kernel's compare fails or the wake arrives.
//
// Who waits may sleep for long, so news that no consumer lives does not depend
// on the end of a sleep: whoever is told so by the kernel wakes all (see
// ConsumerAlive), and who was woken in vain asks, too. It gives up only after
// another question, since one consumer may be about to follow another. An
// attachment that knows has its waiters sleep shortly, until it hears otherwise.
//
// The turn keeps a large frame from starving behind small ones: a waiter that
// was passed over takes the turn word, and while it holds it everybody else
// leaves a quarter of the ring free (fits in producer.go), enough for any
// frame and the pad before it. A dead holder's turn is taken away by whoever
// finds it in the way. The turn word, 0 where nobody has it:
//
//	bits  0–7   slot + 1
//	bits  8–63  number of the claimant in its process, from 1
const (
	roomSpin      = 64 // looks at head before sleeping
	patientTries  = 3  // times a small frame is passed over before it takes the turn
	largeFraction = 16 // frames of at least 1/16 of the ring take it the first time

	doubtNap = int64(20 * time.Millisecond) // between the two questions of who was woken: one consumer may follow another

	admitFew = 1
	// Time between two wakes where nobody has found the ring full in between:
	// while there is something to consume, and while there is nothing.
	admitPace = int64(2 * time.Millisecond)
	idlePace  = int64(time.Millisecond)
)

// roomNap is the time between looks at who is alive, queuedNap that of who waits
// behind others, whom a timeout costs its place: a round of all takes about as
// long. Tests raise them, so that a lost wake cannot hide behind them.
var (
	roomNap   = int64(100 * time.Millisecond)
	queuedNap = int64(time.Second)
)

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
		if err := p.waitHead(ctx, try, passed > 0); err != ErrFull {
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
		for again := false; err == ErrFull; again = true {
			err = p.waitHead(ctx, released, again)
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
	open := p.open.Load() - 1
	p.open.Store(open) // before the look at closed: Close stores that and then looks here
	switch {
	case p.a.closed.Load():
		p.a.lastOut()
	case p.done && open == 0: // closed with a claim open
		p.publishGuarded()
		p.a.forget(p)
	}
}

// waitHead waits for head to move: it spins for a moment, then announces
// itself, takes the second look, and sleeps. Where others sleep already it is
// their turn: it does not spin, and sleeps for long. But the flag that it finds
// may be its own, of an earlier wait: it stays up until a quarter is free, which
// a slow consumer may take long for. Then the episode has not moved since.
// Who has slept before (again) looks before it announces itself again, and if it
// was woken in vain asks whether that was because no consumer lives. ErrFull
// means look again.
func (p *Producer) waitHead(ctx context.Context, try func() error, again bool) error {
	queued := p.roomWaiters.Load() != noneWaits
	look := again
	if !queued && shm.CanSpin() {
		from := p.head.Load()
		for i := 0; i < roomSpin && p.head.Load() == from; i++ {
			shm.Pause(10)
		}
		look = true
	}
	if look {
		if err := try(); err != ErrFull {
			return err
		}
	}
	doubt := false
	if again && p.woken {
		alive, err := p.a.ConsumerAlive()
		if err != nil {
			return err
		}
		doubt = !alive
	}
	episode := p.roomEpisode.Load() // before the flag, see above
	served := !p.announced || episode != p.announcedAt
	p.announced, p.announcedAt = true, episode
	p.roomWaiters.Store(someWait)
	if err := try(); err != ErrFull {
		return err
	}
	p.ring()
	nap := roomNap
	if doubt {
		nap = min(nap, doubtNap)
	} else if queued && served && !p.behindTurn && !p.a.orphaned.Load() {
		nap = queuedNap // whoever has the turn may have died with it, and who sleeps long buries it late
	}
	err := p.napForRoom(ctx, episode, nap)
	if err == context.DeadlineExceeded {
		// There may be room although nobody was woken for it.
		if last := try(); last != ErrFull {
			return last
		}
	}
	return err
}

// napForRoom sleeps until the consumer makes room, for nap at most.
func (p *Producer) napForRoom(ctx context.Context, episode uint32, nap int64) error {
	if p.a.closed.Load() {
		return os.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	stop := wakeWhenDone(ctx, p.roomEpisode)
	err := shm.FutexWait(p.roomEpisode, episode, shm.Now()+nap)
	p.woken = err == nil
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
