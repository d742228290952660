package bench

import (
	"errors"
	"math"
	"sync"

	"github.com/shmrouter/shmrouter/shm"
)

// What an actor does when it is ordered to receive, to echo, or to measure the
// floor: one function for each job.

// doReceive takes the messages of all senders and checks them.
func (a *actor) doReceive(o Order, ready func() error) (Report, error) {
	total := newVerifier(o.Size, a.Senders, o.Verify)
	total.follow(o, a.Senders)
	receive, err := a.receiver(o, total)
	if err != nil {
		return Report{}, err
	}
	if err := ready(); err != nil {
		return Report{}, err
	}
	rep := Report{First: now()}
	err = receive()
	rep.Last = now()
	if total.latency != nil {
		l := total.latency.latency()
		rep.Latency = &l
	}
	if o.For > 0 && errors.Is(err, errAllEnded) {
		rep.Counts = total.next[:a.Senders]
		return rep, nil
	}
	if err != nil {
		return rep, err
	}
	return rep, total.complete(func(s int) uint64 { return share(o.N, s, a.Senders) })
}

// receiver returns what takes all messages of an order. Those of a ring come in
// one stream; elsewhere each sender has a connection, and the connection a
// goroutine.
func (a *actor) receiver(o Order, total *verifier) (func() error, error) {
	count := func(share uint64) uint64 {
		if o.For > 0 {
			return math.MaxUint64 // until the last one's mark
		}
		return share
	}
	if o.Via == Ring || a.Senders == 1 {
		in, err := a.inlet(o, 0)
		return func() error { return in.receive(count(o.N), total) }, err
	}
	ins := make([]inlet, a.Senders)
	for i := range ins {
		var err error
		if ins[i], err = a.inlet(o, i); err != nil {
			return nil, err
		}
	}
	return func() (ended error) {
		errs := make(chan error, len(ins))
		var merge sync.Mutex
		for i, in := range ins {
			go func() {
				v := newVerifier(o.Size, a.Senders, o.Verify)
				v.follow(o, 1)
				err := in.receive(count(share(o.N, i, a.Senders)), v)
				merge.Lock()
				defer merge.Unlock()
				total.merge(v)
				errs <- err
			}()
		}
		for range ins {
			err := <-errs
			if err != nil && !errors.Is(err, errAllEnded) {
				return err
			}
			ended = err
		}
		return ended
	}, nil
}

// doPing makes round trips: it sends a message and waits for the answer.
func (a *actor) doPing(o Order) (Report, error) {
	in, out, err := a.bothWays(o)
	if err != nil {
		return Report{}, err
	}
	return pingAll(in, out, o)
}

func pingAll(in inlet, out outlet, o Order) (Report, error) {
	b := make([]byte, o.Size)
	v, trips := newVerifier(o.Size, 1, o.Verify), newRecorder()
	start := now()
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
		end := now() // one look at the clock a round trip, which is part of it
		trips.add(end - start)
		start = end
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
	return echoAll(in, out, o)
}

func echoAll(in inlet, out outlet, o Order) (Report, error) {
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
