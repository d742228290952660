package shm

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/hosttest"
)

func needBarriers(t *testing.T) {
	t.Helper()
	if !CanBarrier() {
		t.Skip("the kernel has no membarrier, or a filter forbids it")
	}
}

// Who joins twice has joined once. Where there are no barriers the answer comes all the same.
func TestJoinBarriers(t *testing.T) {
	answered := JoinBarriers()
	require.Equal(t, answered, JoinBarriers())
	<-answered
	require.Equal(t, CanBarrier(), BarriersJoined())
	<-JoinBarriers()
	require.Equal(t, CanBarrier(), BarriersJoined())
	if CanBarrier() {
		require.NoError(t, Barrier())
	} else {
		require.Error(t, Barrier())
	}
}

// The answer is there before anybody is told of it.
func TestProcessJoinBarriers(t *testing.T) {
	needBarriers(t)
	said := playBarriers(t, "join")
	require.Equal(t, "joined false, then true\n", said)
}

func TestBarrierDoesNotAllocate(t *testing.T) {
	needBarriers(t)
	<-JoinBarriers()
	var failed error
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if err := Barrier(); err != nil || !BarriersJoined() {
			failed = fmt.Errorf("joined %v: %w", BarriersJoined(), err)
		}
	}))
	require.NoError(t, failed)
}

// Under a filter that refuses the call there are no barriers, and everything says so.
func TestProcessBarriersForbidden(t *testing.T) {
	said := playBarriers(t, "forbidden")
	require.Equal(t, "can false, joined false, membarrier: operation not permitted\n", said)
}

// A filter that comes later is noticed by the call; what was joined stays so.
func TestProcessBarriersForbiddenLater(t *testing.T) {
	needBarriers(t)
	said := playBarriers(t, "later")
	require.Equal(t, "<nil>, then joined true, membarrier: operation not permitted\n", said)
}

func playBarriers(t *testing.T, part string) string {
	t.Helper()
	played.Store("barriers", true)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=barriers", argEnv+"="+part, "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	if why, ok := strings.CutPrefix(string(out), "skip: "); ok {
		t.Skip(why)
	}
	return string(out)
}

func roleBarriers() {
	forbid := func() {
		if err := hosttest.Forbid(unix.SYS_MEMBARRIER); err != nil {
			fmt.Println("skip: no filter can be set here:", err)
			os.Exit(0)
		}
	}
	switch os.Getenv(argEnv) {
	case "join":
		before := BarriersJoined()
		<-JoinBarriers()
		fmt.Printf("joined %v, then %v\n", before, BarriersJoined())
	case "forbidden":
		forbid()
		<-JoinBarriers()
		fmt.Printf("can %v, joined %v, %v\n", CanBarrier(), BarriersJoined(), Barrier())
	case "later":
		<-JoinBarriers()
		first := Barrier()
		forbid()
		fmt.Printf("%v, then joined %v, %v\n", first, BarriersJoined(), Barrier())
	}
}
