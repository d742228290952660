package ringtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Sleepers counts the threads of a process that sleep at a word that processes
// share: what the runtime sleeps at is private.
func Sleepers(t testing.TB, pid int) (n int) {
	t.Helper()
	if os.Getenv("SHMROUTER_EMULATED") != "" {
		t.Skip("SHMROUTER_EMULATED is set: the kernel shows the emulator's system calls")
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	require.NoError(t, err)
	readable := false
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		readable = readable || err == nil
		if f := strings.Fields(string(text)); len(f) > 2 && f[0] == strconv.Itoa(syscall.SYS_FUTEX) && f[2] == "0x9" {
			n++
		}
	}
	if !readable {
		t.Skip("the kernel does not show what threads do")
	}
	return n
}
