package router

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBackoff(t *testing.T) {
	p := Restart{When: RestartAlways, Delay: 100, MaxDelay: 1000, Healthy: 5000, Limit: 6}
	require.NoError(t, p.complete())
	unlucky := func() float64 { return 0 }
	b := backoff{Restart: p, chance: unlucky}
	for _, want := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		wait, again := b.next(0)
		require.True(t, again)
		require.Equal(t, want, wait)
	}
	_, again := b.next(4999)
	require.False(t, again, "six restarts without a healthy life")
	wait, again := b.next(5000)
	require.True(t, again, "a healthy life begins anew")
	require.Equal(t, time.Duration(100), wait)
	wait, _ = b.next(0)
	require.Equal(t, time.Duration(200), wait)

	b = backoff{Restart: p, chance: func() float64 { return 0.999 }}
	wait, _ = b.next(0)
	require.InDelta(t, 50, float64(wait), 1, "at most half is left out")

	p.Limit = -1
	b = backoff{Restart: p, chance: unlucky}
	for range 10_000 { // nor does anything overflow
		wait, again := b.next(0)
		require.True(t, again)
		require.LessOrEqual(t, wait, time.Duration(1000))
	}
}

func TestRestartDefaults(t *testing.T) {
	var p Restart
	require.NoError(t, p.complete())
	require.Equal(t, Restart{RestartNever, 100 * time.Millisecond, 10 * time.Second, 10 * time.Second, 10}, p)
	p = Restart{Delay: time.Minute}
	require.NoError(t, p.complete())
	require.Equal(t, time.Minute, p.MaxDelay)
	for _, bad := range []Restart{{When: 3}, {Delay: -1}, {MaxDelay: -1}, {Healthy: -1}} {
		require.ErrorIs(t, bad.complete(), ErrOption)
	}
	for when, want := range map[RestartWhen][2]bool{RestartNever: {false, false}, RestartOnFailure: {false, true}, RestartAlways: {true, true}} {
		p := Restart{When: when}
		require.Equal(t, want, [2]bool{p.wanted(true), p.wanted(false)}, when)
	}
	b := backoff{chance: func() float64 { return 0 }}
	require.NoError(t, b.complete())
	var total time.Duration
	for wait, again := b.next(0); again; wait, again = b.next(0) {
		total += wait
	}
	require.InDelta(t, 42.7, total.Seconds(), 0.1, "what the doc comment says")
}
