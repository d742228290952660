package clitest

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/shm"
)

// startRole plays a role until the test ends.
func startRole(t *testing.T, role, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+role, fileVariable+"="+path)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	return cmd
}

func segmentPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(shm.DefaultDir(), "clitest-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "segment")
}

// What can disturb a ring that runs: a lock, a wake or a wait on its words, and a mapping or descriptor that could be
// written through. Futex calls of the Go runtime are private ones.
var disturbing = map[string]*regexp.Regexp{
	"a lock":            regexp.MustCompile(`F_(OFD_)?SETLKW?\b|\bflock\(`),
	"a shared futex":    regexp.MustCompile(`\bfutex(_wake|_wait|_waitv|_requeue)?\((?:.*\b)?FUTEX_(?:WAIT|WAKE|REQUEUE|CMP_REQUEUE|WAKE_OP|WAIT_BITSET|WAKE_BITSET|LOCK_PI)\b[^_]`),
	"a write mapping":   regexp.MustCompile(`\bmmap\([^)]*PROT_WRITE[^)]*MAP_SHARED`),
	"mprotect to write": regexp.MustCompile(`\bmprotect\([^)]*PROT_WRITE[^)]*\) .*SHARED`),
	"a change of files": regexp.MustCompile(`\b(unlink|unlinkat|rename|renameat|renameat2|ftruncate|truncate|fallocate|pwrite64|pwritev|memfd_create|membarrier)\(`),
	"an open to write":  regexp.MustCompile(`\bopenat?\([^)]*(segment|memfd|/fd/)[^)]*O_(RDWR|WRONLY|CREAT|TRUNC)`),
}

var mapping = regexp.MustCompile(`mmap\(NULL, \d+, PROT_READ, MAP_SHARED`)

// stracing says how to trace, or skips with the reason.
func stracing(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	if out, err := exec.Command(path, "-f", "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Skipf("strace is not permitted: %s", bytes.TrimSpace(out))
	}
	return path
}

func TestLooksDoNotDisturb(t *testing.T) {
	strace := stracing(t)
	path := segmentPath(t)
	startRole(t, "producer", path)
	startRole(t, "consumer", path)
	for _, args := range [][]string{
		{"stat", "--watch=50ms", "--count=5", path},
		{"list", path},
		{"dump", path},
		{"check", path},
		{"prune", "--dry-run", "--min-age=0", path},
	} {
		t.Run(args[0], func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			cmd := exec.Command(strace, append([]string{"-f", "-s", "300", "-o", log, filepath.Join(programs, "shmctl")}, args...)...)
			cmd.Stdout, cmd.Stderr = io.Discard, os.Stderr
			require.NoError(t, cmd.Run())
			b, err := os.ReadFile(log)
			require.NoError(t, err)
			trace := string(b)
			require.True(t, mapping.MatchString(trace), "the segment is mapped, and this sees it")
			if args[0] != "dump" { // which does not care who lives
				require.Contains(t, trace, "F_OFD_GETLK")
			}
			for line := range strings.Lines(trace) {
				for what, call := range disturbing {
					require.False(t, call.MatchString(line), "%s: %s", what, line)
				}
			}
		})
	}
}

// The patterns above see what they are for: a worker does all of it.
func TestDisturbancesAreSeen(t *testing.T) {
	strace := stracing(t)
	log := filepath.Join(t.TempDir(), "log")
	cmd := exec.Command(strace, "-f", "-s", "300", "-o", log, "/proc/self/exe")
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd.Args[len(cmd.Args)-1] = exe
	cmd.Env = append(os.Environ(), roleVariable+"=router", fileVariable+"="+segmentPath(t))
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Run(), "its input is empty: it stops at once")
	b, err := os.ReadFile(log)
	require.NoError(t, err)
	for _, what := range []string{"a lock", "a write mapping", "a shared futex", "a change of files"} {
		require.True(t, disturbing[what].Match(b), what)
	}
}
