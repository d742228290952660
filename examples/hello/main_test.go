package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
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
	require.Equal(t, "0 hello\n1 hello\n2 hello\n", stdout.String())
	require.Regexp(t, `INFO what a worker prints is logged pid=\d+ worker=hello stream=stdout`, stderr.String())
}
