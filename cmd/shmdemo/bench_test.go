package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/speed"
)

func benchResult(t *testing.T, p *process) (res speed.Result) {
	t.Helper()
	require.NoError(t, json.Unmarshal(p.stdout.Bytes(), &res), "%s%s", p.stdout.String(), p.stderr.String())
	return res
}

// TestBench has one short pair of everything: every row, every rival, and all figures that they promise.
func TestBench(t *testing.T) {
	picture := filepath.Join(t.TempDir(), "speed.svg")
	p := start(t, "bench", "--json", "--pairs", "1", "--each", "1ms", "--plot", picture)
	require.Equal(t, exitOK, p.wait(), "%s%s", p.stdout.String(), p.stderr.String())
	res := benchResult(t, p)
	require.True(t, res.OK)
	require.False(t, res.Interrupted)
	require.Empty(t, res.Error)
	require.Contains(t, res.Machine, "Linux")
	require.Equal(t, runtime.NumCPU(), res.Processors)
	want := speed.Names()
	if res.Processors < 2 {
		want = without(want, "busy")
	}
	var names []string
	pairs := 0
	for _, row := range res.Rows {
		names = append(names, row.Name)
		require.NotEmpty(t, row.Title)
		require.Positive(t, row.Ours.P50, row.Name)
		require.NotEmpty(t, row.Against, row.Name)
		for _, a := range row.Against {
			require.Equal(t, 1, a.Ratio.N)
			require.Len(t, a.Pairs, 1)
			pair := a.Pairs[0]
			pairs++
			ratio := pair.Theirs.Value / pair.Ours.Value
			if row.Unit == "msgs/s" {
				ratio = 1 / ratio
			}
			require.InEpsilon(t, ratio, a.Ratio.P50, 1e-9, "%s beside %s", row.Name, a.Transport)
			require.Equal(t, a.Ratio.P50, a.ByState[pair.State].P50)
			require.Equal(t, row.Rate > 0, a.CPU != nil)
			require.Equal(t, row.Unit == "ns", pair.Ours.P99 > 0)
			if res.Floor != nil {
				require.Positive(t, pair.Floor[0])
				require.Positive(t, pair.Floor[1])
				require.Positive(t, pair.Floor[2])
			}
		}
	}
	require.Equal(t, want, names)
	if res.Floor != nil {
		require.Positive(t, res.Floor.P50)
		n := 0
		for _, of := range res.State {
			n += of
		}
		require.Equal(t, pairs, n)
	}
	requirePicture(t, picture, res)
}

func without(names []string, name string) (rest []string) {
	for _, n := range names {
		if n != name {
			rest = append(rest, n)
		}
	}
	return rest
}

// requirePicture reads the SVG as an XML parser does.
func requirePicture(t *testing.T, path string, res speed.Result) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	count := map[string]int{}
	var said strings.Builder
	for dec := xml.NewDecoder(strings.NewReader(string(text))); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		switch x := token.(type) {
		case xml.StartElement:
			count[x.Name.Local]++
		case xml.CharData:
			said.Write(x)
		}
	}
	bars := 0
	for _, row := range res.Rows {
		require.Contains(t, said.String(), row.Title)
		bars += len(row.Against)
	}
	require.Equal(t, 1, count["svg"])
	require.Zero(t, count["script"])
	require.Equal(t, bars, count["path"], "a whisker for each bar")
	require.Contains(t, said.String(), res.Machine)
	require.Contains(t, said.String(), "prefers-color-scheme: dark")
	require.NotContains(t, string(text), "NaN")
}

func TestBenchTable(t *testing.T) {
	p := start(t, "bench", "--pairs", "2", "--each", "1ms", "--rows", "stream-64,paced-100000,walk", "--free")
	require.Equal(t, exitOK, p.wait(), "%s%s", p.stdout.String(), p.stderr.String())
	out := p.stdout.String()
	for _, part := range []string{
		"Linux", "Placed by the kernel", "stream, 64 B", "100,000 a second", "worker to handler, 64 B",
		"pipe", "unix socket", "Go channel", "pairs with each: 2", "CPU",
	} {
		require.Contains(t, out, part)
	}
	require.NotContains(t, out, "round trip")
	require.NotContains(t, out, "NaN")
}

// On one processor everything but what must spin is measured, and it is said.
func TestBenchOnOneProcessor(t *testing.T) {
	picture := filepath.Join(t.TempDir(), "speed.svg")
	var p *process
	onOneProcessor(t, func() { p = start(t, "bench", "--json", "--pairs", "1", "--each", "1ms", "--plot", picture) })
	require.Equal(t, exitOK, p.wait(), "%s%s", p.stdout.String(), p.stderr.String())
	res := benchResult(t, p)
	require.True(t, res.OK)
	require.Equal(t, 1, res.Processors)
	require.False(t, res.Pinned)
	require.Nil(t, res.Floor)
	require.Len(t, res.Rows, len(speed.Names())-1)
	require.Contains(t, strings.Join(res.Notes, "\n"), "only one processor")
	require.Contains(t, strings.Join(res.Notes, "\n"), "Left out")
	requirePicture(t, picture, res)
}

// onOneProcessor has f start processes that may use one only.
func onOneProcessor(t *testing.T, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, one unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &before))
	for cpu := range 1024 {
		if before.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	require.NoError(t, unix.SchedSetaffinity(0, &one))
	defer func() { require.NoError(t, unix.SchedSetaffinity(0, &before)) }()
	f()
}

// A signal ends it with what was measured until then, also one that a terminal sends to all of its processes.
func TestBenchInterrupted(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			p := start(t, "bench", "--json", "--duration", "2m", "--each", "1ms", "--rows", "stream-64,producers-2,walk")
			// The last row's workers are there when the others have been measured.
			require.Eventually(t, func() bool { return len(p.alive()) >= 3+3+2 }, time.Minute, 5*time.Millisecond)
			own, err := syscall.Getpgid(p.cmd.Process.Pid)
			require.NoError(t, err)
			for _, pid := range p.alive() {
				if group, err := syscall.Getpgid(pid); err == nil && group == own { // as a terminal would choose
					require.NoError(t, syscall.Kill(pid, sig))
				}
			}
			require.NoError(t, p.cmd.Process.Signal(sig))
			require.Equal(t, exitOK, p.wait(), "%s%s", p.stdout.String(), p.stderr.String())
			res := benchResult(t, p)
			require.True(t, res.OK)
			require.True(t, res.Interrupted)
			require.GreaterOrEqual(t, len(res.Rows), 2)
			require.Less(t, time.Duration(res.Elapsed), 2*time.Minute)
		})
	}
}

// A measurement that fails fails the run.
func TestBenchFails(t *testing.T) {
	p := start(t, "bench", "--json", "--duration", "1m", "--each", "1ms", "--rows", "stream-64")
	require.NoError(t, syscall.Kill(p.untilAlive(2)[1], syscall.SIGKILL))
	require.Equal(t, exitViolation, p.wait())
	res := benchResult(t, p)
	require.False(t, res.OK)
	require.False(t, res.Interrupted)
	require.Contains(t, res.Error, "stream, 64 B")
	require.Regexp(t, "killed|EOF|broken pipe|reset", res.Error, "how it ended, or how the other side noticed")

	p = start(t, "bench", "--duration", "1m", "--each", "1ms", "--rows", "stream-64")
	require.NoError(t, syscall.Kill(p.untilAlive(2)[1], syscall.SIGKILL))
	require.Equal(t, exitViolation, p.wait())
	require.Contains(t, p.stdout.String(), "FAILED")
}

// The processes that measure do not outlive the program, however it ends.
func TestBenchKilled(t *testing.T) {
	p := start(t, "bench", "--duration", "1m", "--rows", "busy,asleep,walk")
	p.untilAlive(2)
	require.NoError(t, p.cmd.Process.Kill())
	p.cmd.Wait()
	require.Eventually(t, func() bool { return len(p.alive()) == 0 }, 10*time.Second, 10*time.Millisecond, "left behind")
}

func TestBenchUsage(t *testing.T) {
	for _, args := range []string{
		"--duration 0s", "--pairs -1", "--pairs x", "--each 0s", "--each 11s", "--rows nosuch", "--plot /nonexistent/speed.svg", "--nonsense", "nonsense",
	} {
		t.Run(args, func(t *testing.T) {
			p := start(t, append([]string{"bench"}, strings.Fields(args)...)...)
			require.Equal(t, exitUsage, p.wait())
			require.Empty(t, p.stdout.String())
			require.Contains(t, p.stderr.String(), "shmdemo: ")
			require.NotContains(t, p.stderr.String(), "panic")
		})
	}
}
