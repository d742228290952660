package router

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A program that ignores SIGCHLD, or waits for all children, takes the exit status away.
func TestCommandOfWhichNobodyKnowsTheExit(t *testing.T) {
	play(t, "ignorant main", "", nil)
}

// endings is a Receive that reads each life to its end.
type endings struct{ ends chan error }

func (y *endings) receive(_ int, receivers []*Receiver) {
	for _, rcv := range receivers {
		rcv.Handle(func(Message) {}, func(err error) { y.ends <- err })
	}
}

func TestCommandRestarts(t *testing.T) {
	guard(t)
	r := begin(t)
	c := task(t, "")
	y := endings{make(chan error, 10)}
	c.Receive, c.Restart = y.receive, Restart{When: RestartOnFailure, Delay: time.Millisecond}
	life := 0
	c.Prepare = func(cmd *exec.Cmd) error {
		life++
		cmd.Env = roleVars("worksman", []string{"exit 3", "panic", "absent", "good", "never"}[life-1])
		return nil
	}
	w, err := c.Start(r)
	require.NoError(t, err)
	require.NoError(t, w.Wait())
	require.Equal(t, 3, w.Restarts())
	require.True(t, w.LastExit().Success())
	for range 3 {
		require.ErrorIs(t, within(t, "end", y.ends), ErrPeerDied)
	}
	require.NoError(t, within(t, "end", y.ends))
	eventually(t, "the pipes are closed", func() bool { open, _ := r.Receivers(); return len(open) == 0 })
}

func TestCommandGivesUp(t *testing.T) {
	guard(t)
	var j journal
	r := begin(t, WithLogger(j.logger()))
	for _, good := range []bool{true, false} {
		c := task(t, map[bool]string{true: "good", false: "exit 3"}[good])
		y := endings{make(chan error, 10)}
		c.Receive, c.Restart = y.receive, Restart{When: RestartAlways, Delay: time.Millisecond, Healthy: time.Hour, Limit: 3}
		w, err := c.Start(r)
		require.NoError(t, err)
		err = w.Wait()
		require.ErrorIs(t, err, ErrGaveUp)
		var exit *exec.ExitError
		require.Equal(t, !good, errors.As(err, &exit))
		require.Equal(t, 3, w.Restarts())
		for range 4 {
			within(t, "end", y.ends)
		}
		require.Empty(t, y.ends)
	}
	require.Len(t, j.matching("given up"), 2)
}

func TestCommandCannotStart(t *testing.T) {
	guard(t)
	r := begin(t)
	before := r.Stats()
	for _, c := range []struct {
		path string
		want error
	}{{"/no/such/program", fs.ErrNotExist}, {"no-such-program", exec.ErrNotFound}, {t.TempDir(), fs.ErrPermission}} {
		y := endings{make(chan error, 10)}
		w, err := Command{Path: c.path, Receive: y.receive, Restart: Restart{When: RestartAlways}}.Start(r)
		require.Nil(t, w)
		require.ErrorIs(t, err, c.want)
		require.Contains(t, err.Error(), c.path)
		require.Empty(t, y.ends)
	}
	_, err := Command{Prepare: func(*exec.Cmd) error { return io.ErrNoProgress }}.Start(r)
	require.ErrorIs(t, err, io.ErrNoProgress)
	open, err := r.Receivers()
	require.NoError(t, err)
	require.Empty(t, open)
	require.Equal(t, before.Pipes, r.Stats().Pipes)
	for _, c := range []Command{{Pipes: -1}, {Grace: -1}, {Restart: Restart{When: RestartAlways}}, {Restart: Restart{Delay: -1}}} {
		_, err := c.Start(r)
		require.ErrorIs(t, err, ErrOption)
	}
	require.NoError(t, r.Stop())
	_, err = Command{}.Start(r)
	require.ErrorIs(t, err, ErrNotRunning)
}

// The program is gone when it is to be started again.
func TestCommandCannotStartAgain(t *testing.T) {
	guard(t)
	r := begin(t)
	path := filepath.Join(t.TempDir(), "worker")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\nexit 4\n"), 0o700))
	ends := make(chan error, 10)
	w, err := Command{Path: path, Restart: Restart{When: RestartOnFailure, Delay: time.Millisecond, Limit: 2},
		Receive: func(life int, receivers []*Receiver) {
			receivers[0].Handle(func(Message) {}, func(err error) { ends <- err })
			if life > 1 {
				os.Remove(path)
			}
		}}.Start(r)
	if errors.Is(err, unix.ETXTBSY) { // another test's fork has the file open for writing
		t.Skip(err)
	}
	require.NoError(t, err)
	err = w.Wait()
	require.ErrorIs(t, err, ErrGaveUp)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Zero(t, w.Restarts())
	require.Equal(t, 4, w.LastExit().ExitCode())
	var peer *PeerError
	require.ErrorAs(t, within(t, "end", ends), &peer)
	require.Equal(t, 4, peer.State.ExitCode())
	for range 2 {
		err := within(t, "end", ends)
		require.ErrorIs(t, err, ErrPeerDied)
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
	eventually(t, "the pipes are closed", func() bool { open, _ := r.Receivers(); return len(open) == 0 })
}
