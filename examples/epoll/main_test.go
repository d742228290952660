package main

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The timer, standard input and messages of two workers take turns on the main thread, until standard input says q.
func TestEverythingOnOneThread(t *testing.T) {
	program := filepath.Join(t.TempDir(), "epoll")
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // for one that hangs
	defer cancel()
	for end, want := range map[string]string{"q\n": `stdin: "q"`, "": `stdin: ""`} {
		cmd := exec.CommandContext(ctx, program)
		stdin, err := cmd.StdinPipe()
		require.NoError(t, err)
		stdout, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })

		var said strings.Builder
		lines := bufio.NewScanner(stdout)
		until := func(substrings ...string) {
			t.Helper()
			for len(substrings) > 0 {
				require.True(t, lines.Scan(), "ended before %q:\n%s", substrings, &said)
				fmt.Fprintln(&said, lines.Text())
				kept := substrings[:0]
				for _, s := range substrings {
					if !strings.Contains(lines.Text(), s) {
						kept = append(kept, s)
					}
				}
				substrings = kept
			}
		}
		until("timer: 2 workers", "worker-0: message 3 ", "worker-1: message 3 ")
		fmt.Fprintln(stdin, "hello")
		until(`stdin: "hello"`)
		fmt.Fprint(stdin, end)
		if end == "" {
			stdin.Close()
		}
		until(want)
		until("worker-0 has ended: <nil>", "worker-1 has ended: <nil>")
		require.False(t, lines.Scan(), "%q", lines.Text())
		require.NoError(t, cmd.Wait())

		threads := map[string]bool{}
		for _, m := range regexp.MustCompile(`(?m)^\[thread (\d+)\]`).FindAllStringSubmatch(said.String(), -1) {
			threads[m[1]] = true
		}
		require.Equal(t, map[string]bool{fmt.Sprint(cmd.Process.Pid): true}, threads, "the main thread, and no other")
	}
}
