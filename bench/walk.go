package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
)

// Walk measures the whole way: Sender.Send in worker processes, the ring, the
// monitor, the inbox, the loop, the handler. The router runs in the process
// that asks, with its defaults; each worker has a pipe of its own.
type Walk struct {
	router   *router.Router
	workers  []*process
	pipes    []*router.Receiver
	patience time.Duration
	run      atomic.Pointer[walkRun]
}

// walkRun is one Order as the handlers see it. They all run on the loop, one
// at a time; what they leave behind is read after done is closed.
type walkRun struct {
	v       *verifier
	left    uint64
	latency *recorder // nil at full speed, where the clock would be half the work
	last    int64
	err     error
	done    chan struct{}
}

// StartWalk starts a router and its workers.
func StartWalk(senders int, opts ...router.Option) (_ *Walk, err error) {
	w := &Walk{patience: patienceAfter}
	if w.router, err = router.New(opts...); err != nil {
		return nil, err
	}
	if err := w.router.Start(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	for i := range senders {
		if err := w.addWorker(i, senders); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *Walk) addWorker(i, senders int) error {
	s, pipe, err := w.router.Pipe()
	if err != nil {
		return err
	}
	w.pipes = append(w.pipes, pipe)
	pipe.Handle(w.onMessage, func(error) {})
	p, err := newProcess(setup{Index: i, Senders: senders, CPU: -1}, nil)
	if err != nil {
		return err
	}
	if err := w.router.HandOver(p.cmd, s); err != nil {
		return err
	}
	defer func() {
		for _, f := range p.cmd.ExtraFiles {
			f.Close()
		}
	}()
	if err := p.start(); err != nil {
		return err
	}
	w.workers = append(w.workers, p)
	return nil
}

// onMessage is the handler at the end of the way.
func (w *Walk) onMessage(m router.Message) {
	run := w.run.Load()
	if run == nil || run.left == 0 {
		return // behind an error
	}
	if run.latency != nil {
		run.latency.add(shm.Now() - timeOf(m.Data))
	}
	if run.err = run.v.check(m.Data); run.err != nil {
		run.left = 1
	}
	if run.left--; run.left == 0 {
		run.last = shm.Now()
		close(run.done)
	}
}

// Run has the workers send N messages in all. With a Rate the messages are
// paced, and the Result has the latencies from before Send to the handler.
func (w *Walk) Run(o Order) (Result, error) {
	if o.Size < MinSize || o.N == 0 {
		return Result{}, fmt.Errorf("bench: cannot send %d messages of %d bytes", o.N, o.Size)
	}
	run := &walkRun{v: newVerifier(o.Size, len(w.workers), o.Verify), left: o.N, done: make(chan struct{})}
	if o.Rate > 0 {
		if o.Verify {
			return Result{}, errors.New("bench: latency and content take the same bytes")
		}
		r := newRecorder()
		run.latency = &r
	}
	w.run.Store(run)
	defer w.run.Store(nil)
	before := usageNow()
	o.Job = jobWalk
	for _, p := range w.workers {
		if err := p.order(o); err != nil {
			return Result{}, err
		}
	}
	res := Result{N: o.N}
	var first int64
	for _, p := range w.workers {
		r, err := p.report(patienceAll)
		if err != nil {
			return Result{}, err
		}
		if first == 0 || r.First < first {
			first = r.First
		}
		res.add(r)
	}
	select {
	case <-run.done:
	case <-time.After(w.patience):
		return Result{}, fmt.Errorf("%w: %d were sent, and the handler still waits %v later", ErrBadMessage, o.N, w.patience)
	}
	if run.err != nil {
		return Result{}, run.err
	}
	var own Report
	usageNow().since(before, &own)
	res.add(own)
	res.Elapsed = time.Duration(run.last - first)
	if run.latency != nil {
		l := run.latency.latency()
		res.Latency = &l
	}
	return res, nil
}

// Close ends the workers and the router.
func (w *Walk) Close() error {
	for _, p := range w.workers {
		p.close()
	}
	var errs []error
	for _, pipe := range w.pipes {
		errs = append(errs, w.router.ClosePipe(pipe))
	}
	return errors.Join(append(errs, w.router.Stop())...)
}

// doWalk is the worker's side.
func (a *actor) doWalk(o Order) (Report, error) {
	if a.walk == nil {
		s, err := sender.FromEnv()
		if err != nil {
			return Report{}, err
		}
		if err := s.Start(); err != nil {
			return Report{}, err
		}
		a.walk = s
	}
	b := make([]byte, o.Size)
	n := share(o.N, a.Index, a.Senders)
	start := shm.Now()
	rep := Report{First: start}
	for i := range n {
		stamp(b, a.Index, i)
		if o.Verify {
			fill(b)
		}
		if o.Rate > 0 {
			sleepUntil(start + int64(float64(i)*1e9/float64(o.Rate)))
			stampTime(b, shm.Now())
		}
		if o.Fault == "drop" && i == n/2 {
			continue
		}
		if err := a.walk.Send(context.Background(), b); err != nil {
			return rep, err
		}
	}
	rep.Last = shm.Now()
	return rep, nil
}

// sleepUntil returns at an instant of shm.Now: it sleeps while that is far
// away, and then spins, since sleeps end late.
func sleepUntil(at int64) {
	const early = 200 * time.Microsecond
	if d := time.Duration(at - shm.Now()); d > 2*early {
		time.Sleep(d - early)
	}
	for shm.Now() < at {
		shm.Pause(4)
	}
}
