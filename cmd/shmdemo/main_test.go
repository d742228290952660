package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/stress"
	"github.com/shmrouter/shmrouter/internal/hosttest"
)

// The tests run the program as its users do, in processes of its own. Each run carries
// a mark in its environment, which its workers inherit: whatever is left behind is
// found by it.
const envMark = "SHMDEMO_TEST"

// envForbidden has the test binary become the program that it names, which then may not trace.
const envForbidden = "SHMDEMO_TEST_FORBIDDEN"

var program string // the built binary

func TestMain(m *testing.M) {
	if name := os.Getenv(envForbidden); name != "" {
		err := hosttest.Forbid(unix.SYS_PTRACE)
		if err == nil {
			err = syscall.Exec(name, os.Args, os.Environ())
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	dir, err := os.MkdirTemp("", "shmdemo")
	if err == nil {
		program = filepath.Join(dir, "shmdemo")
		var out []byte
		if out, err = exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// process is one run of the program.
type process struct {
	t      *testing.T
	mark   string
	cmd    *exec.Cmd
	stdout bytes.Buffer
	stderr bytes.Buffer
}

func start(t *testing.T, args ...string) *process { return startWith(t, program, args...) }

func startWith(t *testing.T, name string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	p := &process{t: t, mark: envMark + "=" + strconv.Itoa(os.Getpid()) + t.Name(), cmd: exec.CommandContext(ctx, name, args...)}
	p.cmd.Env = append(os.Environ(), p.mark)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	require.NoError(t, p.cmd.Start())
	return p
}

// wait returns the exit status, and makes sure that no process is left.
func (p *process) wait() int {
	p.t.Helper()
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(p.t, err)
	}
	require.Empty(p.t, p.alive(), "workers left behind")
	return p.cmd.ProcessState.ExitCode()
}

// alive returns the processes of this run other than the first.
func (p *process) alive() (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, name := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		env, err := os.ReadFile(name)
		if err == nil && pid != p.cmd.Process.Pid && bytes.Contains(env, []byte(p.mark+"\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// untilAlive waits until n workers run their own program.
func (p *process) untilAlive(n int) []int {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return len(p.alive()) >= n }, 20*time.Second, 5*time.Millisecond)
	return p.alive()
}

func (p *process) result() (res stress.Result) {
	p.t.Helper()
	require.NoError(p.t, json.Unmarshal(p.stdout.Bytes(), &res), "%s%s", p.stdout.String(), p.stderr.String())
	return res
}

func requireGood(t *testing.T, res stress.Result) {
	t.Helper()
	require.Empty(t, res.Violations, "seed %d", res.Seed)
	require.True(t, res.OK)
	require.Zero(t, res.Lost+res.Torn+res.Duplicated+res.Reordered)
	require.LessOrEqual(t, res.Acknowledged, res.Delivered)
	require.LessOrEqual(t, res.Delivered, res.Sent)
	require.Positive(t, res.Delivered)
	require.Positive(t, res.MessagesPerSecond)
	require.Positive(t, res.BytesPerSecond)
	require.Positive(t, res.PeakRSS)
	require.Positive(t, res.Elapsed)
	require.Positive(t, res.PingMedian)
	require.Positive(t, res.Latency.P50)
	require.LessOrEqual(t, res.Latency.P50, res.Latency.Max)
}

func TestStress(t *testing.T) {
	for _, c := range []struct {
		name string
		args string
		runs func(*testing.T, stress.Result)
	}{
		{"default", "--kills 16", func(t *testing.T, res stress.Result) {
			require.GreaterOrEqual(t, res.Killed, int64(16))
			require.Positive(t, res.ClaimsSkipped)
			require.Positive(t, res.Recovery.Skip.Max)
			require.Positive(t, res.Stopped)
		}},
		{"small ring", "--capacity 65536", nil},
		{"sizes", "--size 0:200000", nil},
		{"many workers", "--workers 32", func(t *testing.T, res stress.Result) { require.Equal(t, 32, res.Workers) }},
		{"no trouble", "--kill-every 0 --stop-every 0", func(t *testing.T, res stress.Result) {
			require.Zero(t, res.Killed+res.Stopped)
			require.Zero(t, res.ClaimsSkipped)
			require.Equal(t, res.Sent, res.Delivered)
		}},
		{"kills", "--kills 40 --in-claim 1 --kill-every 10ms", func(t *testing.T, res stress.Result) {
			r := res.Recovery
			require.GreaterOrEqual(t, res.Killed, int64(40))
			require.Positive(t, r.Skip.Count+r.InStops.Count)
			require.LessOrEqual(t, r.Skip.Count+r.InStops.Count, r.LockFree.Count)
			require.Equal(t, r.Skip.Count, r.Whole.Count)
			require.LessOrEqual(t, r.Skip.P50, r.Whole.P50)
			require.Positive(t, r.End.Count)
			var sum int64
			for _, b := range r.Buckets {
				sum += b.Count
			}
			require.Equal(t, r.Skip.Count, sum)
		}},
		{"messages", "--messages 20000 --seed 42", func(t *testing.T, res stress.Result) {
			require.EqualValues(t, 20000, res.Sent)
			require.EqualValues(t, 42, res.Seed)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := strings.Fields("--json --stop-every 200ms " + c.args)
			if !strings.Contains(c.args, "--kills") && !strings.Contains(c.args, "--messages") { // these end by themselves
				args = append(args, "--duration", "800ms")
			}
			p := start(t, args...)
			require.Equal(t, exitOK, p.wait(), "%s%s", p.stdout.String(), p.stderr.String())
			res := p.result()
			requireGood(t, res)
			if c.runs != nil {
				c.runs(t, res)
			}
			require.Equal(t, 1, bytes.Count(p.stdout.Bytes(), []byte("\n")), "stdout holds the object only")
		})
	}
}

// A worker for which no message is left does not send without end.
func TestFewerMessagesThanWorkers(t *testing.T) {
	p := start(t, "--json", "--messages", "3", "--kill-every", "0")
	require.Equal(t, exitOK, p.wait(), "%s%s", p.stdout.String(), p.stderr.String())
	res := p.result()
	require.Empty(t, res.Violations)
	require.EqualValues(t, 3, res.Sent)
	require.EqualValues(t, 3, res.Delivered)
}

func TestNamedSegment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "segment")
	p := start(t, "--json", "--duration", "800ms", "--path", path)
	p.untilAlive(2)
	require.FileExists(t, path)
	require.Equal(t, exitOK, p.wait(), "%s", p.stdout.String())
	requireGood(t, p.result())
	require.NoFileExists(t, path)
}

func TestOneProcessor(t *testing.T) {
	taskset, err := exec.LookPath("taskset")
	if err != nil {
		t.Skip("no taskset to pin the run to one processor")
	}
	p := startWith(t, taskset, "-c", "0", program, "--json", "--duration", "800ms")
	require.Equal(t, exitOK, p.wait(), "%s", p.stdout.String())
	res := p.result()
	requireGood(t, res)
	require.Equal(t, 1, res.CPUs)
}

func TestTable(t *testing.T) {
	p := start(t, "--messages", "20000")
	require.Equal(t, exitOK, p.wait())
	for _, want := range []string{"sent", "acknowledged", "delivered", "rate", "latency", "kills", "dead claims skipped", "stalls", "\nOK: "} {
		require.Contains(t, p.stdout.String(), want)
	}
	require.Contains(t, p.stderr.String(), "seed ")
	require.NotContains(t, p.stderr.String(), "\r", "not a terminal: plain lines")
}

// A signal ends the run early, and it is judged as any other.
func TestSignal(t *testing.T) {
	p := start(t, "--json", "--duration", "1m")
	p.untilAlive(4)
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	require.Equal(t, exitOK, p.wait(), "%s", p.stdout.String())
	res := p.result()
	require.Empty(t, res.Violations)
	require.Less(t, res.Elapsed, int64(30*time.Second))
}

// A second signal ends it at once, without a verdict.
func TestSecondSignal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "segment")
	p := start(t, "--json", "--duration", "1m", "--path", path)
	p.untilAlive(4)
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, exitViolation, p.wait())
	require.Empty(t, p.stdout.String())
	require.NoFileExists(t, path)
}

// Workers whose main process is killed end by themselves, those that are stopped at that
// moment, too, and the last one removes the segment's file.
func TestMainKilled(t *testing.T) {
	for _, named := range []bool{false, true} {
		t.Run(fmt.Sprintf("named=%v", named), func(t *testing.T) {
			args := []string{"--duration", "1m", "--kill-every", "0", "--stop-every", "0"}
			path := filepath.Join(t.TempDir(), "segment")
			if named {
				args = append(args, "--path", path)
			}
			p := start(t, args...)
			require.Eventually(t, func() bool { return len(p.alive()) == 4 && running(p.alive()) }, 20*time.Second, 5*time.Millisecond)
			require.NoError(t, syscall.Kill(p.alive()[0], syscall.SIGSTOP))
			require.NoError(t, p.cmd.Process.Kill())
			p.cmd.Wait()
			require.Eventually(t, func() bool { return len(p.alive()) == 0 }, 10*time.Second, 10*time.Millisecond, "workers left behind")
			require.NoFileExists(t, path)
		})
	}
}

// running reports whether all these processes have used processor time enough to be
// past their start.
func running(pids []int) bool {
	for _, pid := range pids {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		if len(f) < 12 || f[11] == "0" { // utime, in hundredths of a second
			return false
		}
	}
	return true
}

// A run in which nothing moves any more is a failed run, and it ends.
func TestNoProgress(t *testing.T) {
	p := start(t, "--json", "--duration", "1m", "--kill-every", "0", "--stop-every", "0", "--patience", "1s")
	for _, pid := range p.untilAlive(4) {
		require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	}
	require.Equal(t, exitViolation, p.wait())
	res := p.result()
	require.False(t, res.OK)
	require.Contains(t, res.Violations[0], "no progress")
	require.Contains(t, res.Violations[0], "while sending")
	require.LessOrEqual(t, res.MessagesPerSecond, float64(res.Delivered), "the second in which nothing came counts, too")
}

func TestUsage(t *testing.T) {
	taken := filepath.Join(t.TempDir(), "taken")
	require.NoError(t, os.WriteFile(taken, nil, 0o600))
	for _, args := range []string{
		"--workers 0", "--workers 201", "--workers x", "--size 5", "--size 5:4", "--size -1:4", "--size 0:99999999999",
		"--duration 0s", "--duration 5", "--kill-every -1s", "--kills -1", "--kills 5 --kill-every 0", "--in-claim 0", "--pause -1s", "--in-claim 1.1", "--in-claim NaN", "--stop-every -1s", "--capacity 0", "--capacity 65535", "--capacity 4294967296",
		"--patience 1ms", "--seed -1", "--messages -1", "--messages 0", "--nonsense", "nonsense",
		"--path " + taken, "--path /nonexistent/segment",
	} {
		t.Run(args, func(t *testing.T) {
			p := start(t, strings.Fields(args)...)
			require.Equal(t, exitUsage, p.wait())
			require.Empty(t, p.stdout.String())
			require.Contains(t, p.stderr.String(), "shmdemo: ")
			require.NotContains(t, p.stderr.String(), "panic")
		})
	}
}

func TestHelp(t *testing.T) {
	p := start(t, "--help")
	require.Equal(t, exitOK, p.wait())
	for _, flag := range []string{"workers", "duration", "messages", "size", "kill-every", "stop-every", "seed", "capacity", "path", "json", "patience", "kills", "in-claim", "pause", "report"} {
		require.Contains(t, p.stdout.String(), "--"+flag)
	}
}
