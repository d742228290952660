package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "plugin")
	if err != nil {
		log.Fatal(err)
	}
	program = filepath.Join(dir, "plugin")
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	if err != nil {
		log.Fatalf("%v: %s", err, out)
	}
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

func start(t *testing.T, args ...string) (cmd *exec.Cmd, line func() string, stderr *bytes.Buffer) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // for one that hangs
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, program, args...)
	stderr = new(bytes.Buffer)
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	lines := bufio.NewScanner(stdout)
	return cmd, func() string { lines.Scan(); return lines.Text() }, stderr
}

func pluginPID(t *testing.T, line string) int {
	var pid int
	_, err := fmt.Sscanf(line, "plugin is process %d", &pid)
	require.NoError(t, err, "%q", line)
	return pid
}

func TestBothWaysBringTheSameBytes(t *testing.T) {
	cmd, line, stderr := start(t, "-mb", "64")
	want := make([]byte, 64<<20)
	fill(want, 0)
	sum := fmt.Sprintf("crc %08x", crc32.Checksum(want, castagnoli))
	pid := pluginPID(t, line())
	for _, how := range []string{"by calls", "through the ring"} {
		require.Equal(t, how+": begins", line(), "%s", stderr)
		got := line()
		require.Regexp(t, how+`: 64 MiB, \d+ MiB/s, crc`, got)
		require.Contains(t, got, sum)
		t.Log(got)
	}
	require.NoError(t, cmd.Wait(), "%s", stderr)
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
}

// A plugin that is killed while it sends is noticed by the host, whichever way it sends.
func TestPluginIsKilledInTheMidst(t *testing.T) {
	for way, want := range map[string]string{
		"calls": `by calls: after \d+ of 1000000 MiB: .*(EOF|closed|shut down|reset|broken)`,
		"ring":  `through the ring: after \d+ of 1000000 MiB: router: sender's process \d+ died`,
	} {
		t.Run(way, func(t *testing.T) {
			cmd, line, stderr := start(t, "-mb", "1000000", "-way", way)
			pid := pluginPID(t, line())
			require.Contains(t, line(), "begins")
			require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
			require.ErrorContains(t, cmd.Wait(), "exit status 1")
			require.Regexp(t, want, stderr.String())
		})
	}
}

// A host that is killed leaves no plugin.
func TestHostIsKilled(t *testing.T) {
	cmd, line, _ := start(t, "-mb", "1000000")
	pid := pluginPID(t, line())
	pidfd, err := unix.PidfdOpen(pid, 0)
	require.NoError(t, err)
	defer unix.Close(pidfd)
	require.Contains(t, line(), "begins")
	require.NoError(t, cmd.Process.Kill())
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 60_000)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 60_000)
	}
	require.NoError(t, err)
	require.Equal(t, 1, n, "the plugin lives")
}
