package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/hosttest"
)

// task is the command of a worker with a task; see worksman.
func task(t testing.TB, name string) Command {
	use(t, "worksman")
	return Command{Name: name, Env: roleVars("worksman", name)}
}

// launched starts it and waits until it works.
func (c Command) launched(t testing.TB, r *Router) *Worker {
	t.Helper()
	w, err := c.Start(r)
	require.NoError(t, err)
	t.Cleanup(func() {
		stopNow(w)
	})
	m, err := w.Receivers()[0].Recv(background)
	require.NoError(t, err)
	require.Equal(t, "ready", string(m.Data))
	return w
}

// stopNow kills it if it has not ended.
func stopNow(w *Worker) error {
	now, cancel := context.WithCancelCause(background)
	cancel(errors.New("now"))
	return w.Stop(now)
}

// ended expects the end of a receiver, and that its pipe is closed with it.
func ended(t testing.TB, r *Router, rcv *Receiver) error {
	t.Helper()
	_, err := rcv.Recv(background)
	for range 2 {
		_, again := rcv.Recv(background)
		require.Equal(t, err, again, "for ever")
	}
	open, _ := r.Receivers()
	require.NotContains(t, open, rcv)
	return err
}

func TestCommand(t *testing.T) {
	guard(t)
	r := begin(t)
	w := task(t, "good").launched(t, r)
	require.Equal(t, io.EOF, ended(t, r, w.Receivers()[0]))
	require.NoError(t, w.Wait())
	require.Zero(t, w.Restarts())
	require.True(t, w.LastExit().Success())
	require.Equal(t, w.PID(), w.LastExit().Pid())
	require.ErrorIs(t, w.Kill(), os.ErrProcessDone)
	require.NoError(t, w.Stop(background))
}

// A process that was started by /proc/self/exe has the worker's name where others look at it.
func TestWorkersHaveNames(t *testing.T) {
	guard(t)
	r := begin(t)
	w := task(t, "obedient").launched(t, r)
	for file, want := range map[string]string{"comm": "obedient\n", "cmdline": "obedient\x00"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", w.PID(), file))
		require.NoError(t, err)
		require.Equal(t, want, string(b))
	}
	require.Equal(t, "obedient", w.Name())
	require.NoError(t, w.Stop(background))
}

func TestCommandWithTwoPipes(t *testing.T) {
	guard(t)
	r := begin(t)
	c := task(t, "two")
	c.Pipes = 2
	got := make(chan string, 4)
	c.Receive = func(life int, receivers []*Receiver) {
		if pids := children(t); len(pids) > 0 {
			t.Error("started before there are handlers")
		}
		for i, rcv := range receivers {
			rcv.Handle(
				func(m Message) { got <- fmt.Sprint(i, ": ", string(m.Data)) },
				func(err error) { got <- fmt.Sprint(i, ": end of life ", life, ": ", err) })
		}
	}
	w, err := c.Start(r)
	require.NoError(t, err)
	require.NoError(t, w.Wait())
	var all []string
	for range 4 {
		all = append(all, within(t, "message", got))
	}
	require.ElementsMatch(t, []string{"0: 0 of 2", "1: 1 of 2", "0: end of life 1: <nil>", "1: end of life 1: <nil>"}, all)
	eventually(t, "the pipes are closed", func() bool { open, _ := r.Receivers(); return len(open) == 0 })
}

// A program that does not look whether it is its own worker would start itself without end.
func TestCommandStartsItself(t *testing.T) {
	guard(t)
	r := begin(t)
	w, err := task(t, "naive").Start(r)
	require.NoError(t, err)
	m, err := w.Receivers()[0].Recv(background)
	require.NoError(t, err)
	require.Equal(t, "true", string(m.Data))
	require.Equal(t, io.EOF, ended(t, r, w.Receivers()[0]))
	require.NoError(t, w.Wait())
}

func TestCommandDies(t *testing.T) {
	for _, c := range []struct{ task, state string }{
		{"error", "exit status 1"}, {"exit 3", "exit status 3"}, {"panic", "exit status 2"}, {"absent", "exit status 3"}, {"deaf", "signal: killed"},
	} {
		t.Run(c.task, func(t *testing.T) {
			guard(t)
			r := begin(t)
			w, err := task(t, c.task).Start(r)
			require.NoError(t, err)
			rcv := w.Receivers()[0]
			if c.task != "absent" {
				_, err := rcv.Recv(background)
				require.NoError(t, err)
			}
			if c.task == "deaf" {
				require.NoError(t, w.Kill())
			}
			var peer *PeerError
			require.ErrorAs(t, ended(t, r, rcv), &peer)
			require.Equal(t, c.state, peer.State.String())
			require.Equal(t, w.PID(), peer.PID)
			var exit *exec.ExitError
			require.ErrorAs(t, w.Wait(), &exit)
			require.Equal(t, c.state, exit.String())
		})
	}
}

func TestCommandOutput(t *testing.T) {
	guard(t)
	var j journal
	r := begin(t, WithLogger(j.logger()))
	w := task(t, "lines").launched(t, r)
	require.NoError(t, w.Wait())
	attrs := fmt.Sprintf("pid=%d worker=lines stream=", w.PID())
	for _, line := range []string{`msg="to stdout" ` + attrs + "stdout", `msg="to stderr" ` + attrs + "stderr", `msg="and without an end" ` + attrs + "stderr"} {
		require.Len(t, j.matching(line), 1, line)
	}

	w = task(t, "spam").launched(t, r)
	require.NoError(t, w.Wait())
	require.Len(t, j.matching("cut=true"), 1)
	require.Len(t, j.matching(fmt.Sprintf("worker=spam stream=stderr left_out=%d", spamSize-maxLine)), 1)

	w = task(t, "mute").launched(t, r)
	m, err := w.Receivers()[0].Recv(background)
	require.NoError(t, err)
	require.Equal(t, "still here", string(m.Data))
	require.NoError(t, w.Wait())

	var own strings.Builder
	c := task(t, "lines")
	c.Stdout, c.Stderr = io.Discard, &own
	w = c.launched(t, r)
	require.NoError(t, w.Wait())
	require.Equal(t, "to stderr\nand without an end", own.String())
}

// The first process of another pid namespace sees no parent, which the runtime could take for its death.
func TestCommandInANamespace(t *testing.T) {
	guard(t)
	attr := hosttest.Apart(t, unix.CLONE_NEWPID)
	r := begin(t)
	c := task(t, "obedient")
	c.Prepare = func(cmd *exec.Cmd) error { cmd.SysProcAttr = attr; return nil }
	w := c.launched(t, r)
	require.NoError(t, w.Stop(background))
	require.NoError(t, w.Wait())
	require.Zero(t, attr.Pdeathsig, "it is the caller's")
}
