package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHello(t *testing.T) {
	program := filepath.Join(t.TempDir(), "hello")
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.Command(program)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), "%s", &stderr)
	got := regexp.MustCompile(`^hello 0 from process (\d+)\nhello 1 from process (\d+)\nhello 2 from process (\d+)\n$`).FindStringSubmatch(stdout.String())
	require.NotNil(t, got, "%s", &stdout)
	require.Equal(t, []string{got[1], got[1]}, got[2:])
	require.Contains(t, stderr.String(), "what a worker prints is logged pid="+got[1]+" worker=hello stream=stdout")
}
