package router

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/shmrouter/shmrouter/internal/label"
	"github.com/shmrouter/shmrouter/sender"
)

// owner is to whom a pipe's sender was given.
type owner struct {
	cmd      *exec.Cmd
	launched bool // the router waits for it
}

// exitReport tells the monitor how a process ended, and which pipes it was given.
type exitReport struct {
	pid   int
	state *os.ProcessState
	err   error // why there was no process
	pipes []*Receiver
}

// HandOver gives senders of this router, in their initial state, to a command
// that is not started yet: it adds the segment's file to cmd.ExtraFiles and an
// environment variable to cmd.Env (a nil Env becomes the present environment), from
// which the worker's sender.FromEnv makes them again. The caller starts the
// command, closes that file, waits for the command, and then calls ReportExit.
// Senders of several routers may be handed to one command.
//
// Errors: ErrNotRunning, ErrForeign, ErrStarted, and those of sender.HandOver. If
// one of several senders is refused, those before it are handed over.
func (r *Router) HandOver(cmd *exec.Cmd, senders ...*sender.Sender) error {
	n, err := r.running()
	if err != nil {
		return err
	}
	_, err = n.handOver(&owner{cmd: cmd}, senders)
	return err
}

func (n *run) handOver(o *owner, senders []*sender.Sender) ([]*Receiver, error) {
	if o.cmd.Process != nil {
		return nil, ErrStarted
	}
	pipes := make([]*Receiver, len(senders))
	n.mu.Lock()
	for i, s := range senders {
		if s != nil {
			pipes[i] = n.pipes.byID[s.ID()]
		}
	}
	n.mu.Unlock()
	for i, s := range senders {
		if pipes[i] == nil || pipes[i].sender != s {
			return nil, fmt.Errorf("%w: sender %d of the arguments", ErrForeign, i)
		}
	}
	for i, s := range senders {
		if err := s.HandOver(o.cmd); err != nil {
			return nil, err
		}
		pipes[i].owner.Store(o)
	}
	return pipes, nil
}

// Launch hands senders over to cmd, starts it, and waits for it in a goroutine:
// the pipes that it leaves unfinished end with its exit status, also if it never
// attached. The worker's contexts end when this process dies. cmd is the router's
// then: it may be read and its process signalled, but cmd.Wait is called here (see
// Worker.Wait), which closes what cmd.StdoutPipe and StderrPipe returned: set Stdout
// and Stderr instead. As os/exec has it, what the worker writes to a Stdout or Stderr
// that is nil is lost, its panics too. If one is not an *os.File, a child of the worker
// may hold it open: the exit is reported, and the rest of the output lost,
// cmd.WaitDelay after it, which becomes half a second if it is 0. A
// SysProcAttr.Pdeathsig means this process, not a thread of it (see Command.Start, also
// for what that costs). Files that an earlier HandOver added are left to whoever called
// that.
//
// It is the plain way: the process is not killed by Router.Stop, nor with this process,
// its output is the caller's affair, and so are its pipes. Command does all that.
//
// Errors: those of HandOver and of cmd.Start. The pipes stay open then, without a
// sender that could be started: close them.
func (r *Router) Launch(cmd *exec.Cmd, senders ...*sender.Sender) (*Worker, error) {
	n, err := r.running()
	if err != nil {
		return nil, err
	}
	l, err := n.beginProcess(cmd, senders, nil)
	if err != nil {
		return nil, err
	}
	n.log.Debug("launched worker", "pid", cmd.Process.Pid, "pipes", len(senders))
	w := newWorker(n, filepath.Base(cmd.Path), n.log, DefaultGrace, l)
	go func() {
		label.Launch.Set()
		w.accompany(l)
		w.err = l.err
		close(w.done)
	}()
	return w, nil
}

// ReportExit tells the router how a command ended to which HandOver gave senders,
// once its Wait has returned: pipes whose sender it never started end, and those
// that it left unfinished end with its status, if the report comes within 100 ms
// of its death; later ones end without. Errors: ErrNotRunning; ErrForeign for a
// command that has not been waited for, or was handed no sender of an open pipe.
func (r *Router) ReportExit(cmd *exec.Cmd) error {
	n, err := r.running()
	if err != nil {
		return err
	}
	x := &exitReport{}
	n.mu.Lock()
	for _, rcv := range n.pipes.byID {
		if o := rcv.owner.Load(); o != nil && o.cmd == cmd && !o.launched {
			x.pipes = append(x.pipes, rcv)
		}
	}
	n.mu.Unlock()
	if len(x.pipes) == 0 || cmd.ProcessState == nil {
		return ErrForeign
	}
	x.state, x.pid = cmd.ProcessState, cmd.ProcessState.Pid()
	n.mon.post(event{exit: x})
	return nil
}
