package clitest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// terminal is a program on a pseudo-terminal. What it writes is kept, and can be looked at as a screen.
type terminal struct {
	t   *testing.T
	cmd *exec.Cmd
	pty *os.File
	tty *os.File // kept open, to look at its settings afterwards

	before unix.Termios

	mu  sync.Mutex
	all []byte
}

func startTerminal(t *testing.T, rows, columns int, env []string, args ...string) *terminal {
	t.Helper()
	p, tty, err := pty.Open()
	require.NoError(t, err)
	require.NoError(t, pty.Setsize(p, &pty.Winsize{Rows: uint16(rows), Cols: uint16(columns)}))
	cmd := exec.Command(filepath.Join(programs, "shmctl"), args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TERM=xterm"}, env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	w := &terminal{t: t, cmd: cmd, pty: p, tty: tty}
	w.before = w.settings()
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait(); tty.Close(); p.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := p.Read(b)
			w.mu.Lock()
			w.all = append(w.all, b[:n]...)
			w.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return w
}

func (w *terminal) raw() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.all)
}

var sequence = regexp.MustCompile("\x1b\\[[?0-9;]*[a-zA-Z]")

// frame is the last whole picture, as it was written.
func (w *terminal) frame() string {
	frames := strings.Split(w.raw(), "\x1b[H")
	for i := len(frames) - 1; i > 0; i-- {
		if picture, _, whole := strings.Cut(frames[i], "\x1b[J"); whole {
			return picture
		}
	}
	return ""
}

// screen is the last whole picture, as lines without sequences.
func (w *terminal) screen() []string {
	frame := w.frame()
	if frame == "" {
		return nil
	}
	return strings.Split(strings.ReplaceAll(sequence.ReplaceAllString(frame, ""), "\r", ""), "\n")
}

// await waits for a picture with that text in it.
func (w *terminal) await(text string) []string {
	w.t.Helper()
	var lines []string
	require.Eventually(w.t, func() bool {
		lines = w.screen()
		return strings.Contains(strings.Join(lines, "\n"), text)
	}, patience, 5*time.Millisecond, "%q does not come: %q", text, w.raw())
	return lines
}

func (w *terminal) typed(keys string) {
	w.t.Helper()
	_, err := w.pty.WriteString(keys)
	require.NoError(w.t, err)
}

func (w *terminal) settings() unix.Termios {
	w.t.Helper()
	s, err := unix.IoctlGetTermios(int(w.tty.Fd()), unix.TCGETS)
	require.NoError(w.t, err)
	return *s
}

// ended waits for the end, and requires that the terminal is as it was.
func (w *terminal) ended() {
	w.t.Helper()
	require.NoError(w.t, w.cmd.Wait())
	require.Equal(w.t, w.before, w.settings())
	require.Eventually(w.t, func() bool {
		out := w.raw()
		return strings.LastIndex(out, "\x1b[?1049l") > strings.LastIndex(out, "\x1b[?1049h") &&
			strings.LastIndex(out, "\x1b[?25h") > strings.LastIndex(out, "\x1b[?25l")
	}, patience, time.Millisecond, "cursor and first screen are back")
}

// A terminal of 80×24 without colour shows everything that there is.
func TestTopOnAScreen(t *testing.T) {
	path := segmentPath(t)
	producer := startRole(t, "producer", path)
	consumer := startRole(t, "consumer", path)
	w := startTerminal(t, 24, 80, []string{"NO_COLOR=1"}, "top", "--interval=50ms", path)
	lines := w.await("messages/s")
	require.Len(t, lines, 24)
	for _, l := range lines {
		require.LessOrEqual(t, len([]rune(l)), 80, "%q", l)
	}
	text := strings.Join(lines, "\n")
	require.Contains(t, lines[0], "alive")
	require.Regexp(t, `fill +\[#\.+\] +1\.8%`, text)
	require.Regexp(t, `consumer +`+pid(consumer)+` \(`, text)
	require.Regexp(t, `claims +1 open, seen for `, text)
	require.Regexp(t, `(?m)^ +0 +`+pid(producer)+` .* 1$`, text)
	require.Contains(t, lines[23], "q quit  s sort: slot")
	require.NotRegexp(t, "\x1b\\[[0-9;]+m", strings.ReplaceAll(w.raw(), "\x1b[0m", ""), "no colour")
}

func pid(cmd *exec.Cmd) string { return strconv.Itoa(cmd.Process.Pid) }

func TestTopKeys(t *testing.T) {
	path := segmentPath(t)
	startRole(t, "producer", path)
	dead := startRole(t, "producer", path)
	dead.Process.Kill()
	dead.Wait()
	w := startTerminal(t, 24, 80, nil, "top", "--interval=50ms", path)
	require.Eventually(t, func() bool { return w.screen() != nil }, patience, time.Millisecond)
	w.await("sort: slot")
	w.await("1/1")
	require.Contains(t, w.raw(), "\x1b[7m", "colours where they are wanted")
	for _, order := range []string{"rate", "sent", "age", "claim", "wait", "backlog", "slot"} {
		w.typed("s")
		w.await("sort: " + order)
	}
	w.typed("r")
	w.await("reversed")
	w.typed("f")
	w.await("filter: all")
	lines := w.await("2/2")
	text := strings.Join(lines, "\n")
	require.Less(t, strings.Index(text, "   1  "), strings.Index(text, "   0  "), "reversed: %s", text)
	w.typed("f")
	w.await("filter: claims")
	w.typed("p")
	w.await("PAUSED")
	w.typed("p-")
	w.await("every 100ms")
	w.typed("\x1b[B\x1b[A+")
	w.await("every 50ms")
}

// However it ends, the terminal is as it was before.
func TestTopGivesTheTerminalBack(t *testing.T) {
	path := segmentPath(t)
	startRole(t, "producer", path)
	for name, end := range map[string]func(w *terminal){
		"q":       func(w *terminal) { w.typed("q") },
		"ctrl-C":  func(w *terminal) { w.typed("\x03") },
		"SIGTERM": func(w *terminal) { w.cmd.Process.Signal(unix.SIGTERM) },
		"SIGHUP":  func(w *terminal) { w.cmd.Process.Signal(unix.SIGHUP) },
		"ctrl-\\": func(w *terminal) { w.typed("\x1c") },
		"--count": func(*terminal) {},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"top", "--interval=50ms", path}
			if name == "--count" {
				args = append(args, "--count=2")
			}
			w := startTerminal(t, 24, 80, nil, args...)
			w.await("q quit")
			end(w)
			w.ended()
		})
	}
}

// Stopped by ctrl-Z it gives the terminal to the shell, and takes it again when it is continued.
func TestTopStopsAndContinues(t *testing.T) {
	path := segmentPath(t)
	startRole(t, "producer", path)
	w := startTerminal(t, 24, 80, nil, "top", "--interval=50ms", path)
	w.await("q quit")
	raw := w.settings()
	w.cmd.Process.Signal(unix.SIGTSTP)
	require.Eventually(t, func() bool {
		b, _ := os.ReadFile("/proc/" + strconv.Itoa(w.cmd.Process.Pid) + "/stat")
		return bytes.Contains(b, []byte(") T "))
	}, patience, time.Millisecond)
	require.NotEqual(t, raw, w.settings())
	require.NoError(t, w.cmd.Process.Signal(unix.SIGCONT))
	require.Eventually(t, func() bool { return w.settings() == raw }, patience, time.Millisecond)
	n := len(w.raw())
	require.Eventually(t, func() bool { return strings.Contains(w.raw()[n:], "q quit") }, patience, time.Millisecond)
}

func TestTopFollowsTheWindow(t *testing.T) {
	path := segmentPath(t)
	startRole(t, "producer", path)
	w := startTerminal(t, 24, 80, nil, "top", "--interval=1m", path)
	w.await("q quit")
	require.NoError(t, pty.Setsize(w.pty, &pty.Winsize{Rows: 10, Cols: 40}))
	require.Eventually(t, func() bool { return len(w.screen()) == 10 }, patience, time.Millisecond, "at once, not after the interval")
	for _, l := range w.screen() {
		require.LessOrEqual(t, len([]rune(l)), 40)
	}
	require.NoError(t, pty.Setsize(w.pty, &pty.Winsize{Rows: 1, Cols: 1}))
	require.Eventually(t, func() bool { return len(w.screen()) == 1 }, patience, time.Millisecond)
	require.NoError(t, pty.Setsize(w.pty, &pty.Winsize{Rows: 50, Cols: 132}))
	require.Eventually(t, func() bool { return len(w.screen()) == 50 }, patience, time.Millisecond)
}

// A dumb terminal gets lines of text.
func TestTopWithoutAScreen(t *testing.T) {
	path := segmentPath(t)
	startRole(t, "producer", path)
	w := startTerminal(t, 24, 80, []string{"TERM=dumb"}, "top", "--interval=50ms", "--count=3", path)
	require.NoError(t, w.cmd.Wait())
	require.Eventually(t, func() bool { return strings.Count(w.raw(), "\n") == 3 }, patience, time.Millisecond)
	require.NotContains(t, w.raw(), "\x1b")
	require.Regexp(t, `^\d\d:\d\d:\d\d orphaned fill \d\.\d%, claim by slot 0`, w.raw())
}
