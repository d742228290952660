package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultGrace is how long a worker that is stopped has until it is killed.
const DefaultGrace = 5 * time.Second

// killPatience is how long Stop waits for a process that was killed: the kernel may keep one for a while.
const killPatience = 5 * time.Second

// Worker is a process that was launched (Router.Launch), or that and its successors (Command.Start). All methods may
// be called concurrently.
type Worker struct {
	run   *run
	name  string
	log   *slog.Logger
	grace time.Duration

	stopOnce sync.Once
	stop     chan struct{} // closed: no further life, and this one is to end
	nowOnce  sync.Once
	now      chan struct{} // closed behind stop: at once, also one that is being started
	done     chan struct{}
	err      error // before done is closed, the supervisor's

	mu       sync.Mutex
	life     *process         // the present or last one; guarded by mu
	restarts int              // guarded by mu
	lastExit *os.ProcessState // guarded by mu
}

func newWorker(n *run, name string, log *slog.Logger, grace time.Duration, first *process) *Worker {
	return &Worker{run: n, name: name, log: log, grace: grace, life: first, stop: make(chan struct{}), now: make(chan struct{}), done: make(chan struct{})}
}

// Name returns what the log calls the worker.
func (w *Worker) Name() string { return w.name }

// PID returns the number of the worker's process, or of its last one.
func (w *Worker) PID() int { return w.current().cmd.Process.Pid }

// Receivers returns the receiving ends of the pipes of the worker's process, or of its last one, in the order in
// which the worker has the senders.
func (w *Worker) Receivers() []*Receiver { return append([]*Receiver(nil), w.current().pipes...) }

// Restarts returns how many processes were started after the first.
func (w *Worker) Restarts() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.restarts
}

// LastExit returns how the last process that has ended did so, nil if none has.
func (w *Worker) LastExit() *os.ProcessState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lastExit
}

// Done is closed when the process has exited, its output was copied, and there will not be another one.
func (w *Worker) Done() <-chan struct{} { return w.done }

// Wait waits for Done, and returns what exec.Cmd.Wait did for the last process: nil, an *exec.ExitError, or what was
// wrong with its output (exec.ErrWaitDelay: a child of the worker kept it open). If a restart policy gave the worker
// up, that is wrapped in ErrGaveUp, as is the error of a start that failed. Its receivers are told of the end by the
// loop, perhaps later.
func (w *Worker) Wait() error {
	<-w.done
	return w.err
}

// Kill kills the process at once (SIGKILL); a restart policy may start another. The error is os.ErrProcessDone if it
// has exited.
func (w *Worker) Kill() error { return w.current().cmd.Process.Kill() }

// Signal sends a signal to the process. The error is os.ErrProcessDone if it has exited.
func (w *Worker) Signal(sig os.Signal) error { return w.current().cmd.Process.Signal(sig) }

// Stop ends the worker, and waits for its end: it is not started again, its pipes are cancelled, so that the context
// of sender.Main ends; after half of the command's grace it is sent SIGTERM, and after all of it, or when ctx ends,
// SIGKILL. What it sent until then is delivered.
//
// The error is nil if the worker has ended before ctx, in whatever way (LastExit, Wait), and ctx's cause otherwise:
// then the process is gone as well, unless the kernel keeps it for longer than five seconds. Stop may be called from
// a handler, and again.
func (w *Worker) Stop(ctx context.Context) error {
	w.askToStop()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-w.done: // before ctx, as far as anybody can tell
		return nil
	default:
	}
	w.nowOnce.Do(func() { close(w.now) })
	select {
	case <-w.done:
	case <-time.After(killPatience):
	}
	return context.Cause(ctx)
}

func (w *Worker) askToStop() { w.stopOnce.Do(func() { close(w.stop) }) }

func (w *Worker) current() *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.life
}

// politely is how much of the grace there is before SIGTERM. Tests replace it.
var politely = func(grace time.Duration) time.Duration { return grace / 2 }

// accompany returns when a life has ended, having ended it if the worker is to stop.
func (w *Worker) accompany(l *process) {
	stop, now := w.stop, w.now
	var terminate, kill <-chan time.Time
	for {
		select {
		case <-l.done:
			w.mu.Lock()
			w.lastExit = l.cmd.ProcessState
			w.mu.Unlock()
			return
		case <-stop:
			stop = nil
			l.cancel()
			terminate = time.After(politely(w.grace))
		case <-now:
			now = nil
			l.cmd.Process.Kill()
		case <-terminate:
			kill = time.After(w.grace - politely(w.grace))
			l.cmd.Process.Signal(unix.SIGTERM)
		case <-kill:
			w.log.Warn("worker did not end in time and is killed", "worker", w.name, "pid", l.cmd.Process.Pid, "grace", w.grace)
			l.cmd.Process.Kill()
		}
	}
}

// supervise has life follow upon life, as the policy says. begin begins one.
func (w *Worker) supervise(policy backoff, begin func(number int) (*process, error)) error {
	for number := 1; ; {
		l := w.current()
		w.accompany(l)
		state := l.cmd.ProcessState // nil where somebody else in this process has waited for all children
		err, lived, good := l.err, l.lived, state != nil && state.Success()
		level := slog.LevelInfo
		if !good && !w.isStopping() {
			level = slog.LevelWarn
		}
		w.log.Log(context.Background(), level, "worker ended", "worker", w.name, "pid", l.cmd.Process.Pid, "state", state.String(), "lived", lived)
		for begun := false; !begun; number++ {
			if !policy.wanted(good) || w.isStopping() {
				return err
			}
			wait, again := policy.next(lived)
			if !again {
				w.log.Error("worker is given up", "worker", w.name, "restarts", policy.count, "error", err)
				return giveUp(policy.count, err)
			}
			w.log.Warn("worker is started again", "worker", w.name, "wait", wait, "error", err)
			select {
			case <-w.stop:
				return err
			case <-time.After(wait):
			}
			next, startErr := begin(number + 1)
			switch {
			case errors.Is(startErr, ErrNotRunning) || errors.Is(startErr, ErrBroken):
				return err // there is nobody any more whom it could send to
			case startErr != nil:
				err, lived, good = startErr, 0, false
			default:
				w.mu.Lock()
				w.life, w.restarts, begun = next, w.restarts+1, true
				w.mu.Unlock()
			}
		}
	}
}

func (w *Worker) isStopping() bool {
	select {
	case <-w.stop:
		return true
	default:
		return false
	}
}

func giveUp(restarts int, err error) error {
	if err == nil {
		return fmt.Errorf("%w: after %d restarts", ErrGaveUp, restarts)
	}
	return fmt.Errorf("%w: after %d restarts: %w", ErrGaveUp, restarts, err)
}

// adoptWorker has the router's Stop stop a worker, and its Done wait for it. It returns false if the router is being
// stopped.
func (n *run) adoptWorker(w *Worker) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.isStopped() { // set before stopWorkers looks
		return false
	}
	n.pending.Add(1)
	n.workers[w] = struct{}{}
	return true
}

func (n *run) workerDone(w *Worker) {
	n.mu.Lock()
	_, adopted := n.workers[w]
	delete(n.workers, w)
	n.mu.Unlock()
	if adopted {
		n.release()
	}
}

// stopWorkers asks those to stop that a Command started, while they can still be told: where another router may go
// on, the stop itself tells nobody.
func (n *run) stopWorkers() {
	n.mu.Lock()
	workers := slices.Collect(maps.Keys(n.workers))
	n.mu.Unlock()
	for _, w := range workers {
		w.askToStop()
		w.current().cancel()
	}
}
