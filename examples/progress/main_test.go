package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/hinshun/vt10x"
	"github.com/stretchr/testify/require"
)

// terminal is a program on a terminal of 80 columns and 24 lines.
type terminal struct {
	t   *testing.T
	cmd *exec.Cmd
	pty *os.File
	out []byte       // what the program has written to the terminal
	log bytes.Buffer // what to standard error
}

func start(t *testing.T, args ...string) *terminal {
	program := filepath.Join(t.TempDir(), "progress")
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.Command(program, args...)
	v := &terminal{t: t, cmd: cmd}
	cmd.Stderr = &v.log
	cmd.Env = append(os.Environ(), "TERM=xterm")
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	require.NoError(t, err)
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait(); f.Close() })
	require.NoError(t, f.SetReadDeadline(time.Now().Add(time.Minute)))
	v.pty = f
	return v
}

// keyboard are the sequences of a keyboard protocol, which the emulator takes for others that move the cursor.
var keyboard = regexp.MustCompile(`\x1b\[[<>=?][0-9;]*u`)

func (v *terminal) screen() []string {
	term := vt10x.New(vt10x.WithSize(80, 24))
	term.Write(keyboard.ReplaceAll(v.out, nil))
	return strings.Split(term.String(), "\n")
}

// until reads until the screen is as wanted, or, for nil, until the program has ended.
func (v *terminal) until(ok func(screen []string) bool) []string {
	var b [4096]byte
	for {
		if ok != nil && ok(v.screen()) {
			return v.screen()
		}
		n, err := v.pty.Read(b[:])
		v.out = append(v.out, b[:n]...)
		if ok == nil && errors.Is(err, syscall.EIO) { // nobody has the other end any more
			return v.screen()
		}
		require.NoError(v.t, err, "%q", v.screen())
	}
}

// rowOf returns the line of a job.
func rowOf(screen []string, job int) string {
	for _, line := range screen {
		if strings.HasPrefix(line, fmt.Sprintf("job %d ", job)) {
			return line
		}
	}
	return ""
}

func TestJobsEndAndOneCrashes(t *testing.T) {
	const n = 200_000
	v := start(t, "-n", fmt.Sprint(n), "-crash", "2")
	screen := v.until(nil)
	require.NoError(t, v.cmd.Wait())
	for job := range int64(4) {
		if job == 2 {
			require.Regexp(t, `\[#{8}\.{8}\]  50% .* crashed: exit status 2`, rowOf(screen, 2))
			continue
		}
		primes := 0
		for i := job * n; i < (job+1)*n; i++ {
			if isPrime(i) {
				primes++
			}
		}
		require.Regexp(t, fmt.Sprintf(`\[#{16}\] 100%% +%d primes  done`, primes), rowOf(screen, int(job)))
	}
	require.Contains(t, v.log.String(), "panic: this job was asked to crash")
}

func TestCancel(t *testing.T) {
	v := start(t, "-n", "100000000", "-crash", "-1")
	var pids [4]int
	v.until(func(screen []string) bool {
		for job := range pids {
			if _, err := fmt.Sscanf(rowOf(screen, job), fmt.Sprintf("job %d %%d", job), &pids[job]); err != nil {
				return false
			}
			if strings.Contains(rowOf(screen, job), " 0 primes") {
				return false
			}
		}
		return true
	})
	_, err := v.pty.WriteString("q")
	require.NoError(t, err)
	screen := v.until(nil)
	require.NoError(t, v.cmd.Wait())
	for job, pid := range pids {
		require.Contains(t, rowOf(screen, job), "cancelled")
		require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
	}
}
