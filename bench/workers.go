package bench

import (
	"fmt"
	"sync/atomic"
	"time"
)

// workers are sending processes whose messages arrive in the process that asks,
// at a handler: those of a Walk, and of what it is compared with.
type workers struct {
	processes []*process
	via       Transport // what they send on
	patience  time.Duration
	run       atomic.Pointer[arrival]
}

// arrival is one Order as the handler sees it. It runs on one goroutine; what it
// leaves behind is read after done is closed.
type arrival struct {
	v    *verifier
	left uint64
	last int64
	err  error
	done chan struct{}
}

// handle is the handler at the end of the way.
func (w *workers) handle(b []byte) {
	run := w.run.Load()
	if run == nil || run.left == 0 {
		return // behind an error
	}
	if run.err = run.v.check(b); run.err != nil {
		run.left = 1
	}
	if run.left--; run.left == 0 {
		run.last = now()
		close(run.done)
	}
}

// Run has the workers send N messages in all. With a Rate the messages are
// paced, and the Result has the latencies from before Send to the handler.
func (w *workers) Run(o Order) (Result, error) {
	if err := o.check(); err != nil {
		return Result{}, err
	}
	run := &arrival{v: newVerifier(o.Size, len(w.processes), o.Verify), left: o.N, done: make(chan struct{})}
	run.v.follow(o, len(w.processes))
	w.run.Store(run)
	defer w.run.Store(nil)
	before := usageBefore()
	res := Result{N: o.N}
	first, err := w.order(o, &res)
	if err != nil {
		return Result{}, err
	}
	select {
	case <-run.done:
	case <-time.After(w.patience):
		return Result{}, fmt.Errorf("%w: %d were sent, and the handler still waits %v later", ErrBadMessage, o.N, w.patience)
	}
	var own Report
	before.until(&own)
	if run.err != nil {
		return Result{}, run.err
	}
	if run.v.latency != nil {
		l := run.v.latency.latency()
		own.Latency = &l
	}
	res.received(own)
	res.Elapsed = time.Duration(run.last - first)
	return res, nil
}

// Paced is Crew.Paced for the whole way.
func (w *workers) Paced(o Order) (Paced, error) { return paced(o, w.Run, w.mute) }

// mute has the workers do everything but send.
func (w *workers) mute(o Order) (res Result, err error) {
	o.Mute = true
	res.N = o.N
	_, err = w.order(o, &res)
	return res, err
}

// order gives all workers the order, and collects what they report.
func (w *workers) order(o Order, res *Result) (first int64, err error) {
	o.Job, o.Via = jobSend, w.via
	for _, p := range w.processes {
		if err := p.order(o); err != nil {
			return 0, err
		}
	}
	for _, p := range w.processes {
		r, err := p.report(patienceAll)
		if err != nil {
			return 0, err
		}
		if first == 0 || r.First < first {
			first = r.First
		}
		res.sent(r)
	}
	return first, nil
}

func (w *workers) close() {
	for _, p := range w.processes {
		p.close()
	}
}
