package bench

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/shmrouter/shmrouter/shm"
)

// What an actor does when it is ordered to: one function for each job.

// doSend sends this sender's share of the order.
func (a *actor) doSend(o Order) (Report, error) {
	out, err := a.outlet(o)
	if err != nil {
		return Report{}, err
	}
	b := make([]byte, o.Size)
	n := share(o.N, a.Index, a.Senders)
	rep := Report{First: shm.Now()}
	for i := range n {
		stamp(b, a.Index, i)
		if o.Verify {
			fill(b)
		}
		if o.Fault != "" && i == n/2 && a.Index == 0 {
			err = cheat(out, b, o.Fault)
		} else {
			err = out.send(b)
		}
		if err != nil {
			return rep, err
		}
	}
	rep.Last = shm.Now()
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

// doReceive takes the messages of all senders and checks them.
func (a *actor) doReceive(o Order, ready func() error) (Report, error) {
	total := newVerifier(o.Size, a.Senders, o.Verify)
	receive, err := a.receiver(o, total)
	if err != nil {
		return Report{}, err
	}
	if err := ready(); err != nil {
		return Report{}, err
	}
	rep := Report{First: shm.Now()}
	err = receive()
	rep.Last = shm.Now()
	if err != nil {
		return rep, err
	}
	return rep, total.complete(func(s int) uint64 { return share(o.N, s, a.Senders) })
}

// receiver returns what takes all messages of an order. Those of a ring come in
// one stream; elsewhere each sender has a connection, and the connection a
// goroutine.
func (a *actor) receiver(o Order, total *verifier) (func() error, error) {
	if o.Via == Ring || a.Senders == 1 {
		in, err := a.inlet(o, 0)
		return func() error { return in.receive(o.N, total) }, err
	}
	ins := make([]inlet, a.Senders)
	for i := range ins {
		var err error
		if ins[i], err = a.inlet(o, i); err != nil {
			return nil, err
		}
	}
	return func() error {
		errs := make(chan error, len(ins))
		var merge sync.Mutex
		for i, in := range ins {
			go func() {
				v := newVerifier(o.Size, a.Senders, o.Verify)
				err := in.receive(share(o.N, i, a.Senders), v)
				merge.Lock()
				defer merge.Unlock()
				for s, n := range v.next[:a.Senders] {
					total.next[s] += n
				}
				errs <- err
			}()
		}
		for range ins {
			if err := <-errs; err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// doPing makes round trips: it sends a message and waits for the answer.
func (a *actor) doPing(o Order) (Report, error) {
	in, out, err := a.bothWays(o)
	if err != nil {
		return Report{}, err
	}
	b := make([]byte, o.Size)
	v, trips := newVerifier(o.Size, 1, o.Verify), newRecorder()
	start := shm.Now()
	rep := Report{First: start}
	for i := range o.N {
		stamp(b, 0, i)
		if o.Verify {
			fill(b)
		}
		if err := out.send(b); err != nil {
			return rep, err
		}
		if err := in.receive(1, v); err != nil {
			return rep, err
		}
		now := shm.Now() // one look at the clock a round trip, which is part of it
		trips.add(now - start)
		start = now
	}
	rep.Last = start
	l := trips.latency()
	rep.Latency = &l
	return rep, nil
}

// doEcho answers round trips.
func (a *actor) doEcho(o Order, ready func() error) (Report, error) {
	in, out, err := a.bothWays(o)
	if err != nil {
		return Report{}, err
	}
	if err := ready(); err != nil {
		return Report{}, err
	}
	b := make([]byte, o.Size)
	v := newVerifier(o.Size, 1, o.Verify)
	for i := range o.N {
		if err := in.receive(1, v); err != nil {
			return Report{}, err
		}
		stamp(b, 0, i)
		if o.Verify {
			fill(b)
		}
		if err := out.send(b); err != nil {
			return Report{}, err
		}
	}
	return Report{}, nil
}

func (a *actor) bothWays(o Order) (in inlet, out outlet, err error) {
	if in, err = a.inlet(o, 0); err != nil {
		return nil, nil, err
	}
	out, err = a.outlet(o)
	return in, out, err
}

var errNoFloor = errors.New("bench: a floor takes processes that stay on their processors")

// doFloor measures, or helps to measure, the cache-line floor.
func (a *actor) doFloor(o Order, ready func() error) (rep Report, err error) {
	if a.CPU < 0 {
		return rep, errNoFloor
	}
	if a.floor == nil {
		f, err := a.file(fileFloor)
		if err != nil {
			return rep, err
		}
		if a.floor, err = shm.FromFile(f); err != nil {
			return rep, err
		}
	}
	if o.Job == jobFloorPing {
		rep.Floor, err = pingFloor(a.floor)
		return rep, err
	}
	if err := ready(); err != nil {
		return rep, err
	}
	return rep, echoFloor(a.floor)
}
