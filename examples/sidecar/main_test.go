package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The receiver is killed and stopped again and again while the sender sends, once until the ring is full, and once until
// the sender has ended. Every line is in the journal once, in order.
func TestReceiversComeAndGo(t *testing.T) {
	dir := t.TempDir()
	program, place := filepath.Join(dir, "sidecar"), filepath.Join(dir, "place")
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // for one that hangs
	defer cancel()
	start := func(role string) (cmd *exec.Cmd, stdin io.WriteCloser, stderr *bufio.Scanner) {
		cmd = exec.CommandContext(ctx, program, role, place)
		stdin, err := cmd.StdinPipe()
		require.NoError(t, err)
		pipe, err := cmd.StderrPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		stderr = bufio.NewScanner(pipe)
		if role == "receive" {
			require.True(t, stderr.Scan())
			require.Contains(t, stderr.Text(), "receiving")
		}
		return cmd, stdin, stderr
	}

	const lines, held = 100_000, 1000
	send, stdin, senderSays := start("send") // it waits for the first receiver
	receive, _, _ := start("receive")
	var written atomic.Int64
	release := make(chan struct{})
	go func() {
		for i := range lines {
			if i == lines-held {
				<-release
			}
			fmt.Fprintf(stdin, "line %d\n", i+1)
			written.Store(int64(i + 1))
		}
		stdin.Close()
	}()
	journal := filepath.Join(place, "journal")
	inJournal := func() int {
		b, err := os.ReadFile(journal)
		require.NoError(t, err)
		return bytes.Count(b, []byte{'\n'})
	}
	until := func(cond func() bool) {
		for !cond() {
			require.NoError(t, ctx.Err())
			time.Sleep(time.Millisecond)
		}
	}

	for i, n := range []int64{1000, 75_000, 80_000, 85_000, 90_000} {
		until(func() bool { return written.Load() >= n })
		if i%2 == 0 {
			require.NoError(t, receive.Process.Kill())
			require.ErrorContains(t, receive.Wait(), "killed")
		} else {
			require.NoError(t, receive.Process.Signal(syscall.SIGTERM))
			require.NoError(t, receive.Wait())
		}
		if i == 0 {
			require.True(t, senderSays.Scan())
			require.Contains(t, senderSays.Text(), "the ring is full")
		}
		receive, _, _ = start("receive")
	}
	until(func() bool { return inJournal() >= 1+lines-held })
	require.NoError(t, receive.Process.Kill())
	require.ErrorContains(t, receive.Wait(), "killed")
	close(release)
	for senderSays.Scan() {
		require.Contains(t, senderSays.Text(), "the ring is full")
	}
	require.NoError(t, send.Wait())

	receive, _, receiverSays := start("receive")
	require.True(t, receiverSays.Scan())
	require.Contains(t, receiverSays.Text(), fmt.Sprintf("the sender has ended behind message %d; ", lines))
	require.NoError(t, receive.Wait())
	b, err := os.ReadFile(journal)
	require.NoError(t, err)
	i := 0
	for line := range strings.Lines(string(b)) {
		if i == 0 {
			require.Equal(t, "0 a sender may come\n", line)
		} else {
			require.Equal(t, fmt.Sprintf("%d line %d\n", i, i), line)
		}
		i++
	}
	require.Equal(t, lines+1, i)

	// Another sender, of which nothing is taken for what came before.
	receive, _, receiverSays = start("receive")
	send, stdin, _ = start("send")
	fmt.Fprintln(stdin, "hello")
	stdin.Close()
	require.NoError(t, send.Wait())
	require.True(t, receiverSays.Scan())
	require.Contains(t, receiverSays.Text(), "the sender has ended behind message 1; 0 came again")
	require.NoError(t, receive.Wait())
	more, err := os.ReadFile(journal)
	require.NoError(t, err)
	require.Equal(t, string(b)+"0 a sender may come\n1 hello\n", string(more))

	left, err := os.ReadDir(place)
	require.NoError(t, err)
	require.Len(t, left, 1, "the journal and nothing else")
}
