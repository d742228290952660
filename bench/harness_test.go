package bench

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// That the harness finds what is wrong: a benchmark that cannot fail shows
// nothing.

func message(size, sender int, number uint64) []byte {
	b := make([]byte, size)
	stamp(b, sender, number)
	fill(b)
	return b
}

func TestVerifier(t *testing.T) {
	const size = 24
	garbled := message(size, 0, 1)
	garbled[size-1] ^= 1
	for name, second := range map[string][]byte{
		"missing":        message(size, 0, 2),
		"repeated":       message(size, 0, 0),
		"garbled":        garbled,
		"longer":         message(size+8, 0, 1),
		"shorter":        message(size-8, 0, 1),
		"empty":          nil,
		"unknown sender": message(size, 2, 0),
	} {
		t.Run(name, func(t *testing.T) {
			v := newVerifier(size, 2, true)
			require.NoError(t, v.check(message(size, 0, 0)))
			require.ErrorIs(t, v.check(second), ErrBadMessage)
		})
	}
	t.Run("incomplete", func(t *testing.T) {
		v := newVerifier(size, 2, true)
		require.NoError(t, v.check(message(size, 0, 0)))
		require.NoError(t, v.check(message(size, 1, 0)))
		require.NoError(t, v.complete(func(s int) uint64 { return share(2, s, 2) }))
		require.ErrorIs(t, v.complete(func(s int) uint64 { return share(3, s, 2) }), ErrBadMessage)
	})
}

func TestContentOfEverySize(t *testing.T) {
	for size := MinSize; size < 3*MinSize; size++ {
		b := message(size, 3, 1<<40)
		require.True(t, intact(b), "%d bytes", size)
		for i := range b {
			b[i] ^= 0x80
			require.False(t, intact(b), "%d bytes, byte %d", size, i)
			b[i] ^= 0x80
		}
	}
}

func TestFrames(t *testing.T) {
	var stream bytes.Buffer
	out := &frameOutlet{w: &stream}
	for i := range uint64(3) {
		require.NoError(t, out.send(message(100, 0, i)))
	}
	whole := bytes.Clone(stream.Bytes())
	require.Len(t, whole, 3*104)
	require.NoError(t, newFrameInlet(&stream).receive(3, newVerifier(100, 1, true)))

	cut := newFrameInlet(bytes.NewReader(whole[:len(whole)-1]))
	require.Error(t, cut.receive(3, newVerifier(100, 1, true)), "the last frame is cut off")
	whole[3] = 0xff // a length that no buffer has
	require.ErrorIs(t, newFrameInlet(bytes.NewReader(whole)).receive(3, newVerifier(100, 1, true)), ErrBadMessage)
}

func TestRecorder(t *testing.T) {
	r := newRecorder()
	for ns := range int64(1000) {
		r.add(ns + 1)
	}
	r.add(-5)        // clocks of two processors
	r.add(1 << 62)   // beyond what is kept apart
	l := r.latency() // within 0.1 %
	require.EqualValues(t, 1002, l.N)
	require.InDelta(t, 500, l.P50, 2)
	require.InDelta(t, 990, l.P99, 2)
	require.InEpsilon(t, longest, l.Max, 0.001)
}

func TestSpread(t *testing.T) {
	require.Equal(t, Spread{N: 3, P50: 2, Min: 1, Max: 9, P25: 1.5, P75: 5.5}, spreadOf([]float64{9, 1, 2}))
	require.Equal(t, Spread{N: 4, P50: 3, Min: 1, Max: 9, P25: 1.75, P75: 5.25}, spreadOf([]float64{9, 1, 2, 4}))
	require.Equal(t, Spread{N: 1, P50: 7, Min: 7, Max: 7, P25: 7, P75: 7}, spreadOf([]float64{7}))
	require.Equal(t, "3 (1–9, n=4)", spreadOf([]float64{9, 1, 2, 4}).String())
}

func TestShare(t *testing.T) {
	for n := range uint64(20) {
		var sum uint64
		for s := range 4 {
			sum += share(n, s, 4)
		}
		require.Equal(t, n, sum)
	}
}

// TestFaults has a sender cheat, on every transport, and with real processes.
func TestFaults(t *testing.T) {
	for _, via := range []Transport{Ring, Pipe, Unix, Seqpacket} {
		for _, fault := range []string{"drop", "repeat", "garble", "stretch"} {
			t.Run(string(via)+"/"+fault, func(t *testing.T) {
				c, err := StartCrew(CrewOptions{Senders: 2})
				require.NoError(t, err)
				defer c.Close()
				o := Order{Via: via, N: 1000, Size: 100, Verify: true}
				r, err := c.Stream(o)
				require.NoError(t, err, "without a fault")
				require.EqualValues(t, 1000, r.N)
				o.Fault = fault
				_, err = c.Stream(o)
				require.ErrorIs(t, err, ErrBadMessage)
			})
		}
	}
}

// The last message is one that no later number gives away.
func TestMissingLastMessage(t *testing.T) {
	for _, via := range []Transport{Ring, Pipe, Unix, Seqpacket} {
		t.Run(string(via), func(t *testing.T) {
			c, err := StartCrew(CrewOptions{})
			require.NoError(t, err)
			defer c.Close()
			c.patience = 50 * time.Millisecond
			_, err = c.Stream(Order{Via: via, N: 1, Size: 64, Fault: "drop"})
			require.ErrorIs(t, err, ErrBadMessage)
		})
	}
	t.Run("walk", func(t *testing.T) {
		w, err := StartWalk(1)
		require.NoError(t, err)
		defer func() { require.NoError(t, w.Close()) }()
		w.patience = 50 * time.Millisecond
		_, err = w.Run(Order{N: 1, Size: 64, Fault: "drop"})
		require.ErrorIs(t, err, ErrBadMessage)
	})
}

// TestActorDies: a crew says so at once, and does not wait.
func TestActorDies(t *testing.T) {
	for _, who := range []string{"sender", "receiver"} {
		t.Run(who, func(t *testing.T) {
			c, err := StartCrew(CrewOptions{})
			require.NoError(t, err)
			defer c.Close()
			p := c.receiver
			if who == "sender" {
				p = c.senders[0]
			}
			require.NoError(t, p.cmd.Process.Kill())
			_, err = c.Stream(Order{Via: Ring, N: 1000, Size: 64}) // a socket would tell the other side
			require.ErrorContains(t, err, who)
		})
	}
}

func TestCrewOfMany(t *testing.T) {
	for _, via := range []Transport{Ring, Pipe, Unix, Seqpacket} {
		c, err := StartCrew(CrewOptions{Senders: 4, Pinned: true})
		require.NoError(t, err)
		for range 2 { // the links are kept from run to run
			r, err := c.Stream(Order{Via: via, N: 4001, Size: 1000, Verify: true})
			require.NoError(t, err, via)
			require.Positive(t, r.Elapsed)
		}
		r, err := c.RoundTrip(Order{Via: via, N: 50, Size: 1000, Verify: true})
		require.NoError(t, err, via)
		require.EqualValues(t, 50, r.Latency.N)
		c.Close()
	}
	_, err := StartCrew(CrewOptions{Senders: MaxSenders + 1})
	require.Error(t, err)
}

func TestWalk(t *testing.T) {
	w, err := StartWalk(3)
	require.NoError(t, err)
	for _, o := range []Order{{N: 1000, Size: 64, Verify: true}, {N: 1, Size: 64}, {N: 100, Size: 64, Rate: 10_000}} {
		r, err := w.Run(o)
		require.NoError(t, err)
		require.Positive(t, r.Elapsed)
		if o.Rate > 0 {
			require.EqualValues(t, o.N, r.Latency.N)
		}
	}
	require.NoError(t, w.Close())
}

func TestCompare(t *testing.T) {
	c, err := StartCrew(CrewOptions{})
	require.NoError(t, err)
	defer c.Close()
	b, err := c.NewBout(Contest{RoundTrip: true, Size: 64, Wait: Sleep, Ours: Ring, Theirs: Unix}, time.Millisecond)
	require.NoError(t, err)
	for range 3 {
		require.NoError(t, b.Pair())
	}
	got := b.Comparison()
	require.Equal(t, 3, got.Ratio.N)
	require.Positive(t, got.Ratio.Min)
	require.Equal(t, 9, got.Floor.N)
}

func TestHostLine(t *testing.T) {
	require.Regexp(t, `.+, \d+ processors?.*, Linux \d.+, go1\.`, HostLine())
}

func TestQuota(t *testing.T) {
	if q := Quota(); q > 0 {
		require.Contains(t, HostLine(), "quota")
	}
}

// TestNoDescriptorsLeft: a crew and a walk leave this process as they found it.
func TestNoDescriptorsLeft(t *testing.T) {
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(entries)
	}
	once := func() {
		c, err := StartCrew(CrewOptions{Senders: 2})
		require.NoError(t, err)
		_, err = c.Stream(Order{Via: Ring, N: 10, Size: 64})
		require.NoError(t, err)
		c.Close()
		w, err := StartWalk(2)
		require.NoError(t, err)
		_, err = w.Run(Order{N: 10, Size: 64})
		require.NoError(t, err)
		require.NoError(t, w.Close())
	}
	once()
	before := count()
	for range 5 {
		once()
	}
	require.Eventually(t, func() bool { return count() <= before }, 5*time.Second, 10*time.Millisecond)
}
