package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCompareCommits has the script compare commits of a module of its own, whose benchmarks always say the same.
func TestCompareCommits(t *testing.T) {
	if testing.Short() {
		t.Skip("builds some ten test binaries")
	}
	for _, tool := range []string{"bash", "git", "go", "awk"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("the script needs ", tool)
		}
	}
	dir := t.TempDir()
	script, err := os.ReadFile("compare-commits.sh")
	require.NoError(t, err)
	write := func(name, text string, mode os.FileMode) {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), mode))
	}
	git := func(args ...string) {
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=x", "-c", "user.email=x@example.org"}, args...)...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	commit := func(tag string, ns int, more string) {
		write("bench/a_test.go", fmt.Sprintf(`package a

import "testing"

func Benchmark(b *testing.B) {
	for _, name := range []string{"size=1", "size=10"} {
		b.Run(name, func(b *testing.B) {
			b.ReportMetric(%d, "p50-ns")
			b.ReportMetric(7, "same")
			b.ReportMetric(0, "ns/op")
			%s
		})
	}
}
`, ns, more), 0o600)
		git("add", ".")
		git("commit", "-q", "-m", tag)
		git("tag", tag)
	}
	git("init", "-q")
	write("go.mod", "module example.org/a\n\ngo 1.26\n", 0o600)
	write("bench/compare-commits.sh", string(script), 0o700)
	commit("one", 10, "")
	commit("two", 25, "")
	commit("failing", 10, `if name == "size=10" { b.Fatal("no") }`)
	commit("unbuildable", 10, "}")

	files := t.TempDir()
	run := func(env string, args ...string) (stdout, stderr string, exit int) {
		cmd := exec.Command(filepath.Join(dir, "bench/compare-commits.sh"), args...)
		cmd.Dir = t.TempDir() // from anywhere
		cmd.Env = append(os.Environ(), "BENCHTIME=1x", "OUT="+files, env)
		var out, errs strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		var status *exec.ExitError
		if err != nil && !errors.As(err, &status) {
			require.NoError(t, err)
		}
		left, err := exec.Command("git", "-C", dir, "worktree", "list").Output()
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(string(left), "\n"), "worktrees left behind")
		return out.String(), errs.String(), cmd.ProcessState.ExitCode()
	}
	stdout, stderr, exit := run("", "one", "two", ".", "3")
	require.Zero(t, exit, stderr)
	require.Equal(t, 2, strings.Count(stdout, "2.500 (2.500–2.500, n=3)   10 → 25"), stdout)
	require.NotContains(t, stdout, "same")
	require.Contains(t, stdout, "6 unknown", "there is no floor in that package")
	for _, name := range []string{"old.txt", "new.txt"} {
		text, err := os.ReadFile(filepath.Join(files, name))
		require.NoError(t, err)
		require.Equal(t, 3, strings.Count(string(text), "Benchmark/size=1-")+strings.Count(string(text), "Benchmark/size=1 "), "%s", text)
	}

	stdout, stderr, exit = run("", "two", "one", "./size=10$", "1")
	require.Zero(t, exit, stderr)
	require.Contains(t, stdout, "0.400")
	require.NotContains(t, stdout, "size=1\n")

	for _, c := range []struct {
		args string
		env  string
		exit int
		says string
	}{
		{args: "", exit: 2, says: "OLD NEW"},
		{args: "one", exit: 2, says: "OLD NEW"},
		{args: "one nosuch", exit: 2, says: "no commit nosuch"},
		{args: "one two . 0", exit: 2, says: "no number of pairs"},
		{args: "one two . x", exit: 2, says: "no number of pairs"},
		{args: "one two NoSuch", exit: 2, says: "no benchmark"},
		{args: "one two . 1", env: "STATE=close", exit: 2, says: "STATE"},
		{args: "one failing . 1", exit: 1, says: "failed"},
		{args: "one unbuildable", exit: 1, says: "does not build"},
	} {
		_, stderr, exit := run(c.env, strings.Fields(c.args)...)
		require.Equal(t, c.exit, exit, "%s: %s", c.args, stderr)
		require.Contains(t, stderr, c.says, c.args)
	}
}
