package main

import (
	"encoding/json"
	"fmt"
	"math"
	"sync"

	"github.com/shmrouter/shmrouter/bench"
	"github.com/shmrouter/shmrouter/shm"
)

// args say what a task has to do.
type args struct {
	Via    string
	N      uint64  // messages of all senders, or round trips
	Size   int     // of a message in bytes
	Batch  int     // messages given to the peer at a time, 0 or 1 for each by itself
	Verify bool    // write and compare all content
	Wait   string  // how a ring's consumer waits
	Rate   float64 // messages per second, 0 for as many as possible
	Mute   bool    // do all but send: what the sender's own loop costs
	At     int64   // begin at this instant of shm.Now, with all other senders
	For    int64   // go on for so many ns instead of N messages
}

const (
	taskReceive bench.Job = "peers-receive"
	taskSend    bench.Job = "peers-send"
	taskEcho    bench.Job = "peers-echo"
	taskPing    bench.Job = "peers-ping"
	taskIdle    bench.Job = "peers-idle"
	taskClaims  bench.Job = "peers-claims"
	taskBurst   bench.Job = "peers-burst"
)

// registerTasks is for every process of this program, before bench.Main.
func registerTasks() {
	for job, t := range map[bench.Job]func(*bench.Post, args) (bench.Report, error){
		taskReceive: receive, taskSend: send, taskEcho: echo, taskPing: ping,
		taskIdle: idle, taskClaims: claims, taskBurst: burst,
	} {
		bench.RegisterTask(job, func(p *bench.Post, o bench.Order) (bench.Report, error) {
			var a args
			if err := json.Unmarshal(o.Args, &a); err != nil {
				return bench.Report{}, err
			}
			return t(p, a)
		})
	}
}

// idle is for who has no part in a run.
func idle(p *bench.Post, _ args) (bench.Report, error) {
	if p.Receiver {
		return bench.Report{}, p.Ready()
	}
	return bench.Report{}, nil
}

// receive takes the messages of all senders and checks them.
func receive(p *bench.Post, a args) (rep bench.Report, err error) {
	total := newSequence(a, p.Senders)
	take, err := receiver(p, a, total)
	if err != nil {
		return rep, err
	}
	if err := p.Ready(); err != nil {
		return rep, err
	}
	err = take()
	rep.Last = shm.Now()
	if err != nil {
		return rep, err
	}
	if total.late != nil {
		l := total.late.Latency()
		rep.Latency = &l
	}
	if a.For != 0 {
		rep.Figures = shares(total.next)
		return rep, nil
	}
	return rep, total.complete(a.N)
}

// receiver returns what takes all messages. Where each sender has a link, each
// link has a goroutine.
func receiver(p *bench.Post, a args, total *sequence) (func() error, error) {
	if p.Senders == 1 || peers[a.Via].shared {
		l, err := linkOf(p, a, 0)
		if a.For == 0 || err != nil {
			return func() error { return l.receive(a.N, total) }, err
		}
		return func() error {
			if err := l.receive(math.MaxUint64, total); err != errAllEnded {
				return err
			}
			return nil
		}, nil
	}
	links := make([]link, p.Senders)
	for i := range links {
		var err error
		if links[i], err = linkOf(p, a, i); err != nil {
			return nil, err
		}
	}
	return func() error {
		errs := make(chan error, len(links))
		var merge sync.Mutex
		for i, l := range links {
			go func() {
				s := newSequence(a, p.Senders)
				err := l.receive(share(a.N, i, p.Senders), s)
				merge.Lock()
				defer merge.Unlock()
				for from, n := range s.next {
					total.next[from] += n
				}
				errs <- err
			}()
		}
		for range links {
			if err := <-errs; err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// shares are the figures of a run by the clock.
func shares(next []uint64) map[string]float64 {
	least, most, sum := ^uint64(0), uint64(0), uint64(0)
	for _, n := range next {
		least, most, sum = min(least, n), max(most, n), sum+n
	}
	return map[string]float64{"least": float64(least), "most": float64(most), "n": float64(sum)}
}

// send sends this sender's share.
func send(p *bench.Post, a args) (rep bench.Report, err error) {
	l, err := linkOf(p, a, p.Index)
	if err != nil {
		return rep, err
	}
	n := share(a.N, p.Index, p.Senders)
	msgs := make([][]byte, max(a.Batch, 1))
	for i := range msgs {
		msgs[i] = make([]byte, a.Size)
	}
	if err := waitUntil(a.At); err != nil {
		return rep, err
	}
	rep.First = shm.Now()
	switch {
	case a.For != 0:
		err = sendFor(l, msgs[0], p.Index, a)
	case a.Rate > 0:
		err = sendPaced(l, msgs[0], p.Index, n, a)
	case a.Batch > 1:
		err = sendBatches(l, msgs, p.Index, n, a)
	default:
		err = sendAll(l, msgs[0], p.Index, n, a)
	}
	rep.Last = shm.Now()
	return rep, err
}

// stamp makes b the next message.
func stamp(b []byte, from int, number uint64, a args) {
	put(b, from, number)
	if a.Verify {
		bench.Fill(b)
	}
}

func sendAll(l link, b []byte, from int, n uint64, a args) error {
	if r, ok := l.(*ringLink); ok {
		return r.sendAll(b, from, n, a)
	}
	for i := range n {
		stamp(b, from, i, a)
		if err := l.send(b); err != nil {
			return err
		}
	}
	return nil
}

func sendBatches(l link, msgs [][]byte, from int, n uint64, a args) error {
	for i := uint64(0); i < n; {
		k := min(uint64(len(msgs)), n-i)
		for _, b := range msgs[:k] {
			stamp(b, from, i, a)
			i++
		}
		if err := l.sendBatch(msgs[:k]); err != nil {
			return err
		}
	}
	return nil
}

// sendPaced sends at even distances; a message that is late is not made up for
// by haste.
func sendPaced(l link, b []byte, from int, n uint64, a args) error {
	gap := 1e9 / a.Rate
	next := float64(shm.Now())
	for i := range n {
		next = max(next+gap, float64(shm.Now()))
		if err := waitUntil(int64(next)); err != nil {
			return err
		}
		put(b, from, i)
		putTime(b, shm.Now())
		if a.Mute {
			continue
		}
		if err := l.send(b); err != nil {
			return err
		}
	}
	return nil
}

// clockEvery is the number of messages between two looks at the clock.
const clockEvery = 16

// sendFor sends for a time, and then says that this was all.
func sendFor(l link, b []byte, from int, a args) error {
	for i, end := uint64(0), shm.Now()+a.For; i%clockEvery != 0 || shm.Now() < end; i++ {
		put(b, from, i)
		if err := l.send(b); err != nil {
			return err
		}
	}
	put(b, from, lastOfAll)
	return l.send(b)
}

// ping makes round trips, echo answers them.
func ping(p *bench.Post, a args) (rep bench.Report, err error) {
	l, err := linkOf(p, a, 0)
	if err != nil {
		return rep, err
	}
	b := make([]byte, a.Size)
	s, trips := newSequence(a, 1), bench.NewRecorder()
	start := shm.Now()
	rep.First = start
	for i := range a.N {
		stamp(b, 0, i, a)
		if err := l.send(b); err != nil {
			return rep, err
		}
		if err := l.receive(1, s); err != nil {
			return rep, err
		}
		now := shm.Now() // one look at the clock a round trip, which is part of it
		trips.Add(now - start)
		start = now
	}
	rep.Last = start
	lat := trips.Latency()
	rep.Latency = &lat
	return rep, s.complete(a.N)
}

func echo(p *bench.Post, a args) (rep bench.Report, err error) {
	l, err := linkOf(p, a, 0)
	if err != nil {
		return rep, err
	}
	if err := p.Ready(); err != nil {
		return rep, err
	}
	b := make([]byte, a.Size)
	s := newSequence(a, 1)
	for i := range a.N {
		if err := l.receive(1, s); err != nil {
			return rep, fmt.Errorf("question %d: %w", i, err)
		}
		stamp(b, 0, i, a)
		if err := l.send(b); err != nil {
			return rep, err
		}
	}
	return rep, s.complete(a.N)
}
