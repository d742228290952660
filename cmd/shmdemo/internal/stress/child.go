package stress

import (
	"os"
	"os/exec"
)

// child is a worker that this process has started by itself.
type child struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

func startProcess(cmd *exec.Cmd) (*child, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, done: make(chan struct{})}
	go func() {
		c.err = cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

func (c *child) PID() int                   { return c.cmd.Process.Pid }
func (c *child) Done() <-chan struct{}      { return c.done }
func (c *child) Kill() error                { return c.cmd.Process.Kill() }
func (c *child) Signal(sig os.Signal) error { return c.cmd.Process.Signal(sig) }
func (c *child) Wait() error {
	<-c.done
	return c.err
}
