package router

import (
	"bufio"
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

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/shm"
)

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
