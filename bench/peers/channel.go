package main

import (
	"fmt"

	"github.com/shmrouter/shmrouter/bench"
	"github.com/shmrouter/shmrouter/shm"
)

// Go's channel, inside this one process: no other process involved, messages
// passed by value.

const channelLength = 1024

type message[R any] struct {
	number uint64
	_      R
}

// channelSide runs where it is asked: the processes of the other side sleep.
type channelSide struct{ spec }

func (s *channelSide) run(n uint64, _ bool) (measure, error) {
	switch s.size {
	case 16:
		return viaChannel[[8]byte](s.spec, n)
	case 64:
		return viaChannel[[56]byte](s.spec, n)
	case 256:
		return viaChannel[[248]byte](s.spec, n)
	case 1 << 10:
		return viaChannel[[1016]byte](s.spec, n)
	case 4 << 10:
		return viaChannel[[4088]byte](s.spec, n)
	case 16 << 10:
		return viaChannel[[16376]byte](s.spec, n)
	}
	return nil, fmt.Errorf("no channel of %d bytes", s.size)
}

func viaChannel[R any](s spec, n uint64) (measure, error) {
	if s.kind == kindTrip {
		return channelTrips[R](n)
	}
	c := make(chan message[R], channelLength)
	start := shm.Now()
	for from := range s.senders {
		go func() {
			for i := range share(n, from, s.senders) {
				c <- message[R]{number: i | uint64(from)<<numberBits}
			}
		}()
	}
	next := make([]uint64, s.senders)
	for range n {
		m := <-c
		from := m.number >> numberBits
		if m.number&lastOfAll != next[from] {
			return nil, fmt.Errorf("%w: %#x", bench.ErrBadMessage, m.number)
		}
		next[from]++
	}
	return measure{"ns": float64(shm.Now()-start) / float64(n)}, nil
}

func channelTrips[R any](n uint64) (measure, error) {
	there, back := make(chan message[R], 1), make(chan message[R], 1)
	go func() {
		for m := range there {
			back <- m
		}
	}()
	defer close(there)
	trips := bench.NewRecorder()
	start := shm.Now()
	first := start
	for i := range n {
		there <- message[R]{number: i}
		if m := <-back; m.number != i {
			return nil, fmt.Errorf("%w: %#x", bench.ErrBadMessage, m.number)
		}
		now := shm.Now()
		trips.Add(now - start)
		start = now
	}
	m := measure{"ns": float64(start-first) / float64(n)}
	l := trips.Latency()
	m.add(&l)
	return m, nil
}
