package main

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGLibDelivers(t *testing.T) {
	if err := loadGLib(); err != nil {
		t.Skip(err)
	}
	program := filepath.Join(t.TempDir(), "glib")
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // for one that hangs
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), "%s%s", &stdout, &stderr)

	require.Contains(t, stdout.String(), "timer: 2 workers")
	for _, worker := range []string{"worker-0", "worker-1"} {
		next := 1
		for _, m := range regexp.MustCompile(worker+`: message (\d+) `).FindAllStringSubmatch(stdout.String(), -1) {
			require.Equal(t, strconv.Itoa(next), m[1])
			next++
		}
		require.Equal(t, 11, next, "%s", &stdout)
		require.Contains(t, stdout.String(), worker+" has ended: <nil>")
	}
	threads := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\[thread (\d+)\]`).FindAllStringSubmatch(stdout.String(), -1) {
		threads[m[1]] = true
	}
	require.Equal(t, map[string]bool{strconv.Itoa(cmd.Process.Pid): true}, threads, "the main thread, and no other")
}
