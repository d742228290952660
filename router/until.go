package router

import (
	"context"
	"time"

	"github.com/shmrouter/shmrouter/shm"
)

// syncPoint is RouteUntil's question to the monitor: copy what was committed
// before the call. The answer is an item in the inbox, behind all that.
type syncPoint struct {
	mark    frontier // as of when RouteUntil was called
	giveUp  int64    // shm.Now: when a claim in front of mark is waited for no longer
	reached bool     // the item was met; owned by whoever has the turn
}

const (
	// syncPatience is how long a claim that nobody commits may hold up a
	// RouteUntil that has no time left. It covers the skipping of a dead owner's
	// claim.
	syncPatience = 20 * time.Millisecond
	// turnPatience is how long a RouteUntil that has no time left waits for the
	// handler that the loop is in.
	turnPatience = 100 * time.Millisecond
)

// RouteUntil routes on the calling goroutine, handlers included, until cond
// holds; the event loop does nothing meanwhile, and goes on afterwards. cond is
// called on the same goroutine, before the first message and after each: if it
// holds at once, nothing is routed.
//
// When ctx is done it returns ctx's error, but not before everything that was
// committed when it was called has been routed, also if ctx was done from the
// start; messages that keep coming do not keep it. Two things are then waited for
// in vain only so long: a claim that its owner leaves uncommitted (20 ms), and a
// handler that the loop was in at the time of the call (100 ms). A pulled receiver
// whose queue is full ends it with ctx's error at once.
//
// Other errors: ErrNothingToWaitFor when nothing is queued and every open pipe
// has ended and been told so; ErrNotRunning, also when the router is stopped
// meanwhile; ErrInHandler; ErrRouting.
func (r *Router) RouteUntil(ctx context.Context, cond func() bool) error {
	n, err := r.running()
	if err != nil {
		return err
	}
	if n.inHandler() {
		return ErrInHandler
	}
	if !n.until.CompareAndSwap(false, true) {
		return ErrRouting
	}
	defer n.giveBack()
	if n.shared != nil {
		n.mon.callOff() // the loop may have the turn while it sleeps
	}
	if err := n.waitTurn(ctx); err != nil {
		return err
	}
	defer n.endTurn()
	return n.routeUntil(ctx, cond)
}

func (n *run) routeUntil(ctx context.Context, cond func() bool) error {
	var asked *syncPoint
	for {
		if cond() {
			return nil
		}
		if asked == nil {
			var err error
			if asked, err = n.askSync(); err != nil {
				return err
			}
		}
		if asked.reached {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		// Cleared before the look, as in a turn of the loop: see inbox.
		n.inbox.pinged.Store(false)
		did := n.step()
		switch {
		case did == moved:
			continue
		case n.isStopped():
			return ErrNotRunning
		case did == idle && asked.reached && n.awaited.Load() == 0:
			return ErrNothingToWaitFor
		}
		expired := ctx.Done()
		if did == idle && !asked.reached {
			expired = nil // the answer comes, and soon
		}
		select {
		case <-n.untilWake:
		case <-n.stopping:
		case <-expired:
			if did == stuck {
				return ctx.Err()
			}
		}
	}
}

// waitTurn waits until the loop's turn, which ends early for this, is over.
func (n *run) waitTurn(ctx context.Context) error {
	select {
	case n.turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case n.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
	}
	patience := time.NewTimer(turnPatience)
	defer patience.Stop()
	select {
	case n.turn <- struct{}{}:
		return nil
	case <-patience.C:
		return ctx.Err()
	}
}

// giveBack returns routing to the loop: whatever was put meanwhile, its ping came here.
func (n *run) giveBack() {
	n.until.Store(false)
	n.inbox.pinged.Store(true)
	n.signal()
}

// askSync asks the monitor for everything committed by now.
func (n *run) askSync() (*syncPoint, error) {
	s := &syncPoint{giveUp: shm.Now() + int64(syncPatience)}
	err := n.withSegment(func() error {
		s.mark.find(n)
		return nil
	})
	if err != nil {
		return nil, err
	}
	n.mon.post(event{sync: s})
	return s, nil
}
