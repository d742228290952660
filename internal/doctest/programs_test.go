package doctest

import (
	"bytes"
	"context"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	module   = "github.com/shmrouter/shmrouter"
	patience = 2 * time.Minute // for what takes a second
)

// Every Go block is a program that runs and prints what the text block behind it says, or says that it is a
// fragment, which is at least Go.
func TestPrograms(t *testing.T) {
	programs := 0
	for _, p := range pages(t) {
		if !p.shown() {
			continue
		}
		for i, b := range p.blocks {
			if language, _, _ := strings.Cut(b.label, " "); language != "go" {
				continue
			}
			formatted, err := format.Source([]byte(b.text))
			if !assert.NoError(t, err, "%s:%d", p.path, b.line) {
				continue
			}
			assert.Equal(t, string(formatted), b.text, "%s:%d: gofmt would change it", p.path, b.line)
			if b.label == "go fragment" {
				continue
			}
			assert.Equal(t, "go", b.label, "%s:%d: go or go fragment", p.path, b.line)
			if !assert.Regexp(t, regexp.MustCompile(`(?m)^package main$`), b.text, "%s:%d: a program, or ```go fragment", p.path, b.line) {
				continue
			}
			programs++
			if testing.Short() {
				continue
			}
			out := runProgram(t, b.text)
			if i+1 < len(p.blocks) && p.blocks[i+1].label == "text" && p.blocks[i+1].gap <= 1 {
				assert.Equal(t, p.blocks[i+1].text, out, "%s:%d: what the program before prints", p.path, p.blocks[i+1].line)
			}
		}
	}
	require.Positive(t, programs)
}

// runProgram does what a reader would: a module of one's own with this one as a requirement.
func runProgram(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	requirements, err := os.ReadFile(filepath.Join(root(t), "go.mod"))
	require.NoError(t, err)
	mod := strings.Replace(string(requirements), "module "+module, "module example.com/program", 1) +
		"\nrequire " + module + " v0.0.0\n\nreplace " + module + " => " + root(t) + "\n"
	sum, err := os.ReadFile(filepath.Join(root(t), "go.sum"))
	require.NoError(t, err)
	for name, content := range map[string]string{"go.mod": mod, "go.sum": string(sum), "main.go": source} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	build := command(t, dir, "go", "build", "-o", "program", ".")
	build.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "GOPROXY=off")
	said, err := build.CombinedOutput()
	require.NoError(t, err, "%s\n%s", said, source)
	run := command(t, dir, "./program")
	var stdout, stderr bytes.Buffer
	run.Stdout, run.Stderr = &stdout, &stderr
	require.NoError(t, run.Run(), "%s%s\n%s", &stdout, &stderr, source)
	return stdout.String()
}

func command(t *testing.T, dir, name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.WaitDelay = time.Second // children may hold the output open
	return cmd
}
