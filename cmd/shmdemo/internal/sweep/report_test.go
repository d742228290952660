package sweep

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/tracer"
)

func TestResult(t *testing.T) {
	whole := Counts{Points: 10, Sampled: 10, Tried: 10, Killed: 10, Stopped: 10}
	for _, c := range []struct {
		name         string
		cfg          Config
		counts       []Counts
		pairs        Pairs
		bad          int
		early        bool
		ok, complete bool
		want         string // in the table
	}{
		{name: "whole", counts: []Counts{whole, whole}, ok: true, complete: true, want: "OK: nothing lost, torn or repeated, and everybody got on (0s, seed 3)"},
		{name: "without stops", cfg: Config{NoPause: true}, counts: []Counts{{Points: 10, Sampled: 10, Tried: 10, Killed: 10}}, ok: true, complete: true},
		{name: "stops are missing", counts: []Counts{{Points: 10, Sampled: 10, Tried: 10, Killed: 10, Stopped: 9}}, complete: true, want: "\nFAILED, after 0s; to try again: --seed 3"},
		{name: "a sample", cfg: Config{Sample: 6}, counts: []Counts{whole, {Points: 10, Sampled: 6, Tried: 6, Killed: 6, Stopped: 2}}, ok: true,
			want: "everybody got on, in a sample of 16 of 20 points (0s, seed 3)"},
		{name: "a kill of the sample is missing", cfg: Config{Sample: 6}, counts: []Counts{{Points: 10, Sampled: 6, Tried: 6, Killed: 5, Stopped: 2}}},
		{name: "a kill is missing", counts: []Counts{whole, {Points: 10, Sampled: 10, Tried: 10, Killed: 9, Stopped: 10}}, want: "ok, 9 of 10 points"},
		{name: "dropped", counts: []Counts{{Points: 10, Sampled: 10, Tried: 10, Killed: 9, Dropped: 1, Stopped: 10}}, ok: true, want: "everybody got on, in 9 of 10 points"},
		{name: "nothing recorded", counts: []Counts{whole, {}}},
		{name: "ended early", counts: []Counts{{Points: 10, Sampled: 10, Tried: 4, Killed: 4}}, early: true, want: "FAILED: ended early, after 0s"},
		{name: "given up", cfg: Config{GiveUp: 2}, counts: []Counts{whole}, bad: 2, complete: true, want: "FAILED: ended early"},
		{name: "pairs", counts: []Counts{whole}, pairs: Pairs{Tried: 40, Reached: 30, Missed: 10}, ok: true, complete: true, want: "30 pairs, 10 missed"},
		{name: "too few pairs", counts: []Counts{whole}, pairs: Pairs{Tried: 40, Reached: 29, Missed: 11}, complete: true,
			want: "VIOLATION: pairs, 40 tries: both victims came to their points in 29 of them, and at least 30 are required"},
		{name: "pairs too few to tell", counts: []Counts{whole}, pairs: Pairs{Tried: 39, Reached: 1, Missed: 38}, ok: true, complete: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Seed = 3
			s := &sweep{cfg: c.cfg, began: time.Now(), pairs: c.pairs, bad: c.bad}
			var points, tried int
			for _, n := range c.counts {
				s.ops = append(s.ops, &account{op: operations[0], Counts: n})
				points, tried = points+n.Points, tried+n.Tried
			}
			r := s.result(!c.early)
			require.Equal(t, c.ok, r.OK)
			require.Equal(t, c.complete, r.Complete)
			require.Equal(t, c.early || c.bad > 0, r.EndedEarly)
			require.Equal(t, points, r.All.Points)
			require.Equal(t, tried, r.All.Tried)
			var out strings.Builder
			require.NoError(t, r.Print(&out))
			require.Contains(t, out.String(), c.want)
		})
	}
}

// The names in the JSON object are documented.
func TestResultNames(t *testing.T) {
	text, err := json.Marshal(&Result{Operations: []Operation{{Name: "send", Counts: Counts{Points: 9, Sampled: 8, Tried: 7, Killed: 6, Dropped: 1, Stopped: 5, Recovered: 4}}},
		Pairs: Pairs{3, 2, 1, 2}, Violations: []Violation{}})
	require.NoError(t, err)
	require.JSONEq(t, `{"ok": false, "complete": false, "ended_early": false, "seed": 0, "elapsed_ns": 0, "violations": [],
		"operations": [{"name": "send", "points": 9, "sampled": 8, "tried": 7, "killed": 6, "dropped": 1, "stopped": 5, "recovered": 4}],
		"all": {"points": 0, "sampled": 0, "tried": 0, "killed": 0, "dropped": 0, "stopped": 0, "recovered": 0},
		"pairs": {"tried": 3, "reached": 2, "missed": 1, "required": 2}}`, string(text))
}

// A pair counts when both victims came to their points, and the others are counted apart.
func TestPairsThatMiss(t *testing.T) {
	s, a := &sweep{}, &account{op: operations[0]}
	point := part{op: operations[0], point: tracer.Point{}}
	for _, reached := range []bool{true, false, true} {
		try := &try{mode: pairKill, parts: []part{point, point}, reached: reached}
		s.judged(a, try, s.paired)
	}
	require.Equal(t, Pairs{Tried: 3, Reached: 2, Missed: 1}, s.pairs)
}
