package shm

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func newEvent(t *testing.T) *Event {
	t.Helper()
	e, err := NewEvent()
	require.NoError(t, err)
	t.Cleanup(func() { e.Close() })
	return e
}

func readable(t *testing.T, fd int) bool {
	t.Helper()
	return isReadable(uintptr(fd))
}

func TestEventCoalesces(t *testing.T) {
	noLeaks(t)
	e := newEvent(t)
	drained := func(want uint64) {
		t.Helper()
		n, err := e.Drain()
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	drained(0)
	require.False(t, readable(t, e.FD()))
	for range 3 {
		require.NoError(t, e.Ping())
	}
	require.True(t, readable(t, e.FD()))
	drained(3)
	require.False(t, readable(t, e.FD()))

	_, err := unix.Write(e.FD(), binary.NativeEndian.AppendUint64(nil, math.MaxUint64-1))
	require.NoError(t, err)
	require.NoError(t, e.Ping(), "a full counter is readable, which is all a ping wants")
	drained(math.MaxUint64 - 1)

	for _, cmd := range []struct{ get, want int }{{unix.F_GETFD, unix.FD_CLOEXEC}, {unix.F_GETFL, unix.O_NONBLOCK}} {
		flags, err := unix.FcntlInt(uintptr(e.FD()), cmd.get, 0)
		require.NoError(t, err)
		require.NotZero(t, flags&cmd.want)
	}
}

func TestEventWait(t *testing.T) {
	noLeaks(t)
	e := newEvent(t)
	require.NoError(t, e.Ping())
	require.NoError(t, e.Wait(), "already pinged")
	woken := make(chan error)
	for range 100 {
		go func() { woken <- e.Wait() }()
		require.NoError(t, e.Ping())
		require.NoError(t, <-woken)
	}
	n, err := e.Drain()
	require.NoError(t, err)
	require.Zero(t, n, "Wait drains")

	for range 3 {
		go func() { woken <- e.Wait() }()
	}
	require.NoError(t, e.Close())
	for range 3 {
		require.ErrorIs(t, <-woken, os.ErrClosed)
	}
}

func TestEventClosed(t *testing.T) {
	noLeaks(t)
	e := newEvent(t)
	require.NoError(t, e.Close())
	require.ErrorIs(t, e.Close(), os.ErrClosed)
	require.ErrorIs(t, e.Ping(), os.ErrClosed)
	require.ErrorIs(t, e.Wait(), os.ErrClosed)
	_, err := e.Drain()
	require.ErrorIs(t, err, os.ErrClosed)
	_, err = e.Dup()
	require.ErrorIs(t, err, os.ErrClosed)
	require.Equal(t, -1, e.FD())
}

// Pings race with Close, and the next eventfd gets the number: none of them may arrive there.
func TestEventPingAfterCloseReachesNobody(t *testing.T) {
	noLeaks(t)
	for range 200 {
		e := newEvent(t)
		var pingers sync.WaitGroup
		for range 2 {
			pingers.Go(func() {
				for {
					if err := e.Ping(); err != nil {
						if !errors.Is(err, os.ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		fd := e.FD()
		require.NoError(t, e.Close())
		next, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
		require.NoError(t, err)
		if next != fd {
			require.NoError(t, unix.Dup3(next, fd, unix.O_CLOEXEC))
			require.NoError(t, unix.Close(next))
		}
		pingers.Wait()
		require.False(t, readable(t, fd))
		require.NoError(t, unix.Close(fd))
	}
}

func TestEventAcrossProcesses(t *testing.T) {
	noLeaks(t)
	e := newEvent(t)
	dup, err := e.Dup()
	require.NoError(t, err)
	defer dup.Close()
	w := startWorker(t, "pinger", "", nil, dup)
	require.NoError(t, e.Wait())
	w.finish()
}

func rolePinger() {
	_, err := unix.Write(3, onePing)
	check(err)
}

func TestEventDoesNotAllocate(t *testing.T) {
	e := newEvent(t)
	require.Zero(t, testing.AllocsPerRun(100, func() { e.Ping() }), "ping")
	if !raceEnabled { // under -race, unix.Read shows its buffer to the detector, by way of the heap
		require.Zero(t, testing.AllocsPerRun(100, func() { e.Drain() }), "drain")
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { e.Ping(); e.Wait() }), "wait")
}
