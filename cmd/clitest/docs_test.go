package clitest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The commands in docs/operating.md run as they stand there, but for the names of the segments.
func TestCommandsInTheDocs(t *testing.T) {
	doc, err := os.ReadFile("../../docs/operating.md")
	require.NoError(t, err)
	path := segmentPath(t)
	startRole(t, "router", path)
	worker := startRole(t, "memfd", "")
	fd := ""
	links, _ := filepath.Glob("/proc/" + strconv.Itoa(worker.Process.Pid) + "/fd/*")
	for _, l := range links {
		if to, _ := os.Readlink(l); strings.HasPrefix(to, "/memfd:shmrouter") {
			fd = filepath.Base(l)
		}
	}
	names := strings.NewReplacer("/dev/shm/jobs", path, "4711:7", strconv.Itoa(worker.Process.Pid)+":"+fd, "--watch=1s", "--watch=10ms")
	ran := 0
	inside := false
	for l := range strings.Lines(string(doc)) {
		l = strings.TrimSpace(l)
		switch {
		case l == "```sh":
			inside = true
		case l == "```":
			inside = false
		case inside && strings.HasPrefix(l, "shmctl "):
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, filepath.Join(programs, "shmctl"), strings.Fields(names.Replace(l))[1:]...)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s\n%s", l, out)
			ran++
		}
	}
	require.Greater(t, ran, 10)
}
