package soak

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTrend(t *testing.T) {
	for _, c := range []struct {
		name    string
		series  []float64
		allowed float64
		grew    bool
	}{
		{"nothing", nil, 1, false},
		{"two points", []float64{1, 100}, 1, false},
		{"flat", []float64{7, 7, 7, 7, 7, 7}, 0.5, false},
		{"one more each time", []float64{7, 8, 9, 10, 11}, 2, true},
		{"as much as allowed", []float64{7, 7.5, 8, 8.5, 9}, 2, false},
		{"less and less", []float64{9, 8, 7, 6, 5}, 1, false},
		{"one outlier", []float64{7, 7, 90, 7, 7, 7}, 2, false},
		{"noise", []float64{30, 34, 29, 35, 31, 33, 30, 34, 30}, 6, false},
		{"a leak under noise", []float64{30, 35, 33, 41, 38, 44, 43, 49, 47}, 6, true},
		{"settles", []float64{10, 30, 40, 44, 45, 45, 45, 45, 45}, 6, false},
		{"one step", []float64{10, 10, 10, 10, 30, 30, 30, 30, 30}, 6, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var series []point
			for i, v := range c.series {
				series = append(series, point{int64(i) * int64(time.Minute), v})
			}
			got := trend(series, c.allowed)
			require.Equal(t, c.grew, got.Grew, "%+v", got)
			require.Equal(t, len(c.series), got.Windows)
		})
	}
	got := trend([]point{{0, 10}, {int64(time.Minute), 11}, {int64(2 * time.Minute), 12}}, 1)
	require.InDelta(t, 60, got.PerHour, 1e-9)
	require.InDelta(t, 2, got.Growth, 1e-9)
	require.True(t, got.Grew)
}

// From which duration on the slopes at work are judged is told to users.
func TestShortEpochs(t *testing.T) {
	require.Equal(t, WorkFrom, Config{Duration: Epochs * WorkFrom}.epoch())
	require.Less(t, Config{Duration: Epochs*WorkFrom - time.Second}.epoch(), WorkFrom)
	require.Equal(t, EpochLeast, Config{Duration: time.Second}.epoch())
	require.Equal(t, EpochMost, Config{Duration: time.Hour}.epoch())
}
