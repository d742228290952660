package bench

import (
	"context"
	"errors"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender"
)

// Walk measures the whole way: Sender.Send in worker processes, the ring, the
// monitor, the inbox, the loop, the handler. The router runs in the process
// that asks, with its defaults; each worker has a pipe of its own. It is for one
// goroutine.
type Walk struct {
	workers
	router *router.Router
	pipes  []*router.Receiver
}

// StartWalk starts a router and its workers. Errors are the router's, and those of
// starting a process.
func StartWalk(senders int, opts ...router.Option) (_ *Walk, err error) {
	w := &Walk{workers: workers{via: viaRouter, patience: patienceAfter}}
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
	pipe.Handle(func(m router.Message) { w.handle(m.Data) }, func(error) {})
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
	w.processes = append(w.processes, p)
	return nil
}

// Close ends the workers and the router. Errors are those of ClosePipe and Stop.
func (w *Walk) Close() error {
	w.close()
	var errs []error
	for _, pipe := range w.pipes {
		errs = append(errs, w.router.ClosePipe(pipe))
	}
	return errors.Join(append(errs, w.router.Stop())...)
}

// routerOutlet is the worker's side.
type routerOutlet struct{ s *sender.Sender }

func openRouterOutlet() (outlet, error) {
	s, err := sender.FromEnv()
	if err != nil {
		return nil, err
	}
	return routerOutlet{s}, s.Start()
}

func (o routerOutlet) send(b []byte) error { return o.s.Send(context.Background(), b) }

func (o routerOutlet) sendBatch(msgs [][]byte) error {
	return o.s.SendBatch(context.Background(), msgs)
}
