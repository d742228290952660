package bench

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/shmrouter/shmrouter/shm"
)

// What a sending actor does: one function for each way of sending.

var errTimeAndContent = errors.New("bench: the time of sending takes the place of content")

// doSend sends this sender's share of the order.
func (a *actor) doSend(o Order) (Report, error) {
	out, err := a.outlet(o)
	if err != nil {
		return Report{}, err
	}
	n := share(o.N, a.Index, a.Senders)
	awaitTime(o.From)
	switch {
	case o.Rate > 0:
		return a.sendPaced(out, o, n)
	case o.For > 0:
		return a.sendFor(out, o)
	case o.Burst > 0:
		return a.sendBursts(out, o, n)
	case o.Batch > 1:
		return a.sendBatches(out, o, n)
	}
	return a.sendAll(out, o, n)
}

// awaitTime returns at that time, and not a wake-up later.
func awaitTime(at int64) {
	const early = 200 * time.Microsecond
	if at-now() > int64(early) {
		sleepUntil(at - int64(early))
	}
	for now() < at {
		if shm.CanSpin() {
			shm.Pause(4)
		} else {
			sleepUntil(at)
		}
	}
}

func (a *actor) sendAll(out outlet, o Order, n uint64) (Report, error) {
	b := make([]byte, o.Size)
	rep := Report{First: now()}
	for i := range n {
		stamp(b, a.Index, i)
		if o.Verify {
			fill(b)
		}
		var err error
		if o.Fault != "" && i == n/2 && a.Index == 0 {
			err = cheat(out, b, o.Fault)
		} else {
			err = out.send(b)
		}
		if err != nil {
			return rep, err
		}
	}
	rep.Last = now()
	return rep, nil
}

func (a *actor) sendBatches(out outlet, o Order, n uint64) (Report, error) {
	batch := makeBatch(o)
	rep := Report{First: now()}
	for i := uint64(0); i < n; i += uint64(len(batch)) {
		batch = batch[:min(uint64(o.Batch), n-i)]
		for j, b := range batch {
			stamp(b, a.Index, i+uint64(j))
			if o.Verify {
				fill(b)
			}
		}
		if err := out.sendBatch(batch); err != nil {
			return rep, err
		}
	}
	rep.Last = now()
	return rep, nil
}

// makeBatch makes room for the messages of a batch, one behind the other.
func makeBatch(o Order) [][]byte {
	all := make([]byte, o.Batch*o.Size)
	batch := make([][]byte, o.Batch)
	for i := range batch {
		batch[i] = all[i*o.Size : (i+1)*o.Size : (i+1)*o.Size]
	}
	return batch
}

// sendFor sends until the time is over, and marks its last message as such.
func (a *actor) sendFor(out outlet, o Order) (Report, error) {
	b := make([]byte, o.Size)
	rep := Report{First: now()}
	until := rep.First + int64(o.For)
	for i := uint64(0); ; i++ {
		number := i
		last := i%16 == 15 && now() >= until // a look at the clock takes as long as a send
		if last {
			number |= lastMark
		}
		stamp(b, a.Index, number)
		if o.Verify {
			fill(b)
		}
		if err := out.send(b); err != nil {
			return rep, err
		}
		if last {
			rep.Last = now()
			return rep, nil
		}
	}
}

// sendBursts measures what sends cost while the receiver drains what they send.
// Latency is that of bursts.
func (a *actor) sendBursts(out outlet, o Order, n uint64) (Report, error) {
	r, ok := out.(*ringOutlet)
	if !ok {
		return Report{}, fmt.Errorf("bench: who knows when a %s is empty?", o.Via)
	}
	b := make([]byte, o.Size)
	bursts := newRecorder()
	rep := Report{First: now()}
	for i := uint64(0); i < n; {
		start := now()
		for end := min(n, i+uint64(o.Burst)); i < end; i++ {
			stamp(b, a.Index, i)
			if o.Verify {
				fill(b)
			}
			if err := r.send(b); err != nil {
				return rep, err
			}
		}
		bursts.add(now() - start)
		for !r.drained() {
			if shm.CanSpin() {
				shm.Pause(1)
			} else {
				runtime.Gosched()
			}
		}
	}
	rep.Last = now()
	l := bursts.latency()
	rep.Latency = &l
	return rep, nil
}

// cheat sends something else than b.
func cheat(out outlet, b []byte, fault string) error {
	switch fault {
	case "drop":
		return nil
	case "repeat":
		if err := out.send(b); err != nil {
			return err
		}
	case "garble":
		b = bytes.Clone(b)
		b[len(b)-1] ^= 1
	case "stretch":
		b = append(bytes.Clone(b), 0)
	default:
		return fmt.Errorf("bench: no such fault: %q", fault)
	}
	return out.send(b)
}
