package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The program is built and run: its stream has every record of every worker once and in order, those of the one
// that was killed included.
func TestLogs(t *testing.T) {
	program := filepath.Join(t.TempDir(), "logs")
	text, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", text)

	var stdout, stderr bytes.Buffer
	cmd := exec.Command(program)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), "%s", &stderr)

	last := map[string]int{}
	for line := range bytes.Lines(stdout.Bytes()) {
		var r struct {
			Msg, Worker string
			Job, PID    int
			Result      struct{ Size int }
		}
		require.NoError(t, json.Unmarshal(line, &r), "%s", line)
		if r.Msg != "done" {
			continue // the router's own
		}
		last[r.Worker]++
		require.Equal(t, last[r.Worker], r.Job, "%s", line)
		require.Equal(t, r.Job*r.Job, r.Result.Size, "%s", line)
		require.NotZero(t, r.PID)
	}
	require.Equal(t, 2000, last["red"])
	require.Equal(t, 2000, last["green"])
	require.GreaterOrEqual(t, last["blue"], 1000)
	require.Contains(t, stderr.String(), "red   logged 2000 records, 2000 are in the stream; its end: <nil>")
	require.Regexp(t, `blue  logged \d+ records, \d+ are in the stream; its end: .*killed`, stderr.String())
}
