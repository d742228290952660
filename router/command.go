package router

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/shmrouter/shmrouter/internal/label"
	"github.com/shmrouter/shmrouter/sender"
)

// Command describes a worker process that is looked after: it gets its pipes, cannot outlive this process, has its
// output in the log, is started again if wanted, and is stopped in order. The zero value runs this program once
// more, with one pipe; sender.Launched tells it there that it is the worker.
//
// A worker has a life for each time that it is started, and each life has pipes of its own. They need no Close: the
// router closes each when its end has been told to its handler or by Recv. So read each one to its end, or close it.
type Command struct {
	// Path is the program. Without a slash it is looked up as by exec.Command; "" is this program, also if its
	// file was replaced since.
	Path string
	// Args are the arguments behind the program's name.
	Args []string
	// Env is the environment, nil for this process's; to add to that, append to os.Environ().
	Env []string
	// Dir is the working directory, "" for this process's.
	Dir string
	// Name is what the log calls the worker; "" is the base name of the program. Where Path is "" the process has it
	// too, for ps, top and shmctl: as its first argument, and under sender.Main, cut to 15 bytes, as its command.
	Name string
	// Pipes is the number of its senders, 0 for one. More than one are for sender.MainAll.
	Pipes int
	// Receive, if not nil, is called before each life's process is started, with its number, from 1 on, and the
	// receiving ends of its pipes: to set handlers, or start goroutines that receive. It runs on the goroutine of
	// Start, and for later lives on one of the worker's own, where it must not wait for the worker. If the process
	// then cannot be started the first time, the pipes are closed, and end untold; in a later life they end with a
	// PeerError that says why.
	Receive func(life int, receivers []*Receiver)
	// Stdout and Stderr are where the worker's output goes: nil is the log, a record for each line, at level
	// Info those of Stdout, and Warn those of Stderr, with the attributes worker, pid and stream; of a line longer than
	// 8 KiB only the beginning is logged, marked with cut and an ellipsis, and left_out bytes are told at its end. Anything else is as in exec.Cmd: an *os.File is given
	// to the process, io.Discard is /dev/null. A worker whose log or writer does not keep up waits in its writes.
	// A child of the worker may hold its output open: then the rest of it is lost half a second after the exit.
	Stdout, Stderr io.Writer
	// Log is where the output goes, and what becomes of the worker: Info, or Warn where it ended unasked with another
	// status than 0 or is started again, Error where it is given up. nil is the router's (WithLogger).
	Log *slog.Logger
	// Restart says when it is started again. With a policy other than RestartNever, Receive has to be set.
	Restart Restart
	// Grace is how long it has to end when it is stopped; 0 is DefaultGrace.
	Grace time.Duration
	// Outlive lets it live on when this process dies, in whatever way: its context ends at once, and it may finish
	// what it does. What it prints then has SIGPIPE kill it, unless Stdout and Stderr are files. Without Outlive the
	// kernel kills it together with this process (Pdeathsig, SIGKILL), also one that hangs or is stopped. That does
	// not reach the worker's own children, which learn of it by their context if they have the pipes, nor a program
	// with set-user-ID or capabilities, for which the kernel forgets the signal; and a main process that replaces
	// itself by exec has died in this sense.
	Outlive bool
	// Prepare, if not nil, may change each life's exec.Cmd before the pipes are added: Stdin, SysProcAttr, ExtraFiles
	// (which stay the caller's), the environment. It runs after Receive.
	// With an error the process is not started, as if exec.Cmd.Start had said so.
	Prepare func(cmd *exec.Cmd) error
}

// Start starts the worker with pipes of a running router, and looks after it until it has ended for good.
//
// Router.Stop stops it as Worker.Stop does, without waiting: Router.Done is closed after its end.
//
// A process has a thread more from its first launch on, which starts all workers, one after the
// other, since the kernel ends a child when the thread that started it ends; they get that thread's attributes, not those of a thread that the caller has locked and changed.
// Each worker costs some goroutines and six descriptors while it lives, four of them if its output is not logged, and
// no thread.
//
// Errors: ErrNotRunning, ErrTooManyPipes, ErrBroken; ErrOption for what cannot be; ErrNotWorker; those of exec.Cmd.Start, as
// exec.ErrNotFound or fs.ErrNotExist. Nothing is left of the attempt then, also where the policy is to restart.
func (c Command) Start(r *Router) (*Worker, error) {
	n, err := r.running()
	if err != nil {
		return nil, err
	}
	if err := c.complete(n); err != nil {
		return nil, err
	}
	receivers, senders, err := c.makePipes(n)
	if err != nil {
		return nil, err
	}
	l, err := c.begin(n, 1, receivers, senders)
	if err != nil {
		for _, rcv := range receivers {
			n.closePipe(rcv)
		}
		return nil, err
	}
	w := newWorker(n, c.Name, c.Log, c.Grace, l)
	if !n.adoptWorker(w) {
		w.askToStop() // the router was stopped meanwhile
	}
	go func() {
		label.Launch.Set()
		w.err = w.supervise(backoff{Restart: c.Restart, chance: rand.Float64}, func(number int) (*process, error) { return c.again(n, number) })
		close(w.done)
		n.workerDone(w)
	}()
	return w, nil
}

func (c *Command) complete(n *run) error {
	if err := c.Restart.complete(); err != nil {
		return err
	}
	switch {
	case c.Path == "" && os.Getenv(sender.EnvName) != "":
		return ErrNotWorker
	case c.Pipes < 0:
		return fmt.Errorf("%w: Command.Pipes %d", ErrOption, c.Pipes)
	case c.Grace < 0:
		return fmt.Errorf("%w: Command.Grace %v", ErrOption, c.Grace)
	case c.Restart.When != RestartNever && c.Receive == nil:
		return fmt.Errorf("%w: Command.Restart without Receive: nobody would have the later lives' receivers", ErrOption)
	}
	if c.Name == "" {
		c.Name = filepath.Base(c.Path)
		if c.Path == "" {
			c.Name = filepath.Base(os.Args[0])
		}
	}
	if c.Log == nil {
		c.Log = n.log
	}
	setDefault(&c.Pipes, 1)
	setDefault(&c.Grace, DefaultGrace)
	return nil
}

func (c *Command) makePipes(n *run) (receivers []*Receiver, senders []*sender.Sender, err error) {
	for range c.Pipes {
		s, rcv, err := n.pipe()
		if err != nil {
			for _, rcv := range receivers {
				n.closePipe(rcv)
			}
			return nil, nil, err
		}
		rcv.selfClosing.Store(true)
		receivers, senders = append(receivers, rcv), append(senders, s)
	}
	return receivers, senders, nil
}

// begin starts a process.
func (c *Command) begin(n *run, number int, receivers []*Receiver, senders []*sender.Sender) (*process, error) {
	if c.Receive != nil {
		c.Receive(number, append([]*Receiver(nil), receivers...))
	}
	var cmd *exec.Cmd
	if c.Path == "" {
		cmd = exec.Command("/proc/self/exe", c.Args...)
		cmd.Args[0] = c.Name
	} else {
		cmd = exec.Command(c.Path, c.Args...)
	}
	cmd.Env, cmd.Dir = c.Env, c.Dir
	stdout := c.output(&cmd.Stdout, c.Stdout, cmd, "stdout")
	stderr := c.output(&cmd.Stderr, c.Stderr, cmd, "stderr")
	if c.Prepare != nil {
		if err := c.Prepare(cmd); err != nil {
			return nil, fmt.Errorf("router: worker %s: %w", c.Name, err)
		}
	}
	if !c.Outlive {
		var attr syscall.SysProcAttr
		if cmd.SysProcAttr != nil {
			attr = *cmd.SysProcAttr
		}
		setDefault(&attr.Pdeathsig, syscall.SIGKILL)
		cmd.SysProcAttr = &attr
	}
	l, err := n.beginProcess(cmd, senders, func() { stdout.close(); stderr.close() })
	if err != nil {
		return nil, fmt.Errorf("router: worker %s: %w", c.Name, err)
	}
	c.Log.Info("worker started", "worker", c.Name, "pid", cmd.Process.Pid, "life", number)
	return l, nil
}

// output directs one stream. It returns where its lines go, which nobody uses if that is not the log.
func (c *Command) output(to *io.Writer, w io.Writer, cmd *exec.Cmd, stream string) *lines {
	o := newLines(c.Log, cmd, c.Name, stream)
	switch w {
	case nil:
		*to = o
	case io.Discard: // what os/exec does with nil costs less
	default:
		*to = w
	}
	return o
}

// again begins a later life. Whoever has the pipes of one that cannot be begun is told why.
func (c *Command) again(n *run, number int) (*process, error) {
	receivers, senders, err := c.makePipes(n)
	if err != nil {
		return nil, err
	}
	l, err := c.begin(n, number, receivers, senders)
	if err != nil {
		n.mon.post(event{exit: &exitReport{err: err, pipes: receivers}})
	}
	return l, err
}
