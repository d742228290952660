package router

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// testLife is the test's view of a main process.
type testLife struct {
	cmd   *exec.Cmd
	in    io.Writer
	out   io.Closer
	lines chan string // what it says; closed when it is dead
}

func startLife(t testing.TB, session string, p plan) *testLife {
	t.Helper()
	arg, err := json.Marshal(p)
	must(t, err)
	cmd := command(t, "life", string(arg))
	cmd.Env = append(cmd.Env, sessionEnv+"="+session, "GOMAXPROCS=2")
	in, err := cmd.StdinPipe()
	must(t, err)
	outR, finish := listen(t, cmd)
	err = cmd.Start()
	finish()
	must(t, err)
	l := &testLife{cmd: cmd, in: in, out: outR, lines: make(chan string, 100)}
	go func() {
		defer close(l.lines)
		for s := bufio.NewScanner(outR); s.Scan(); {
			l.lines <- s.Text()
		}
	}()
	return l
}

// killed waits for its end, which is an error unless it is that of SIGKILL.
func (l *testLife) killed() error {
	err := l.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return nil
	}
	return fmt.Errorf("it was to be killed, and has ended: %w", err)
}

// sessionProcesses finds the processes of a session, this one excepted.
func sessionProcesses(session string) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscan(e.Name(), &pid); err != nil || pid == os.Getpid() {
			continue
		}
		env, _ := os.ReadFile("/proc/" + e.Name() + "/environ")
		if strings.Contains("\x00"+string(env), "\x00"+sessionEnv+"="+session+"\x00") {
			pids = append(pids, pid)
		}
	}
	return pids
}
