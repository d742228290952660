package main

import (
	"context"

	"github.com/shmrouter/shmrouter/bench"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

func init() {
	addPeer(&peer{
		name: "ring", title: "**ring**", shared: true, open: openRing,
		how: "Send per message, or SendBatch of 32; Poll of up to 256, and Wait; default options unless a row says otherwise, so 4 MiB. Recovery and all checks on.",
	})
}

// How a ring's consumer waits.
const (
	waitDefault = ""
	waitSpin    = "spin"    // polls on and on
	waitThrift  = "thrift"  // sleeps at once
	waitLatency = "latency" // spins longer than the gaps of the runs that ask for it
)

const pollLimit = 256

type ringLink struct {
	in, out *ring.Ring
	p       *ring.Producer
	c       *ring.Consumer
	wait    string

	take func(ring.Frame) ring.Action
	s    *sequence
	err  error
}

func openRing(p *bench.Post, _ end) (link, error) {
	names := [2]string{bench.FileRingDown, bench.FileRingUp}
	if p.Receiver {
		names = [2]string{bench.FileRingUp, bench.FileRingDown}
	}
	l := &ringLink{}
	for i, r := range []**ring.Ring{&l.in, &l.out} {
		f, err := p.File(names[i])
		if err != nil {
			return nil, err
		}
		if *r, err = ring.OpenFile(f); err != nil {
			return nil, err
		}
	}
	l.take = func(f ring.Frame) ring.Action {
		if l.err = l.s.check(f.Data); l.err != nil {
			return ring.Break
		}
		return ring.Continue
	}
	return l, nil
}

func (l *ringLink) tune(e end) error {
	if l.wait == e.wait || l.c == nil {
		l.wait = e.wait
		return nil
	}
	l.wait = e.wait
	c := l.c
	l.c = nil
	return c.Close()
}

// The seats are taken when they are needed: there is one for a consumer.

func (l *ringLink) producer() (*ring.Producer, error) {
	if l.p == nil {
		a, err := l.out.Attach()
		if err != nil {
			return nil, err
		}
		l.p = a.NewProducer()
	}
	return l.p, nil
}

func (l *ringLink) consumer() (*ring.Consumer, error) {
	if l.c == nil {
		var opts []ring.ConsumerOption
		switch l.wait {
		case waitThrift:
			opts = append(opts, ring.WithWaiting(ring.Thrift))
		case waitLatency:
			opts = append(opts, ring.WithWaiting(ring.LowLatency))
		}
		c, err := l.in.Consume(opts...)
		if err != nil {
			return nil, err
		}
		l.c = c
	}
	return l.c, nil
}

func (l *ringLink) send(b []byte) error {
	if l.p == nil {
		if _, err := l.producer(); err != nil {
			return err
		}
	}
	return l.p.Send(context.Background(), b, 0)
}

// sendAll is sendAll of any link as a program that knows the ring would write
// it. The others' system calls hide what an interface costs; a ring's send, and
// what the C programs compile into their loops, do not.
func (l *ringLink) sendAll(b []byte, from int, n uint64, a args) error {
	p, err := l.producer()
	if err != nil {
		return err
	}
	ctx := context.Background()
	for i := range n {
		put(b, from, i)
		if a.Verify {
			bench.Fill(b)
		}
		if err := p.Send(ctx, b, 0); err != nil {
			return err
		}
	}
	return nil
}

func (l *ringLink) sendBatch(msgs [][]byte) error {
	p, err := l.producer()
	if err != nil {
		return err
	}
	return p.SendBatch(context.Background(), msgs, nil)
}

func (l *ringLink) receive(n uint64, s *sequence) error {
	c, err := l.consumer()
	if err != nil {
		return err
	}
	l.s, l.err = s, nil
	for n > 0 {
		got, err := c.Poll(int(min(n, pollLimit)), l.take)
		if l.err != nil {
			return l.err
		}
		if err != nil {
			return err
		}
		n -= uint64(got)
		if n == 0 || got > 0 {
			continue
		}
		if l.wait == waitSpin {
			shm.Pause(1)
		} else if err := c.Wait(context.Background()); err != nil {
			return err
		}
	}
	return nil
}
