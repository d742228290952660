package bench

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/shm"
)

// Paced messages have a time each, by the monotonic clock: who is late once does
// not delay those behind. What a sender uses between them is the measurement's,
// not the transport's. So the time that it spins is counted, and left out of its
// processor time; and what remains of the loop (the sleeps, the stamps) is
// measured by a run of the same loop that does not send (Order.Mute).

const (
	// sleepFrom is the shortest time between messages that is slept, and not spun.
	sleepFrom = 500 * time.Microsecond

	// interrupted is what a turn of the spinning loop does not take by itself:
	// another thread had the processor, and this process was not charged.
	interrupted = 50 * time.Microsecond
)

// pacer waits for the times of messages.
type pacer struct {
	start    int64
	interval float64 // ns
	spins    bool
	spun     int64
}

func newPacer(start int64, rate int) *pacer {
	p := &pacer{start: start, interval: 1e9 / float64(rate)}
	p.spins = p.interval < float64(sleepFrom) && shm.CanSpin()
	return p
}

// wait returns when it is time for message i, with the time that it is.
func (p *pacer) wait(i uint64) int64 {
	at := p.start + int64(float64(i)*p.interval)
	t := now()
	if !p.spins {
		for t < at {
			sleepUntil(at)
			t = now()
		}
		return t
	}
	for t < at {
		shm.Pause(1)
		next := now()
		if d := next - t; d < int64(interrupted) {
			p.spun += d
		}
		t = next
	}
	return t
}

// sleepUntil sleeps in the kernel, which takes less than the runtime's timers
// do, and may wake early by a signal.
func sleepUntil(at int64) {
	ts := unix.NsecToTimespec(at)
	_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil)
}

// sendPaced sends n messages, each with the time of its sending in it.
func (a *actor) sendPaced(out outlet, o Order, n uint64) (rep Report, err error) {
	if o.Verify {
		return rep, errTimeAndContent
	}
	b := make([]byte, o.Size)
	rep.First = now()
	p := newPacer(rep.First, o.Rate)
	for i := range n {
		stamp(b, a.Index, i)
		stampTime(b, p.wait(i))
		switch {
		case o.Mute:
		case o.Fault != "" && i == n/2 && a.Index == 0:
			err = cheat(out, b, o.Fault)
		default:
			err = out.send(b)
		}
		if err != nil {
			return rep, err
		}
	}
	rep.Last, rep.Spun = now(), p.spun
	return rep, nil
}

// Paced is a run of paced messages. The times are of a message.
type Paced struct {
	Result
	Rate     float64       // messages per second that were sent: less than ordered where sender or receiver did not keep up
	Sender   time.Duration // processor time in the sending processes, the loop's own subtracted
	Receiver time.Duration // in the receiving one
}

// Paced has the senders send N messages at Order.Rate to the receiver, after as
// many turns of the same loop that send nothing. Errors: no Rate, and those of
// Stream.
func (c *Crew) Paced(o Order) (Paced, error) { return paced(o, c.Stream, c.mute) }

// paced runs both, and subtracts.
func paced(o Order, run func(Order) (Result, error), mute func(Order) (Result, error)) (p Paced, err error) {
	if o.Rate <= 0 {
		return p, fmt.Errorf("bench: %d messages a second are no pace", o.Rate)
	}
	loop, err := mute(o)
	if err != nil {
		return p, err
	}
	if p.Result, err = run(o); err != nil {
		return p, err
	}
	per := func(d time.Duration) time.Duration { return d / time.Duration(o.N) }
	p.Sender, p.Receiver = per(p.SenderCPU-loop.SenderCPU), per(p.ReceiverCPU)
	p.Rate = float64(o.N) * 1e9 / float64(p.Elapsed)
	return p, nil
}

// mute has the senders do everything but send.
func (c *Crew) mute(o Order) (Result, error) {
	o.Mute = true
	if o.Via == Channel {
		return c.runInside(o, jobStreamInside)
	}
	_, sent, err := c.exchange(o, "", jobSend, c.senders)
	res := Result{N: o.N}
	for _, s := range sent {
		res.sent(s)
	}
	return res, err
}
