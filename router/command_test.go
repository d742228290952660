package router

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/hosttest"
	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
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

// rudely is a grace that begins with SIGTERM, so that no test waits for it.
const rudely = time.Hour

func rude(t *testing.T) {
	before := politely
	politely = func(grace time.Duration) time.Duration {
		if grace == rudely {
			return 0
		}
		return before(grace)
	}
	t.Cleanup(func() { politely = before })
}

func TestWorkerStop(t *testing.T) {
	rude(t)
	pause := func(w *Worker) {
		require.NoError(t, w.Signal(unix.SIGSTOP))
		eventually(t, "each of its threads is stopped", func() bool {
			statuses, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", w.PID()))
			require.NoError(t, err)
			for _, path := range statuses {
				if b, err := os.ReadFile(path); err == nil && !strings.Contains(string(b), "T (stopped)") {
					return false
				}
			}
			return true
		})
	}
	for _, c := range []struct {
		name, task, state string
		grace             time.Duration
		before            func(*Worker)
	}{
		{"obeys", "obedient", "exit status 0", 2 * time.Hour, nil},
		{"knows no context", "plain", "signal: terminated", rudely, nil},
		{"hangs", "deaf", "signal: killed", time.Millisecond, nil},
		{"computes", "busy", "signal: killed", time.Millisecond, nil},
		{"is stopped", "obedient", "signal: killed", time.Millisecond, pause},
	} {
		t.Run(c.name, func(t *testing.T) {
			guard(t)
			r := begin(t)
			cmd := task(t, c.task)
			cmd.Grace = c.grace
			w := cmd.launched(t, r)
			if c.before != nil {
				c.before(w)
			}
			require.NoError(t, w.Stop(background))
			require.Equal(t, c.state, w.LastExit().String())
			rcv := w.Receivers()[0]
			if c.name == "obeys" {
				m, err := rcv.Recv(background)
				require.NoError(t, err)
				require.Equal(t, sender.ErrCancelled.Error(), string(m.Data))
				require.Equal(t, io.EOF, ended(t, r, rcv))
				return
			}
			require.ErrorIs(t, ended(t, r, rcv), ErrPeerDied)
		})
	}
	t.Run("has no time", func(t *testing.T) {
		guard(t)
		r := begin(t)
		cmd := task(t, "deaf")
		cmd.Grace = time.Hour
		w := cmd.launched(t, r)
		require.EqualError(t, stopNow(w), "now")
		require.Equal(t, "signal: killed", w.LastExit().String())
		within(t, "done", w.Done())
		require.ErrorIs(t, ended(t, r, w.Receivers()[0]), ErrPeerDied)
	})
	t.Run("launched plainly", func(t *testing.T) {
		guard(t)
		r := begin(t)
		s, rcv := pipe(t, r)
		w, err := r.Launch(command(t, "worksman", "obedient"), s)
		require.NoError(t, err)
		_, err = rcv.Recv(background)
		require.NoError(t, err)
		require.NoError(t, w.Stop(background))
		require.NoError(t, w.Wait())
		require.NoError(t, rcv.Close())
	})
}

// A handler may stop the worker whose message it handles, also one that waits for the room that only it could give.
func TestWorkerStopByAHandler(t *testing.T) {
	guard(t)
	r := begin(t, WithCapacity(64<<10), WithInbox(1), WithTurn(1))
	c := task(t, "flood")
	c.Grace = time.Hour
	worker, stopped, end := make(chan *Worker, 1), make(chan error, 1), make(chan error, 1)
	c.Receive = func(_ int, receivers []*Receiver) {
		receivers[0].Handle(func(m Message) {
			if m.Seq == 1 {
				w := <-worker
				stopped <- w.Stop(background)
			}
		}, func(err error) { end <- err })
	}
	w, err := c.Start(r)
	require.NoError(t, err)
	worker <- w
	require.NoError(t, within(t, "stop", stopped))
	require.NoError(t, within(t, "end", end))
	require.NoError(t, w.Wait())
}

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
	c.Prepare = func(cmd *exec.Cmd) {
		life++
		cmd.Env = roleVars("worksman", []string{"exit 3", "panic", "absent", "good", "never"}[life-1])
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

// A worker that waits for its restart is not started any more.
func TestWorkerStopBetweenLives(t *testing.T) {
	for _, by := range []string{"worker", "router"} {
		t.Run(by, func(t *testing.T) {
			guard(t)
			r := begin(t)
			c := task(t, "exit 3")
			y := endings{make(chan error, 10)}
			c.Receive, c.Restart = y.receive, Restart{When: RestartAlways, Delay: time.Hour}
			w, err := c.Start(r)
			require.NoError(t, err)
			require.ErrorIs(t, within(t, "end", y.ends), ErrPeerDied)
			eventually(t, "it has ended", func() bool { return w.LastExit() != nil })
			if by == "worker" {
				require.NoError(t, w.Stop(background))
			} else {
				require.NoError(t, r.Stop())
			}
			var exit *exec.ExitError
			require.ErrorAs(t, w.Wait(), &exit)
			require.Zero(t, w.Restarts())
		})
	}
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

// A child that the worker leaves behind holds its output open.
func TestCommandLeavesAChild(t *testing.T) {
	guard(t)
	r := begin(t)
	w := task(t, "parent").launched(t, r)
	rcv := w.Receivers()[0]
	m, err := rcv.Recv(background)
	require.NoError(t, err)
	child, err := strconv.Atoi(string(m.Data))
	require.NoError(t, err)
	defer unix.Kill(child, unix.SIGKILL)
	require.Equal(t, io.EOF, ended(t, r, rcv))
	require.ErrorIs(t, w.Wait(), exec.ErrWaitDelay)
	require.True(t, w.LastExit().Success())
}

// Router.Stop stops the workers of commands, and Done tells when they have ended.
func TestRouterStopsWorkers(t *testing.T) {
	for _, resume := range []bool{false, true} {
		t.Run(fmt.Sprintf("resume=%v", resume), func(t *testing.T) {
			guard(t)
			rude(t)
			goroutines := runtime.NumGoroutine()
			var opts []Option
			if resume {
				opts = []Option{WithPath(filepath.Join(t.TempDir(), "segment")), WithResume()}
			}
			r := begin(t, opts...)
			var workers []*Worker
			for _, name := range []string{"obedient", "plain", "deaf"} {
				c := task(t, name)
				c.Grace = map[string]time.Duration{"obedient": 2 * time.Hour, "plain": rudely, "deaf": time.Millisecond}[name]
				workers = append(workers, c.launched(t, r))
			}
			s, rcv := pipe(t, r)
			plain, err := r.Launch(command(t, "worksman", "plain"), s)
			require.NoError(t, err)
			_, err = rcv.Recv(background)
			require.NoError(t, err)
			require.NoError(t, r.Stop())
			within(t, "router done", r.Done())
			for i, state := range []string{"exit status 0", "signal: terminated", "signal: killed"} {
				select {
				case <-workers[i].Done():
				default:
					t.Fatalf("worker %d has not ended", i)
				}
				require.Equal(t, state, workers[i].LastExit().String())
			}
			select {
			case <-plain.Done():
				t.Error("a worker of Launch ended with the router")
			default:
			}
			require.NoError(t, plain.Kill())
			<-plain.Done()
			eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines+1 }) // the launcher's
			require.Empty(t, children(t))
		})
	}
}

// children lists this process's children, those included that nobody has waited for.
func children(t testing.TB) (pids []string) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	require.NoError(t, err)
	for _, path := range tasks {
		if b, err := os.ReadFile(path); err == nil {
			pids = append(pids, strings.Fields(string(b))...)
		}
	}
	return pids
}

// A thousand lives leave nothing behind.
func TestCommandThousandLives(t *testing.T) {
	guard(t)
	r := begin(t, WithMaxPipes(16))
	begun := shm.Now()
	const workers, lives = 4, 250
	var threads, restarts int
	var all []*Worker
	y := endings{make(chan error, workers)}
	for range workers {
		w, err := Command{Path: "true", Receive: y.receive, Stderr: io.Discard, Restart: Restart{When: RestartAlways, Delay: 1, MaxDelay: 1, Limit: -1}}.Start(r)
		require.NoError(t, err)
		all = append(all, w)
	}
	for i := range workers * lives {
		require.ErrorIs(t, within(t, "end", y.ends), ErrPeerDied)
		if i == 100 {
			threads = threadCount(t)
		}
	}
	go func() {
		for range y.ends { // some more may be on their way
		}
	}()
	for _, w := range all {
		require.NoError(t, w.Stop(background))
		restarts += w.Restarts()
	}
	require.GreaterOrEqual(t, restarts, workers*(lives-1))
	require.LessOrEqual(t, threadCount(t), threads+10)
	require.Empty(t, children(t))
	t.Log(time.Duration(shm.Now()-begun) / (workers * lives))
}

// Nobody's thread is in a system call for a worker.
func TestWorkersTakeNoThreads(t *testing.T) {
	guard(t)
	r := begin(t)
	before := threadCount(t)
	var all []*Worker
	for range 40 {
		w, err := Command{Path: "sleep", Args: []string{"600"}, Stdout: io.Discard, Stderr: io.Discard}.Start(r)
		require.NoError(t, err)
		all = append(all, w)
	}
	t.Logf("%d threads, %d before", threadCount(t), before)
	require.Less(t, threadCount(t), before+20)
	for _, w := range all {
		require.NoError(t, w.Kill())
		require.Error(t, w.Wait())
	}
}

func threadCount(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	return len(entries)
}

// Threads come and go; the one that starts workers does not, nor do they.
func TestLauncherStays(t *testing.T) {
	guard(t)
	r := begin(t)
	tid := func() (id int) {
		done := make(chan struct{})
		launcher() <- func() { id = unix.Gettid(); close(done) }
		<-done
		return id
	}
	first := tid()
	started := make(chan *Worker)
	var callers int
	go func() {
		runtime.LockOSThread() // and the thread ends with the goroutine
		callers = unix.Gettid()
		w, err := task(t, "obedient").Start(r)
		if err != nil {
			t.Error(err)
		}
		started <- w
	}()
	w := <-started
	require.NotNil(t, w)
	eventually(t, "the caller's thread ends", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", callers))
		return errors.Is(err, fs.ErrNotExist) || callers == os.Getpid() // the first thread stays as a zombie
	})
	rcv := w.Receivers()[0]
	_, err := rcv.Recv(background)
	require.NoError(t, err)
	require.NoError(t, w.Stop(background))
	require.Equal(t, "exit status 0", w.LastExit().String(), "the signal of its starter's death")
	require.Equal(t, first, tid())
}

// The worker has the reading end of its lifeline, this process has the other one, and nobody else has either.
func TestCommandGivesALifeline(t *testing.T) {
	guard(t)
	r := begin(t)
	pids := []int{os.Getpid()}
	for range 3 {
		pids = append(pids, task(t, "obedient").launched(t, r).PID())
	}
	for _, worker := range pids[1:] {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", worker))
		require.NoError(t, err)
		_, text, found := strings.Cut(string(environ), "\x00"+wire.EnvLifeline+"=")
		require.True(t, found)
		text, _, _ = strings.Cut(text, "\x00")
		_, inode, err := wire.ParseLifeline(text)
		require.NoError(t, err)
		for _, pid := range pids {
			var want []int
			switch pid {
			case worker:
				want = []int{unix.O_RDONLY}
			case os.Getpid():
				want = []int{unix.O_WRONLY}
			}
			require.Equal(t, want, modes(t, pid, fmt.Sprintf("pipe:[%d]", inode)))
		}
	}
}

// The first process of another pid namespace sees no parent, which the runtime could take for its death.
func TestCommandInANamespace(t *testing.T) {
	guard(t)
	attr := hosttest.Apart(t, unix.CLONE_NEWPID)
	r := begin(t)
	c := task(t, "obedient")
	c.Prepare = func(cmd *exec.Cmd) { cmd.SysProcAttr = attr }
	w := c.launched(t, r)
	require.NoError(t, w.Stop(background))
	require.NoError(t, w.Wait())
	require.Zero(t, attr.Pdeathsig, "it is the caller's")
}

// modes returns how a process has a file open.
func modes(t testing.TB, pid int, file string) (modes []int) {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	require.NoError(t, err)
	require.NotEmpty(t, links)
	for _, link := range links {
		if target, _ := os.Readlink(link); target != file {
			continue
		}
		info, err := os.ReadFile(strings.Replace(link, "/fd/", "/fdinfo/", 1))
		require.NoError(t, err)
		_, text, _ := strings.Cut(string(info), "flags:\t")
		var flags int
		_, err = fmt.Sscanf(text, "%o", &flags)
		require.NoError(t, err)
		modes = append(modes, flags&unix.O_ACCMODE)
	}
	return modes
}

// A main process is killed: its workers end, whatever they do; those that may outlive it by their context.
func TestMainKilledWithWorkers(t *testing.T) {
	for _, c := range []struct {
		tasks  string
		paused bool // the first one is stopped
	}{{"obedient,busy,deaf,plain", false}, {"obedient", true}, {"/obedient,obedient,obedient", false}, {"deaf/obedient,obedient", true}} {
		t.Run(fmt.Sprint(c.tasks, " ", c.paused), func(t *testing.T) {
			guard(t)
			cmd := command(t, "commanding main", c.tasks)
			out, finish := listen(t, cmd)
			require.NoError(t, cmd.Start())
			finish()
			lines := bufio.NewScanner(out)
			died := make(chan int, 10)
			want := strings.Count(c.tasks, ",") + 1
			if strings.Index(c.tasks, "/") > 0 {
				want++
			}
			for i := range want {
				require.True(t, lines.Scan())
				pid, err := strconv.Atoi(lines.Text())
				require.NoError(t, err)
				t.Cleanup(func() {
					if t.Failed() {
						unix.Kill(pid, unix.SIGKILL)
					}
				})
				if i == 0 && c.paused {
					require.NoError(t, unix.Kill(pid, unix.SIGSTOP))
				}
				stop, err := shm.WatchDeath(pid, 0, func() { died <- pid })
				require.NoError(t, err)
				defer stop()
			}
			require.NoError(t, cmd.Process.Kill())
			var exit *exec.ExitError
			require.ErrorAs(t, cmd.Wait(), &exit)
			require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal())
			for range want {
				within(t, "a worker ends", died)
			}
		})
	}
}
