package shm

import (
	"io/fs"
	"math"
	"os"
	"runtime/pprof"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestProcessStart(t *testing.T) {
	own, err := ProcessStart(os.Getpid())
	require.NoError(t, err)
	require.NotZero(t, own)
	again, err := ProcessStart(os.Getpid())
	require.NoError(t, err)
	require.Equal(t, own, again)
	for _, pid := range []int{-1, math.MaxInt32} {
		_, err = ProcessStart(pid)
		requireOnly(t, err, fs.ErrNotExist)
	}
}

func TestParseStart(t *testing.T) {
	const tail = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 12345 20 21\n"
	for _, comm := range []string{"a", "", "a b", "a) R 1 2 3", ")", "))) S (", "(", "\n"} {
		start, err := parseStart([]byte("77 (" + comm + ")" + tail))
		require.NoError(t, err)
		require.Equal(t, uint64(12345), start, comm)
	}
	for _, bad := range []string{"", ")", "1 (a) S 1 2", "1 (a" + tail[:20], "1 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x 20"} {
		_, err := parseStart([]byte(bad))
		require.Error(t, err, bad)
	}
}

func TestProcessStartOfOddName(t *testing.T) {
	noLeaks(t)
	before, err := ProcessStart(os.Getpid())
	require.NoError(t, err)
	w := startWorker(t, "renamed", "", nil)
	w.expect("renamed")
	start, err := ProcessStart(w.pid())
	require.NoError(t, err)
	require.GreaterOrEqual(t, start, before)
	w.finish()
}

func roleRenamed() {
	check(os.WriteFile("/proc/self/comm", []byte("x) R 1 (y) 9"), 0))
	say("renamed")
	hear()
}

func TestPIDNamespace(t *testing.T) {
	st, err := os.Stat("/proc/self/ns/pid")
	require.NoError(t, err)
	require.NotNil(t, st)
	require.NotZero(t, PIDNamespace())
	require.Equal(t, PIDNamespace(), PIDNamespace())
}

func TestWatchDeath(t *testing.T) {
	noLeaks(t)
	s := newSegment(t, Memfd)
	_, files := handOver(t, s)
	w := startWorker(t, "holder", "", nil, files...)
	w.expect("holding")
	start, err := ProcessStart(w.pid())
	require.NoError(t, err)

	threads := pprof.Lookup("threadcreate").Count()
	var stopped atomic.Int32
	var stops []func()
	for range 20 {
		stop, err := WatchDeath(w.pid(), start, func() { stopped.Add(1) })
		require.NoError(t, err)
		stops = append(stops, stop)
	}
	died := make(chan struct{}, 2)
	given := make(chan func(), 1)
	stop, err := WatchDeath(w.pid(), start, func() { (<-given)(); died <- struct{}{} })
	require.NoError(t, err)
	given <- stop
	require.Less(t, pprof.Lookup("threadcreate").Count()-threads, 10, "one thread for each watch")
	for _, stop := range stops {
		stop()
		stop()
	}
	w.signalKill()
	<-died // while nobody has waited for it yet
	stop()

	late := make(chan struct{})
	_, err = WatchDeath(w.pid(), start, func() { close(late) })
	require.NoError(t, err, "a zombie still has its pid")
	<-late
	require.Zero(t, stopped.Load(), "stopped before it died")
	require.Empty(t, died, "told twice")

	w.kill()
	_, err = WatchDeath(w.pid(), start, func() { t.Error("somebody else died") })
	require.ErrorIs(t, err, os.ErrProcessDone)
}

func TestWatchDeathRefuses(t *testing.T) {
	noLeaks(t)
	never := func() { t.Error("nobody died") }
	start, err := ProcessStart(os.Getpid())
	require.NoError(t, err)
	_, err = WatchDeath(os.Getpid(), start+1, never)
	requireOnly(t, err, os.ErrProcessDone)
	_, err = WatchDeath(math.MaxInt32, 0, never)
	requireOnly(t, err, os.ErrProcessDone)
	_, err = WatchDeath(-1, 0, never)
	require.ErrorIs(t, err, unix.EINVAL)
	stop, err := WatchDeath(os.Getpid(), 0, never)
	require.NoError(t, err)
	stop()
}
