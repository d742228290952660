package router

import (
	"os"
	"os/exec"
	"time"

	"github.com/shmrouter/shmrouter/internal/label"
	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
)

// outputPatience is how long an exited worker's output may stay open. It is much
// less than the end of a pipe waits for the exit's report.
const outputPatience = time.Second / 2

// process is one process of a worker, from its start to its exit.
type process struct {
	run      *run
	cmd      *exec.Cmd
	pipes    []*Receiver
	lifeline *os.File // its end tells the process that this one is gone
	atEnd    func()   // behind the last of its output
	began    int64    // shm.Now

	done  chan struct{}
	err   error         // before done is closed, the waiting goroutine's
	lived time.Duration // likewise
}

// beginProcess hands senders over to cmd, starts it, and waits for it in a goroutine. Of what it adds to
// cmd.ExtraFiles nothing stays open here.
func (n *run) beginProcess(cmd *exec.Cmd, senders []*sender.Sender, atEnd func()) (_ *process, err error) {
	p := &process{run: n, cmd: cmd, atEnd: atEnd, done: make(chan struct{})}
	before := len(cmd.ExtraFiles)
	theirs, ours, err := os.Pipe() // closed on exec: this process alone has the writing end
	if err != nil {
		return nil, err
	}
	p.lifeline = ours
	defer func() {
		theirs.Close()
		for _, f := range cmd.ExtraFiles[before:] {
			f.Close() // the child has its own
		}
		if err != nil {
			ours.Close()
		}
	}()
	if p.pipes, err = n.handOver(&owner{cmd: cmd, launched: true}, senders); err != nil {
		return nil, err
	}
	if len(senders) > 0 {
		v, err := wire.LifelineVar(theirs, 3+len(cmd.ExtraFiles))
		if err != nil {
			return nil, err
		}
		cmd.ExtraFiles, cmd.Env = append(cmd.ExtraFiles, theirs), append(cmd.Env, v)
	}
	if cmd.WaitDelay == 0 {
		cmd.WaitDelay = outputPatience
	}
	p.began = shm.Now()
	if err := startOnLauncher(cmd); err != nil {
		return nil, err
	}
	go p.wait()
	return p, nil
}

// wait tells first the monitor of the exit: whoever waits for done may go on to what it should have heard before,
// such as the end of a child that has the pipes.
func (p *process) wait() {
	label.Launch.Set()
	p.awaitExit()
	p.err = p.cmd.Wait()
	p.lived = time.Duration(shm.Now() - p.began)
	p.lifeline.Close()
	if p.atEnd != nil {
		p.atEnd()
	}
	p.run.mon.post(event{exit: &exitReport{pid: p.cmd.Process.Pid, state: p.cmd.ProcessState, pipes: p.pipes}})
	close(p.done)
}

// awaitExit spares a thread, which would otherwise be in Wait as long as the process lives. Where there is no pidfd,
// or no descriptor to spare, it is.
func (p *process) awaitExit() {
	exited := make(chan struct{})
	if _, err := shm.WatchDeath(p.cmd.Process.Pid, 0, func() { close(exited) }); err == nil {
		<-exited
	}
}

// cancel ends the contexts of the process's senders. After the router's Stop they have ended.
func (p *process) cancel() {
	for _, rcv := range p.pipes {
		p.run.flagCancelled(rcv)
	}
}
