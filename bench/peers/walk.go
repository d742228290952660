package main

import (
	"fmt"

	"github.com/shmrouter/shmrouter/bench"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/router"
)

// The whole way, from a worker's Send to a handler on the loop. The other side is what a Go program would write
// without the router: a goroutine for each unix socket, all feeding one channel. The kernel places both.

const (
	viaRouter = "router"
	viaFunnel = "funnel"
)

type way interface {
	Run(bench.Order) (bench.Result, error)
	Paced(bench.Order) (bench.Paced, error)
	Close() error
}

func startWay(s spec) (way, error) {
	switch s.via {
	case viaRouter:
		how := ring.Adaptive
		if s.wait == waitLatency {
			how = ring.LowLatency
		}
		return bench.StartWalk(s.senders, router.WithWaiting(how))
	case viaFunnel:
		return bench.StartFunnel(s.senders)
	}
	return nil, fmt.Errorf("no such way: %q", s.via)
}

// wayKey is what runs must have in common to go the same way.
func wayKey(s spec) spec { return spec{via: s.via, wait: s.wait, senders: s.senders} }

type walkSide struct {
	spec
	way way
}

func (s *walkSide) run(n uint64, verify bool) (measure, error) {
	o := bench.Order{N: n, Size: s.size, Verify: verify}
	if s.rate == 0 || verify { // the instants stand where content would
		r, err := s.way.Run(o)
		if err != nil {
			return nil, err
		}
		return measure{"ns": r.PerMessage(), "M/s": 1e3 / r.PerMessage()}, nil
	}
	o.Rate = int(s.rate)
	p, err := s.way.Paced(o)
	if err != nil {
		return nil, err
	}
	m := measure{
		"ns": p.Result.PerMessage(), "µs": float64(p.Latency.P50) / 1e3,
		"cpu": float64(p.Sender+p.Receiver) / 1e9 * p.Rate,
	}
	m.add(p.Latency)
	return m, nil
}

// walks is the line of the router.
func walks() []line {
	walk := stream(64)
	walk.via = viaRouter
	awake := func(what, wait string, m ...metric) contest {
		c := paced(what, 1e5, wait, 0, 0, 0, 0)
		c.ours.via, c.theirs.via = viaRouter, viaFunnel
		c.metrics = append([]metric{{key: "p50"}, {key: "cpu"}}, m...)
		return c
	}
	return []line{
		{"6", "a worker's Send to the handler on the loop, 64 B", []contest{
			against("a goroutine for each unix socket, and a channel", walk, viaFunnel,
				append(rate(10, 20), metric{key: "M/s", absolute: true, must: 6, goal: 10})),
		}},
		{"6b", "the same, 100,000 messages a second, paced", []contest{
			awake("awake (LowLatency): goroutines, sockets, channel", waitLatency, metric{key: "µs", absolute: true, most: true, must: 5, goal: 1}),
			awake("default: goroutines, sockets, channel", waitDefault),
		}},
	}
}
