package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/soak"
	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/stress"
)

func soakResult(t *testing.T, p *process) (res soak.Result) {
	t.Helper()
	require.NoError(t, json.Unmarshal(p.stdout.Bytes(), &res), "%s%s", p.stdout.String(), p.stderr.String())
	return res
}

// A short soak goes through everything but the crowd, and leaves nothing.
func TestSoak(t *testing.T) {
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "soak.html")
	p := start(t, "soak", "--json", "--duration", "1s", "--epochs", "4", "--dir", dir, "--report", path)
	require.Equal(t, exitOK, p.wait(), "%s%s", p.stdout.String(), p.stderr.String())
	res := soakResult(t, p)
	require.True(t, res.OK)
	require.Empty(t, res.Violations)
	require.Len(t, res.Arenas, 3)
	require.GreaterOrEqual(t, res.Epochs, 4)
	for _, a := range res.Arenas {
		require.Positive(t, a.Delivered, a.Name)
		require.Positive(t, a.Killed, a.Name)
		require.LessOrEqual(t, a.Acknowledged, a.Delivered, a.Name)
		require.LessOrEqual(t, a.Delivered, a.Sent, a.Name)
		require.Zero(t, a.Lost+a.Torn+a.Duplicated+a.Reordered, a.Name)
	}
	require.Positive(t, res.Arenas[0].LocalPipes)
	require.Positive(t, res.Arenas[2].MainKilled+res.Arenas[2].MainStopped)
	require.Len(t, res.Rests, res.Epochs)
	require.NotEmpty(t, res.Resources)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)

	page := readPage(t, path)
	requireSelfContained(t, page)
	requireAccessible(t, page)
	require.Contains(t, page.id(t, "verdict").text, "OK")
	require.Equal(t, res.Machine, page.id(t, "machine").text)
	require.Equal(t, fmt.Sprintf("shmdemo soak --duration 1s --epochs 4 --dir %s --seed %d", dir, res.Seed), page.id(t, "command").text)
	arenas := map[string][]string{}
	for _, row := range page.table(t, "arenas") {
		arenas[row[0]] = row[1:]
	}
	for i, a := range res.Arenas {
		for name, n := range map[string]uint64{"sent": a.Sent, "delivered": a.Delivered, "lost": a.Lost, "killed": uint64(a.Killed), "main process killed": uint64(a.MainKilled)} {
			require.Equal(t, stress.Count(n), arenas[name][i], "%s %s", a.Name, name)
		}
	}
	require.Len(t, page.table(t, "resources"), len(res.Resources))
	require.Len(t, page.classed("chart"), len(res.Resources))
}

func TestSoakUsage(t *testing.T) {
	for _, args := range []string{"--duration 0s", "--epochs 0", "--duration x", "--patience 1ms", "--seed -1", "--dir /nonexistent", "--report /nonexistent/soak.html", "--nonsense"} {
		t.Run(args, func(t *testing.T) {
			p := start(t, append([]string{"soak"}, strings.Fields(args)...)...)
			require.Equal(t, exitUsage, p.wait())
			require.Empty(t, p.stdout.String())
			require.Contains(t, p.stderr.String(), "shmdemo: ")
		})
	}
}

// Who runs a soak is told how long it takes, and what it does not show.
func TestSoakHelp(t *testing.T) {
	p := start(t, "soak", "--help")
	require.Equal(t, exitOK, p.wait())
	text := strings.Join(strings.Fields(p.stdout.String()), " ")
	for _, want := range []string{
		"The duration may be overrun", "An epoch is a twelfth of the duration, from 700ms to 1m0s", "up to one epoch and its end more",
		"A short run judges no slope: at rest none with fewer than 3 rests behind the warm-up; at work none in epochs below 5s, that is with a duration below 1m0s, nor with fewer than 6 epochs",
	} {
		require.Contains(t, text, want)
	}
}

var eachLeak = flag.Bool("leaks.each", false, "TestLeaks: build and run each leak by itself, too")

// The soak can fail. Each patch in testdata/leaks has a copy of the library lose a little of one
// thing now and then; all of them together are noticed one by one.
func TestLeaks(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program once more")
	}
	expect := map[string]string{
		"descriptor": "descriptors grow at rest",
		"goroutine":  "goroutines grow at rest",
		"memory":     "live heap grow at rest",
		"mapping":    "mappings grow at rest",
		"file":       "files grow at rest",
	}
	patches, err := filepath.Glob("testdata/leaks/*.patch")
	require.NoError(t, err)
	require.Len(t, patches, len(expect), "every leak has its violation here")
	violations := func(t *testing.T, patches ...string) string {
		p := startWith(t, buildPatched(t, patches...), "soak", "--json", "--duration", "1s", "--epochs", "7", "--dir", t.TempDir())
		require.Equal(t, exitViolation, p.wait(), "%s", p.stderr.String())
		return strings.Join(soakResult(t, p).Violations, "\n")
	}
	all := violations(t, patches...)
	for name, want := range expect {
		require.Contains(t, all, want, name)
	}
	for _, patch := range patches {
		if !*eachLeak {
			break
		}
		name := strings.TrimSuffix(filepath.Base(patch), ".patch")
		t.Run(name, func(t *testing.T) {
			found := violations(t, patch)
			require.Contains(t, found, expect[name])
		})
	}
}

// buildPatched builds the program from a copy of the module to which the patches were applied.
func buildPatched(t *testing.T, patches ...string) string {
	t.Helper()
	module := copyModule(t)
	for _, patch := range patches {
		patch, err := filepath.Abs(patch)
		require.NoError(t, err)
		out, err := in(module, "git", "apply", "-C1", patch).CombinedOutput()
		require.NoError(t, err, "%s does not apply any more: %s", patch, out)
	}
	built := filepath.Join(module, "patched")
	out, err := in(module, "go", "build", "-o", built, "./cmd/shmdemo").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return built
}
