package sweep

import (
	"errors"
	"fmt"

	"github.com/shmrouter/shmrouter/ring"
)

// The operations of producers.
var producing = []*operation{
	{
		name: "send", pairs: asFirst | asSecond, at: midLap, backlog: 2,
		setup: withMessages(1, frameSize),
		run:   func(a *actor) (outcome, error) { return ended(a.sending(a.sends)) },
	},
	{
		name: "send-wake", at: midLap, asleep: true,
		setup: withMessages(1, frameSize),
		run:   func(a *actor) (outcome, error) { return ended(a.sending(a.sends)) },
	},
	{
		name: "send-cas", at: midLap, backlog: 2, cas: true,
		setup: withMessages(1, frameSize),
		run:   func(a *actor) (outcome, error) { return ended(a.sending(a.sends)) },
	},
	{
		name: "send-wake-cas", at: midLap, asleep: true, cas: true,
		setup: withMessages(1, frameSize),
		run:   func(a *actor) (outcome, error) { return ended(a.sending(a.sends)) },
	},
	{
		// The first message ends where the lap does, and the second one starts the next.
		name: "send-wrap", pairs: asFirst, at: 2*lap - 12, backlog: 2,
		setup: withMessages(2, frameSize),
		run: func(a *actor) (outcome, error) {
			if err := a.sending(a.sends); err != nil {
				return failure, err
			}
			return ended(a.sending(a.sends))
		},
	},
	{
		// Two granules are left of the lap.
		name: "send-pad", pairs: asFirst, at: 2*lap - 10, backlog: 2,
		setup: withMessages(1, frameSize),
		run:   func(a *actor) (outcome, error) { return ended(a.sending(a.sends)) },
	},
	{
		name: "send-full", at: midLap, full: true,
		setup:   withMessages(1, frameSize),
		run:     func(a *actor) (outcome, error) { return ended(a.sending(a.sends)) },
		unblock: func(w *ringWorld, _ int) error { return w.drain() },
	},
	{
		// The largest frame sleeps until its time is over, asks for the consumer, and takes the turn.
		name: "send-turn", at: midLap, full: true,
		setup: withMessages(1, ring.MinCapacity/8),
		run:   func(a *actor) (outcome, error) { return ended(a.sending(a.sends)) },
		unblock: func(w *ringWorld, n int) error {
			if n == 1 {
				return nil
			}
			return w.drain()
		},
	},
	{
		name: "try-send", pairs: asFirst | asSecond, at: midLap, backlog: 2,
		setup: withMessages(1, frameSize),
		run:   func(a *actor) (outcome, error) { return orFull(a.sending(a.tries)) },
	},
	{
		name: "try-full", at: midLap, full: true, refused: true,
		setup: withMessages(1, frameSize),
		run:   func(a *actor) (outcome, error) { return orFull(a.sending(a.tries)) },
	},
	{
		name: "claim-commit", pairs: asFirst | asSecond, at: midLap, backlog: 2,
		setup: withMessages(1, frameSize),
		run: func(a *actor) (outcome, error) {
			return orFull(a.sending(func(b []byte) error { return a.claims(b, len(b), true) }))
		},
	},
	{
		name: "claim-commit-cas", at: midLap, backlog: 2, cas: true,
		setup: withMessages(1, frameSize),
		run: func(a *actor) (outcome, error) {
			return orFull(a.sending(func(b []byte) error { return a.claims(b, len(b), true) }))
		},
	},
	{
		// More is claimed than is needed.
		name: "claim-part", pairs: asFirst | asSecond, at: midLap, backlog: 2,
		setup: withMessages(1, frameSize),
		run: func(a *actor) (outcome, error) {
			return orFull(a.sending(func(b []byte) error { return a.claims(b, 5*len(b), true) }))
		},
	},
	{
		name: "claim-abort", pairs: asFirst | asSecond, at: midLap, backlog: 2, none: true,
		setup: withMessages(1, frameSize),
		run:   func(a *actor) (outcome, error) { return orFull(a.claims(a.intend(1)[0], frameSize, false)) },
	},
	{
		// The consumer sleeps, and has to step over it.
		name: "abort-wake", at: midLap, asleep: true, none: true,
		setup: withMessages(1, frameSize),
		run:   func(a *actor) (outcome, error) { return orFull(a.claims(a.intend(1)[0], frameSize, false)) },
	},
	{
		name: "batch", pairs: asFirst | asSecond, at: midLap, backlog: 2, atomic: true,
		setup: withMessages(3, frameSize),
		run: func(a *actor) (outcome, error) {
			err := tryBatch(a.prod, a.intend(3), nil)
			if err == nil {
				a.acknowledge()
			}
			return orFull(err)
		},
	},
	{
		name: "batch-cas", at: midLap, backlog: 2, cas: true, atomic: true,
		setup: withMessages(3, frameSize),
		run: func(a *actor) (outcome, error) {
			err := tryBatch(a.prod, a.intend(3), nil)
			if err == nil {
				a.acknowledge()
			}
			return orFull(err)
		},
	},
	{
		// In the slot of a dead one that has left a claim open.
		name: "attach", pairs: asFirst, at: midLap, backlog: 2, corpse: diesInClaim, after: sendsOn,
		setup: func(a *actor) error { return a.open() },
		run: func(a *actor) (outcome, error) {
			seat, err := attach(a.ring)
			if err != nil {
				return failure, err
			}
			a.att, a.prod = seat, newProducer(seat)
			return success, nil
		},
	},
	{
		name: "detach", pairs: asFirst | asSecond, at: midLap, backlog: 2,
		setup: func(a *actor) error {
			if err := a.attach(2, frameSize); err != nil {
				return err
			}
			return errors.Join(a.sending(a.sends), a.sending(a.sends))
		},
		run: func(a *actor) (outcome, error) { return ended(closeSeat(a.att)) },
	},
	{
		name: "wait-released", at: midLap, backlog: 2,
		setup: func(a *actor) error {
			if err := a.attach(2, frameSize); err != nil {
				return err
			}
			return errors.Join(a.sending(a.sends), a.sending(a.sends))
		},
		run:     func(a *actor) (outcome, error) { return ended(waitReleased(a.prod, background, a.prod.Position())) },
		unblock: func(w *ringWorld, _ int) error { return w.drain() },
	},
}

// withMessages is the setup of a producer with messages to send.
func withMessages(n, size int) func(*actor) error {
	return func(a *actor) error { return a.attach(n, size) }
}

func (a *actor) sends(b []byte) error { return send(a.prod, background, b, 0) }
func (a *actor) tries(b []byte) error { return trySend(a.prod, b, 0) }

// claims sends b in a claim of n bytes, or gives it up half filled.
func (a *actor) claims(b []byte, n int, whole bool) error {
	c, err := tryClaim(a.prod, n, 0)
	if err != nil {
		return err
	}
	if !whole {
		copy(c.Bytes(), b[:len(b)/2])
		abort(c)
		return nil
	}
	copy(c.Bytes(), b)
	if n == len(b) {
		return commit(c)
	}
	return commitPart(c, len(b))
}

// orFull takes the answer that the ring is full for what it is.
func orFull(err error) (outcome, error) {
	if errors.Is(err, ring.ErrFull) {
		return refused, err
	}
	return ended(err)
}

// diesInClaim opens a claim, to die in it.
func diesInClaim(a *actor) error {
	if err := a.attach(2, frameSize); err != nil {
		return err
	}
	if err := trySend(a.prod, a.intend(1)[0], 0); err != nil {
		return err
	}
	a.acknowledge()
	c, err := tryClaim(a.prod, 1000, 0)
	if err == nil && a.att.Slot() != 1 {
		err = fmt.Errorf("it has slot %d", a.att.Slot())
	}
	copy(c.Bytes(), a.ready[0][:100])
	return err
}

// sendsOn has the neighbour send behind the dead one's claim.
func sendsOn(w *ringWorld) error {
	return w.friend.do(order{Do: doSend, Count: 2, Size: frameSize, Patience: patience}, nil)
}
