package sweep

import (
	"time"

	"errors"
	"fmt"

	"github.com/shmrouter/shmrouter/ring"
)

// The operations of the consumer. The victim has the consumer's seat, or takes it.
var consuming = []*operation{
	{
		// Records of every kind, and a lap's end with a pad.
		name: "poll", pairs: asFirst, at: 2*lap - 30, reads: true, after: everyKind,
		setup: asConsumer(),
		run: func(a *actor) (outcome, error) {
			_, err := poll(a.cons, manyTakes, a.handle)
			a.release()
			return ended(err)
		},
	},
	{
		name: "poll-manual", pairs: asFirst, at: midLap, backlog: 4, reads: true,
		setup: asConsumer(ring.WithManualRelease()),
		run: func(a *actor) (outcome, error) {
			if _, err := poll(a.cons, 3, a.handle); err != nil {
				return failure, err
			}
			err := release(a.cons, a.cons.Position())
			a.release()
			return ended(err)
		},
	},
	{
		// The claim of a dead producer is in front.
		name: "poll-dead", pairs: asFirst, at: midLap, reads: true, corpse: diesInClaim, after: sendsOn,
		setup: asConsumer(ring.WithWaiting(ring.Thrift)),
		run: func(a *actor) (outcome, error) {
			for a.diary.taken.Load() < 3 {
				if _, err := poll(a.cons, manyTakes, a.handle); err != nil {
					return failure, err
				}
				a.release()
				// The owner is asked for some time after the first look, always at the next one.
				for begun := time.Now(); time.Since(begun) < time.Millisecond; {
				}
			}
			return success, nil
		},
	},
	{
		// It sleeps, and is woken by a message.
		name: "wait", pairs: asFirst, at: midLap, reads: true,
		setup: asConsumer(ring.WithWaiting(ring.Thrift)),
		run: func(a *actor) (outcome, error) {
			if err := wait(a.cons, background); err != nil {
				return failure, err
			}
			_, err := poll(a.cons, manyTakes, a.handle)
			a.release()
			return ended(err)
		},
		unblock: sendOnce,
	},
	{
		// From a consumer that has died in its sleep, with messages not released.
		name: "takeover", pairs: asFirst, at: midLap, backlog: 3, reads: true, corpse: diesConsuming, after: sendsOn,
		setup: func(a *actor) error { return a.open() },
		run: func(a *actor) (outcome, error) {
			c, err := consume(a.ring)
			a.cons = c
			if errors.Is(err, ring.ErrConsumerBusy) {
				return refused, err
			}
			return ended(err)
		},
	},
	{
		name: "consumer-close", pairs: asFirst, at: midLap, backlog: 3, reads: true,
		setup: func(a *actor) error {
			if err := asConsumer()(a); err != nil {
				return err
			}
			_, err := a.cons.Poll(2, a.handle)
			a.release()
			return err
		},
		run: func(a *actor) (outcome, error) { return ended(closeSeat2(a.cons)) },
	},
}

// asConsumer is the setup of a consumer.
func asConsumer(opts ...ring.ConsumerOption) func(*actor) error {
	return func(a *actor) (err error) {
		if err = a.open(); err != nil {
			return err
		}
		if a.cons, err = a.ring.Consume(opts...); err == nil {
			a.cons.SetIdle(patience)
		}
		return err
	}
}

// everyKind leaves a message, an aborted claim, a batch, a pad, and messages behind the lap's end.
func everyKind(w *ringWorld) error {
	one := order{Do: doSend, Count: 1, Size: frameSize, Patience: patience}
	orders := []order{one, {Do: doAbort, Size: frameSize}, {Do: doBatch, Count: 3, Size: 2 * ring.Granule},
		{Do: doSend, Count: 1, Size: 1000, Patience: patience}, one}
	for _, o := range orders {
		if err := w.friend.do(o, nil); err != nil {
			return err
		}
	}
	return nil
}

// sendOnce has the neighbour send one message to the sleeping victim.
func sendOnce(w *ringWorld, n int) error {
	switch {
	case w.pressed:
		w.book.complain("the consumer falls asleep, though there are messages")
		return errors.New("it sleeps on")
	case n > 1:
		return nil
	}
	return w.friend.do(order{Do: doSend, Count: 1, Size: frameSize, Patience: patience}, nil)
}

// diesConsuming polls a message without releasing it, to die then.
func diesConsuming(a *actor) (err error) {
	if err = asConsumer(ring.WithManualRelease())(a); err != nil {
		return err
	}
	n, err := a.cons.Poll(1, a.handle)
	if err == nil && n != 1 {
		err = fmt.Errorf("it has polled %d messages", n)
	}
	return err
}
