package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The demo can fail. Each patch in testdata/mutants breaks the code below it in one
// way, in a copy of the module; the stress run has to notice. Nothing in the
// shipped code knows of this.
func TestMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program once for each mutant")
	}
	expect := map[string]string{ // one violation that is certain to be among them
		"recovery-off":         "no progress",
		"recovery-late":        "a dead claim was skipped after",
		"commit-before-copy":   "torn",
		"commit-wakes-nobody":  "a wake is missing: half of",
		"room-wakes-nobody":    "a wake is missing: with the ring full",
		"monitor-wakes-nobody": "no progress",
		"living-are-skipped":   "worker",
	}
	patches, err := filepath.Glob("testdata/mutants/*.patch")
	require.NoError(t, err)
	require.Len(t, patches, len(expect), "every mutant has its violation here")
	for _, patch := range patches {
		name := strings.TrimSuffix(filepath.Base(patch), ".patch")
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of them wait for the watchdog
			require.Contains(t, expect, name)
			mutant := buildMutant(t, patch)
			var p *process
			status := exitOK
			for _, duration := range []string{"800ms", "3s", "10s"} { // on a busy machine little may happen in the first
				p = startWith(t, mutant, "--json", "--duration", duration, "--stop-every", "0", "--patience", "1500ms")
				if status = p.wait(); status != exitOK {
					break
				}
			}
			require.Equal(t, exitViolation, status, "%s", p.stdout.String())
			res := p.result()
			require.False(t, res.OK)
			require.Contains(t, strings.Join(res.Violations, "\n"), expect[name])
		})
	}
}

// buildMutant builds the program from a copy of the module with a patch.
func buildMutant(t *testing.T, patch string) string {
	t.Helper()
	patch, err := filepath.Abs(patch)
	require.NoError(t, err)
	module := copyModule(t)
	out, err := in(module, "git", "apply", "-C1", patch).CombinedOutput()
	require.NoError(t, err, "the patch does not apply any more: %s", out)
	mutant := filepath.Join(module, "mutant")
	// Without paths, what the patch does not touch is built once for all mutants.
	out, err = in(module, "go", "build", "-trimpath", "-ldflags=-w", "-o", mutant, "./cmd/shmdemo").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return mutant
}

func in(dir, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir), "GOWORK=off")
	return cmd
}

// copyModule copies what the program is built from.
func copyModule(t *testing.T) string {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	list := exec.Command("go", "list", "-deps", "-f", `{{if and .Module .Module.Main}}{{range .GoFiles}}{{$.Dir}}/{{.}}
{{end}}{{range .SFiles}}{{$.Dir}}/{{.}}
{{end}}{{range .EmbedFiles}}{{$.Dir}}/{{.}}
{{end}}{{end}}`, ".")
	out, err := list.Output()
	require.NoError(t, err)
	files := strings.Fields(string(bytes.TrimSpace(out)))
	require.NotEmpty(t, files)
	dir := t.TempDir()
	for _, file := range append(files, filepath.Join(root, "go.mod"), filepath.Join(root, "go.sum")) {
		rel, err := filepath.Rel(root, file)
		require.NoError(t, err)
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		to := filepath.Join(dir, rel)
		require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
		require.NoError(t, os.WriteFile(to, b, 0o644))
	}
	return dir
}
