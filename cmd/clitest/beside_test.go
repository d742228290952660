package clitest

import (
	"encoding/json"
	"flag"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	pairs  = flag.Int("beside.pairs", 0, "measure what shmctl stat --watch costs a stress run, in so many pairs of runs")
	length = flag.Duration("beside.duration", 5*time.Second, "how long each run of a pair takes")
)

// TestBeside measures, when it is asked to:
//
//	go test -run TestBeside -timeout 1h -beside.pairs 30 -v
//
// It runs shmdemo in pairs, one of each with "shmctl stat --watch" at once a second beside it, in alternating order, and
// requires that every verdict is good, and that the median of the ratios of the rates is at least 0.95. Take it on a
// machine that has nothing else to do.
func TestBeside(t *testing.T) {
	if *pairs == 0 {
		t.Skip("a measurement, for a machine at rest: see its comment")
	}
	var ratios []float64
	for n := range *pairs {
		var rate [2]float64 // without, with
		for i := range 2 {
			watched := (n + i) % 2
			rate[watched] = stress(t, uint64(n+1), watched == 1)
		}
		ratios = append(ratios, rate[1]/rate[0])
		t.Logf("pair %d: %.0f messages/s without, %.0f with, ratio %.3f", n+1, rate[0], rate[1], rate[1]/rate[0])
	}
	slices.Sort(ratios)
	n := len(ratios)
	median := (ratios[(n-1)/2] + ratios[n/2]) / 2
	t.Logf("%d pairs of %v: ratio of rates median %.3f, from %.3f to %.3f", n, *length, median, ratios[0], ratios[n-1])
	require.GreaterOrEqual(t, median, 0.95)
}

// stress runs shmdemo and returns its rate.
func stress(t *testing.T, seed uint64, watched bool) float64 {
	path := segmentPath(t)
	cmd := exec.Command(filepath.Join(programs, "shmdemo"), "--json", "--duration", length.String(), "--path", path,
		"--seed", strconv.FormatUint(seed, 10))
	if watched {
		watch := exec.Command("sh", "-c", `until [ -e "$1" ]; do sleep 0.05; done; exec "$0" stat --watch=1s --json "$1"`,
			filepath.Join(programs, "shmctl"), path)
		require.NoError(t, watch.Start())
		defer watch.Wait()
		defer watch.Process.Kill()
	}
	out, err := cmd.Output()
	var result struct {
		OK         bool     `json:"ok"`
		Violations []string `json:"violations"`
		Rate       float64  `json:"messages_per_second"`
	}
	require.NoError(t, json.Unmarshal(out, &result))
	if !result.OK || err != nil {
		t.Errorf("watched %v: %v %v", watched, result.Violations, err)
	}
	return result.Rate
}
