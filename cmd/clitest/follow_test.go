package clitest

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/ring"
)

// A main process that is started anew makes a new file of the old name: that one is shown from then on, and it is said.
func TestWatchFollowsTheName(t *testing.T) {
	path := segmentPath(t)
	startRole(t, "producer", path)
	w := startTerminal(t, 24, 80, nil, "top", "--interval=50ms", path)
	w.await("1 open")
	require.NoError(t, os.Remove(path))
	w.await("the name leads to nothing any more")
	consumer := startRole(t, "router", path)
	w.await(pid(consumer) + " (")
	require.Contains(t, strings.Join(w.screen(), "\n"), "alive")
	require.Contains(t, w.raw(), "another file has this name since the last look")
	w.typed("q")
	w.ended()
}

// What is gone at the last look is a failure, and what comes while all is watched is shown.
func TestStatFollows(t *testing.T) {
	path := segmentPath(t)
	startRole(t, "producer", path)
	dir := filepath.Dir(path)
	out := filepath.Join(t.TempDir(), "out")
	shmctl := func(args ...string) (cmd *exec.Cmd, text func() string) {
		f, err := os.Create(out)
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
		cmd = exec.Command(filepath.Join(programs, "shmctl"), args...)
		cmd.Stdout, cmd.Stderr = f, f
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		return cmd, func() string { b, _ := os.ReadFile(out); return string(b) }
	}
	await := func(text func() string, want string) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Contains(text(), want) }, patience, 5e6, "%q does not come", want)
	}

	cmd, text := shmctl("stat", "--watch=20ms", path)
	await(text, "1 open")
	require.NoError(t, os.Remove(path))
	await(text, "leads to nothing any more")
	cmd.Process.Signal(os.Interrupt)
	cmd.Wait()
	require.Equal(t, 3, cmd.ProcessState.ExitCode())

	other := filepath.Join(dir, "another")
	t.Cleanup(func() { os.Remove(other) })
	_, text = shmctl("--dir", dir, "stat", "--watch=20ms")
	producer := startRole(t, "producer", other)
	await(text, other+"  orphaned")
	require.NoError(t, os.Remove(other))
	await(text, "\n"+pid(producer)+":") // by its descriptor
}

// A dump that is ended by a signal does not look like a whole one.
func TestDumpThatIsInterrupted(t *testing.T) {
	path := segmentPath(t)
	r, err := ring.Create(path, ring.Options{Capacity: 1 << 20})
	require.NoError(t, err)
	defer r.Close()
	a, err := r.Attach()
	require.NoError(t, err)
	defer a.Close()
	for p := a.NewProducer(); err == nil; {
		err = p.TrySend([]byte("one of thousands"), 0)
	}
	require.ErrorIs(t, err, ring.ErrFull)
	cmd := exec.Command(filepath.Join(programs, "shmctl"), "dump", "--json", path)
	out, err := cmd.StdoutPipe() // holds less than all
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = io.ReadFull(out, make([]byte, 1000))
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Signal(unix.SIGTERM))
	require.ErrorContains(t, cmd.Wait(), "signal: terminated")
}
