package router

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/sender"
)

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

// A Stop that has no time to lose ends also the life that is just being started.
func TestStopWhileStarting(t *testing.T) {
	guard(t)
	r := begin(t)
	c := task(t, "deaf")
	c.Grace = time.Hour
	c.Restart = Restart{When: RestartAlways, Delay: time.Millisecond}
	c.Receive = func(int, []*Receiver) {}
	var w *Worker
	started := make(chan struct{})
	stopped := make(chan error, 1)
	lives := 0
	c.Prepare = func(*exec.Cmd) error {
		if lives++; lives == 2 {
			<-started
			go func() { stopped <- stopNow(w) }()
			for !w.isStopping() {
				time.Sleep(time.Millisecond)
			}
		}
		return nil
	}
	w, err := c.Start(r)
	require.NoError(t, err)
	close(started)
	must(t, w.Kill())
	require.Error(t, <-stopped)
	require.Error(t, w.Wait())
	require.Equal(t, 2, lives)
	require.True(t, w.LastExit().Sys().(syscall.WaitStatus).Signaled())
}

// The worker's end counts, whatever has become of ctx.
func TestStopOfAWorkerThatHasEnded(t *testing.T) {
	guard(t)
	r := begin(t)
	w := task(t, "obedient").launched(t, r)
	must(t, w.Stop(background))
	for range 100 {
		must(t, w.Stop(expired()))
	}
}
