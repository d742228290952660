package main

import (
	"encoding/json"
	"flag"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/sweep"
)

// runSweep runs a sweep to its end, or skips the test where that is not permitted.
func runSweep(t *testing.T, name string, args ...string) (sweep.Result, int) {
	t.Helper()
	p := startWith(t, name, append([]string{"sweep", "--json", "--seed", "1"}, args...)...)
	status := p.wait()
	if status == exitNotHere {
		t.Skip(p.stderr.String())
	}
	var res sweep.Result
	require.NoError(t, json.Unmarshal(p.stdout.Bytes(), &res), "%s%s", p.stdout.String(), p.stderr.String())
	return res, status
}

// A few points of operations of every kind.
func TestSweep(t *testing.T) {
	ops := []string{"send", "send-cas", "send-wake", "send-pad", "send-full", "claim-abort", "batch", "detach", "poll", "wait", "format", "sender-send"}
	res, status := runSweep(t, program, "--sample", "9", "--pairs", "6", "--ops", strings.Join(ops, ","))
	require.Empty(t, res.Violations)
	require.True(t, res.OK)
	require.Equal(t, exitOK, status)
	require.Len(t, res.Operations, len(ops))
	require.Equal(t, 6, res.Pairs.Tried)
	require.Equal(t, 6, res.Pairs.Reached+res.Pairs.Missed)
	require.Positive(t, res.Pairs.Reached)
	require.False(t, res.Complete, "it is a sample")
	require.False(t, res.EndedEarly)
	require.Equal(t, 9*len(ops), res.All.Sampled)
	require.Equal(t, 9*len(ops), res.All.Tried)
	for _, o := range res.Operations {
		require.Contains(t, ops, o.Name)
		require.Greater(t, o.Points, 100, o.Name)
		require.Equal(t, 9, o.Sampled, o.Name)
		require.Equal(t, 9, o.Tried, o.Name)
		require.Equal(t, 9, o.Killed, o.Name)
		require.Equal(t, 3, o.Stopped, o.Name)
	}
}

// All the points of the shortest operation: that is complete, for this operation.
func TestSweepComplete(t *testing.T) {
	res, status := runSweep(t, program, "--ops", "try-full", "--no-pause")
	require.Empty(t, res.Violations)
	require.Equal(t, exitOK, status)
	require.True(t, res.OK)
	o := res.Operations[0]
	require.Equal(t, o.Points, o.Sampled)
	require.Equal(t, o.Points, o.Tried)
	require.Equal(t, o.Points, o.Killed+o.Dropped)
	require.Equal(t, o.Dropped == 0, res.Complete)
	require.Equal(t, o.Counts, res.All)
}

// An empty name is a mistake, not the wish to sweep everything, and a name twice is that name.
func TestSweepNames(t *testing.T) {
	for _, names := range []string{"", "send,", ",send", "send,,poll"} {
		p := start(t, "sweep", "--ops", names)
		require.Equal(t, exitUsage, p.wait(), names)
		require.Contains(t, p.stderr.String(), "--ops: an operation's name is empty in "+strconv.Quote(names))
		require.Empty(t, p.stdout.String())
	}
	res, status := runSweep(t, program, "--sample", "1", "--pairs", "0", "--ops", "try-full,format,try-full", "--ops", "format")
	require.Equal(t, exitOK, status)
	require.Len(t, res.Operations, 2)
}

func TestSweepUsage(t *testing.T) {
	for _, args := range []string{"--ops nonsense", "--sample -1", "--lanes -1", "--pairs -1", "--patience 1ms", "--give-up -1"} {
		p := start(t, append([]string{"sweep"}, strings.Fields(args)...)...)
		require.Equal(t, exitUsage, p.wait(), args)
		require.Contains(t, p.stderr.String(), strings.TrimPrefix(strings.Fields(args)[0], "--"), args)
	}
}

// The help explains every name in the JSON object that does not speak for itself.
func TestSweepHelp(t *testing.T) {
	p := start(t, "sweep", "--help")
	require.Equal(t, exitOK, p.wait())
	for _, v := range []any{sweep.Counts{}, sweep.Pairs{}, sweep.Result{}} {
		for f := range reflect.TypeOf(v).Fields() {
			name := f.Tag.Get("json")
			if name != "seed" && name != "elapsed_ns" && name != "violations" {
				require.Contains(t, p.stdout.String(), strconv.Quote(name))
			}
		}
	}
}

// Where ptrace is refused, or there is no tracer, the sweep says so once, what it needs, and no more.
func TestSweepNotPermitted(t *testing.T) {
	args := []string{"sweep", "--json", "--sample", "1", "--lanes", "2", "--seed", "1", "--ops", "send,poll"}
	const heading = "shmdemo: seed 1, 2 operations, 2 lanes\n"
	if runtime.GOARCH != "amd64" {
		p := start(t, args...)
		require.Equal(t, exitNotHere, p.wait())
		require.Equal(t, heading+"shmdemo: tracer: only linux/amd64 is supported\n", p.stderr.String())
		return
	}
	t.Setenv(envForbidden, program)
	p := startWith(t, "/proc/self/exe", args...)
	require.Equal(t, exitNotHere, p.wait())
	require.Empty(t, p.stdout.String())
	require.Equal(t, heading+
		"shmdemo: tracer: ptrace is not permitted here: it needs /proc/sys/kernel/yama/ptrace_scope 0 or 1 (or CAP_SYS_PTRACE), "+
		"a seccomp filter that lets ptrace pass (docker: --cap-add SYS_PTRACE), and no other tracer\n", p.stderr.String())
}

var eachMutant = flag.Bool("mutants.each", false, "TestSweepMutants: run every mutant, not nine of them")

// The sweep can fail. Each patch breaks the library in one way, in a copy of the module; the sweep has to say at
// which instruction of which operation that shows.
func TestSweepMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program once for each mutant")
	}
	// Those that the others resemble are run by default.
	byDefault := []string{"commit-before-fill", "hint-before-header", "living-are-skipped", "commit-wakes-nobody", "no-second-look",
		"release-before-copy", "attach-without-sweep", "magic-first", "path-before-content"}
	mutants := map[string]struct{ ops, flags, function, what string }{
		"commit-before-fill":   {"send", "", "ring.", "torn"},
		"commit-before-length": {"send", "", "ring.", "bytes"},
		"void-after-commit":    {"claim-part", "", "ring.", "a message of"},
		"hint-before-header":   {"claim-part", "", "ring.(*Producer).claim", "hint is ahead"},
		"pad-by-store":         {"send-pad", "--sample 400", "ring.(*Producer).claim", "the neighbour"},
		"dead-are-kept":        {"send", "", "ring.(*Producer)", "no progress"},
		"living-are-skipped":   {"send", "", "ring.(*Producer)", "taken away"},
		"commit-wakes-nobody":  {"send-wake", "", "ring.", "a wake was lost"},
		"abort-wakes-nobody":   {"abort-wake", "", "ring.", "a wake was lost"},
		"no-second-look":       {"wait", "--sample 150", "ring.(*Consumer).", "falls asleep, though there are messages"},
		"release-before-copy":  {"poll", "", "", "delivered"},
		"attach-without-sweep": {"attach", "--sample 12", "", "the others do not get on"},
		"magic-first":          {"format", "", "ring.Format", "cannot be used"},
		"path-before-content":  {"create", "", "", "never finished"},
		"silent-are-forgotten": {"sender-start", "--sample 24 --no-pause", "", "no end of the pipe"},
	}
	patches, err := filepath.Glob("internal/sweep/testdata/mutants/*.patch")
	require.NoError(t, err)
	require.Len(t, patches, len(mutants), "every mutant has its violation here")
	whole := copyModule(t)
	for _, patch := range patches {
		name := strings.TrimSuffix(filepath.Base(patch), ".patch")
		t.Run(name, func(t *testing.T) {
			m, ok := mutants[name]
			require.True(t, ok)
			if !*eachMutant && !slices.Contains(byDefault, name) {
				path, err := filepath.Abs(patch)
				require.NoError(t, err)
				out, err := in(whole, "git", "apply", "-C1", "--check", path).CombinedOutput()
				require.NoError(t, err, "the patch does not apply any more: %s", out)
				t.Skip("run with -mutants.each")
			}
			t.Parallel() // they wait for what does not come
			args := []string{"--ops", m.ops, "--pairs", "0", "--patience", "1s", "--give-up", "1", "--lanes", "1"}
			res, status := runSweep(t, buildMutant(t, patch), append(args, strings.Fields(m.flags)...)...)
			require.Equal(t, exitViolation, status)
			require.False(t, res.OK)
			require.True(t, slices.ContainsFunc(res.Violations, func(v sweep.Violation) bool {
				return v.Operation == m.ops && strings.Contains(v.Point, "ed at "+m.function) && strings.Contains(v.What, m.what)
			}), "%v", res.Violations)
			for _, v := range res.Violations {
				t.Log(v)
			}
		})
	}
}
