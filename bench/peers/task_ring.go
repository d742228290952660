package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/bench"
	"github.com/shmrouter/shmrouter/shm"
)

// Tasks that look at one half of the ring.

// ringOf is the ring's link, with a producer.
func ringOf(p *bench.Post, a args) (*ringLink, error) {
	l, err := linkOf(p, a, p.Index)
	if err != nil {
		return nil, err
	}
	r, ok := l.(*ringLink)
	if !ok {
		return nil, fmt.Errorf("this is about rings, not %q", a.Via)
	}
	_, err = r.producer()
	return r, err
}

// claims sends while nobody reads, all senders at once.
func claims(p *bench.Post, a args) (rep bench.Report, err error) {
	l, err := ringOf(p, a)
	if err != nil {
		return rep, err
	}
	b := make([]byte, a.Size)
	n := share(a.N, p.Index, p.Senders)
	for shm.Now() < a.At {
		shm.Pause(1)
	}
	rep.First = shm.Now()
	for i := range n {
		stamp(b, p.Index, i, a)
		if err := l.p.TrySend(b, 0); err != nil {
			return rep, err
		}
	}
	rep.Last = shm.Now()
	rep.Figures = map[string]float64{"ns": float64(rep.Last-rep.First) / float64(n)}
	return rep, nil
}

// burstLength is how many messages a burst has.
const burstLength = 32

// burst measures the cost of a send in bursts, between which the consumer
// comes to an empty ring.
func burst(p *bench.Post, a args) (rep bench.Report, err error) {
	l, err := ringOf(p, a)
	if err != nil {
		return rep, err
	}
	b := make([]byte, a.Size)
	took := bench.NewRecorder()
	rep.First = shm.Now()
	for i := uint64(0); i < a.N; {
		start := shm.Now()
		for range burstLength {
			stamp(b, 0, i, a)
			if err := l.send(b); err != nil {
				return rep, err
			}
			i++
		}
		took.Add(shm.Now() - start)
		for l.out.Head() < l.p.Position() {
			shm.Pause(1)
		}
	}
	rep.Last = shm.Now()
	rep.Figures = map[string]float64{"ns": float64(took.Latency().P50) / burstLength}
	return rep, nil
}

// longGap is from where on pacing sleeps: the sleep's own lateness must be
// small beside the gap.
const longGap = 200_000

// waitUntil returns at an instant of shm.Now.
func waitUntil(at int64) error {
	if at-shm.Now() >= longGap {
		t := unix.NsecToTimespec(at)
		for {
			err := unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &t, nil)
			if err == nil {
				return nil
			}
			if err != unix.EINTR {
				return err
			}
		}
	}
	for shm.Now() < at {
		shm.Pause(1)
	}
	return nil
}
