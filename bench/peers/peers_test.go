package main

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/bench"
)

func TestMain(m *testing.M) {
	addPeer(&peer{name: "cheat", title: "cheat", open: openCheat})
	registerTasks()
	bench.Main()
	os.Exit(m.Run())
}

func newTestStage(t *testing.T) *stage {
	s, err := newStage(t.Context())
	require.NoError(t, err)
	t.Cleanup(s.close)
	return s
}

// TestEachPeerDelivers: what was sent arrives, all of it, whole, in order, both
// ways, from one sender and from several.
func TestEachPeerDelivers(t *testing.T) {
	for _, name := range peerNames() {
		if name == "cheat" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			s := newTestStage(t)
			for _, sp := range []spec{
				{kind: kindStream, size: 64},
				{kind: kindStream, size: 5000},
				{kind: kindStream, size: 64, batch: 32},
				{kind: kindTrip, size: 64},
				{kind: kindPaced, rate: 1e4},
				{kind: kindStream, size: 200, senders: 3},
			} {
				sp.via = name
				sp = sp.withDefaults()
				sd, err := s.side(sp)
				require.NoError(t, err)
				for _, verify := range []bool{true, false} {
					n := uint64(203)
					if sp.kind == kindTrip {
						n = 50
					}
					m, err := sd.run(n, verify)
					require.NoError(t, err, "%+v", sp)
					require.Positive(t, m["ns"], "%+v", sp)
				}
			}
		})
	}
}

// TestRingTasks are those that have one half of the ring each.
func TestRingTasks(t *testing.T) {
	s := newTestStage(t)
	for _, sp := range []spec{
		{kind: kindClaims, senders: 2, place: bench.Alternate},
		{kind: kindBurst},
		{kind: kindCrowd, senders: 5, seconds: 0.02},
		{kind: kindTrip, wait: waitThrift, place: bench.Together},
		{kind: kindPaced, wait: waitLatency, rate: 1e3},
	} {
		sp.via = "ring"
		sp = sp.withDefaults()
		sd, err := s.side(sp)
		require.NoError(t, err)
		for _, verify := range []bool{true, false} {
			m, err := sd.run(20, verify && sp.kind != kindCrowd)
			require.NoError(t, err, "%+v", sp)
			require.Positive(t, m["ns"], "%+v", sp)
		}
	}
}

// TestWalks go all the way, and the processes that a next contest needs stay.
func TestWalks(t *testing.T) {
	s := newTestStage(t)
	for _, sp := range []spec{
		{kind: kindStream, via: viaRouter},
		{kind: kindStream, via: viaFunnel},
		{kind: kindPaced, via: viaRouter, rate: 1e4},
		{kind: kindPaced, via: viaRouter, rate: 1e4, wait: waitLatency},
		{kind: kindPaced, via: viaFunnel, rate: 1e4},
	} {
		sp = sp.withDefaults()
		sd, err := s.side(sp)
		require.NoError(t, err)
		for _, verify := range []bool{true, false} {
			m, err := sd.run(50, verify)
			require.NoError(t, err, "%+v", sp)
			require.Positive(t, m["ns"], "%+v", sp)
		}
	}
	require.Len(t, s.ways, 3)
	s.clear([]spec{{via: viaFunnel, senders: 1}})
	require.Len(t, s.ways, 1)
	s.forget(spec{via: viaFunnel, senders: 1})
	require.Empty(t, s.ways)
}

// TestUpperBound: where smaller is better of an absolute figure, too.
func TestUpperBound(t *testing.T) {
	m := metricReport{Absolute: true, Most: true, Must: 5, Goal: 1, States: []summary{{Ratio: bench.Spread{P50: 4, N: 1}}}}
	require.Equal(t, "must", m.verdict())
	require.Equal(t, "≤ 5", m.bound(m.Must))
	m.States[0].Ratio.P50 = 6
	require.Equal(t, "**missed by 20 %**", m.verdict())
}

func TestCPrograms(t *testing.T) {
	s := newTestStage(t)
	if s.noC != nil {
		t.Skip(s.noC)
	}
	for _, via := range []string{agrona, slots} {
		for _, sp := range []spec{
			{kind: kindStream, gather: true},
			{kind: kindStream, senders: 3},
			{kind: kindTrip},
			{kind: kindTrip, asleep: true},
			{kind: kindTrip, asleep: true, place: bench.Together},
			{kind: kindClaims, senders: 2},
			{kind: kindBurst},
		} {
			runC(t, s, via, sp)
		}
	}
	for _, job := range []string{"lines", "record", "futex", "unix", "pipe"} {
		runC(t, s, floors, spec{kind: kindTrip, cjob: job})
	}
	t.Run("garbled", func(t *testing.T) {
		for _, kind := range []string{kindStream, kindTrip, kindClaims, kindBurst} {
			sp := spec{kind: kind, via: agrona}.withDefaults()
			sd, err := s.side(sp)
			if errors.Is(err, errSkipped) {
				continue
			}
			require.NoError(t, err)
			sd.(*cSide).garble = true
			_, err = sd.run(64, false)
			require.NoError(t, err, "what nobody looks at")
			_, err = sd.run(64, true)
			require.ErrorContains(t, err, "wrong messages", kind)
		}
	})
	t.Run("fails", func(t *testing.T) {
		_, err := s.built.run("agrona", "nonsense", nil)
		require.ErrorContains(t, err, "no such job")
	})
}

func runC(t *testing.T, s *stage, via string, sp spec) {
	sp.via = via
	sp = sp.withDefaults()
	sd, err := s.side(sp)
	if errors.Is(err, errSkipped) {
		return // there is one processor
	}
	require.NoError(t, err)
	for _, verify := range []bool{true, false} {
		m, err := sd.run(64, verify)
		require.NoError(t, err, "%+v", sp)
		require.Positive(t, m["ns"], "%+v", sp)
	}
}

// A cheat is a unix socket that does something else with the message in the
// middle: what it does is in the size, which every test chooses.
type cheat struct {
	link
	size int
	sent int
}

const (
	cheatAt = 20

	cheatDrops   = 101
	cheatRepeats = 102
	cheatGarbles = 103
	cheatCuts    = 104
	cheatSwaps   = 105
)

func openCheat(p *bench.Post, e end) (link, error) {
	l, err := openUnix(p, e)
	return &cheat{link: l, size: e.size}, err
}

func (c *cheat) send(b []byte) error {
	if c.sent++; c.sent != cheatAt {
		return c.link.send(b)
	}
	switch c.size {
	case cheatDrops:
		return nil
	case cheatRepeats:
		return errors.Join(c.link.send(b), c.link.send(b))
	case cheatGarbles:
		b = bytes.Clone(b)
		b[50] ^= 4
	case cheatCuts:
		b = b[:len(b)-1]
	case cheatSwaps:
		later := bytes.Clone(b)
		put(later, 0, cheatAt)
		put(b, 0, cheatAt-1)
		return errors.Join(c.link.send(later), c.link.send(b))
	}
	return c.link.send(b)
}

// TestCheatsAreFound: a peer that loses, doubles, changes, cuts or reorders
// messages ends the contest.
func TestCheatsAreFound(t *testing.T) {
	for _, size := range []int{cheatDrops, cheatRepeats, cheatGarbles, cheatCuts, cheatSwaps} {
		for _, verify := range []bool{true, false} {
			if size == cheatGarbles && !verify {
				continue // content is compared in a run of its own
			}
			s := newTestStage(t)
			sd, err := s.side(spec{kind: kindStream, via: "cheat", size: size}.withDefaults())
			require.NoError(t, err)
			_, err = sd.run(40, verify)
			require.ErrorIs(t, err, bench.ErrBadMessage, "%d %v", size, verify)
		}
	}
}

func TestSequence(t *testing.T) {
	b := make([]byte, 64)
	put(b, 0, 0)
	one := newSequence(args{Size: 64}, 1)
	require.NoError(t, one.check(b))
	require.ErrorIs(t, one.check(b), bench.ErrBadMessage)
	require.ErrorIs(t, one.check(b[:63]), bench.ErrBadMessage)
	require.NoError(t, one.complete(1))
	require.ErrorIs(t, one.complete(2), bench.ErrBadMessage)

	two := newSequence(args{Size: 64}, 2)
	require.NoError(t, two.check(b))
	put(b, 1, 0)
	require.NoError(t, two.check(b))
	put(b, 2, 0)
	require.ErrorIs(t, two.check(b), bench.ErrBadMessage)
	require.NoError(t, two.complete(2))
	require.ErrorIs(t, two.complete(3), bench.ErrBadMessage)
}
