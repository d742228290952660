package picture

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func labels(ticks []Tick) (all []string) {
	for _, t := range ticks {
		all = append(all, t.Label)
	}
	return all
}

func TestUpTo(t *testing.T) {
	for _, c := range []struct {
		high float64
		most int
		want []string
	}{
		{583_000, 4, []string{"0", "200 k", "400 k", "600 k"}},
		{1_000_000, 4, []string{"0", "500 k", "1 M"}},
		{80, 4, []string{"0", "20", "40", "60", "80"}},
		{1.1, 2, []string{"0", "1", "2"}},
		{0.03, 3, []string{"0", "0.01", "0.02", "0.03"}},
		{0, 4, []string{"0", "0.5", "1"}},
		{math.NaN(), 4, []string{"0", "0.5", "1"}},
		{math.Inf(1), 4, []string{"0", "0.5", "1"}},
	} {
		scale, ticks := UpTo(c.high, c.most, Thousands)
		require.Equal(t, c.want, labels(ticks), "%v", c.high)
		require.LessOrEqual(t, len(ticks), c.most+1, "%v", c.high)
		require.Equal(t, 0.0, scale.At(0))
		require.Equal(t, 1.0, scale.At(ticks[len(ticks)-1].At))
		if c.high > 0 && !math.IsInf(c.high, 0) {
			require.GreaterOrEqual(t, scale.High, c.high)
		}
	}
}

func TestDecades(t *testing.T) {
	scale, ticks := Decades(43_000, 180e6, Duration)
	require.Equal(t, []string{"10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s"}, labels(ticks))
	require.InDelta(t, 0.4, scale.At(1e6), 1e-9)
	for _, c := range []struct{ low, high float64 }{{1e6, 1e6}, {0, 0}, {math.Inf(1), 1}, {5, 2}} {
		scale, ticks := Decades(c.low, c.high, Duration)
		require.Len(t, ticks, 2, "%v: never an axis without length", c)
		require.Less(t, scale.Low, scale.High)
	}
}

func TestClock(t *testing.T) {
	for _, c := range []struct {
		total time.Duration
		want  []string
	}{
		{10800 * time.Millisecond, []string{"0", "1 s", "2 s", "3 s", "4 s", "5 s", "6 s", "7 s", "8 s", "9 s", "10 s"}},
		{830 * time.Millisecond, []string{"0", "0.1 s", "0.2 s", "0.3 s", "0.4 s", "0.5 s", "0.6 s", "0.7 s", "0.8 s"}},
		{61 * time.Second, []string{"0", "5 s", "10 s", "15 s", "20 s", "25 s", "30 s", "35 s", "40 s", "45 s", "50 s", "55 s", "60 s"}},
		{150 * time.Second, []string{"0", "0:15", "0:30", "0:45", "1:00", "1:15", "1:30", "1:45", "2:00", "2:15", "2:30"}},
		{30 * time.Minute, []string{"0", "5 min", "10 min", "15 min", "20 min", "25 min", "30 min"}},
		{3 * time.Hour, []string{"0", "0:15 h", "0:30 h", "0:45 h", "1:00 h", "1:15 h", "1:30 h", "1:45 h", "2:00 h", "2:15 h", "2:30 h", "2:45 h", "3:00 h"}},
		{30 * time.Hour, []string{"0", "6 h", "12 h", "18 h", "24 h", "30 h"}},
		{0, []string{"0", "0.001 s"}},
	} {
		scale, ticks := Clock(c.total, 12)
		require.Equal(t, c.want, labels(ticks), "%v", c.total)
		require.LessOrEqual(t, scale.At(ticks[len(ticks)-1].At), 1.0)
	}
	_, ticks := Clock(1000*24*time.Hour, 12)
	require.LessOrEqual(t, len(ticks), 13)
}

// Whatever comes, a share is one.
func TestScalesStayInside(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -5, 0, 1, 5, 1e300} {
		for _, s := range []Scale{Linear{0, 10}, Linear{3, 3}, Log{1, 100}, Log{2, 2}} {
			require.GreaterOrEqual(t, s.At(v), 0.0, "%v %v", s, v)
			require.LessOrEqual(t, s.At(v), 1.0, "%v %v", s, v)
		}
	}
}

func TestApart(t *testing.T) {
	for _, c := range []struct{ ys, want []float64 }{
		{[]float64{10, 50, 90}, []float64{10, 50, 90}},
		{[]float64{50, 50, 52}, []float64{50, 65, 80}},
		{[]float64{52, 50}, []float64{65, 50}},
		{[]float64{98, 99}, []float64{85, 100}},
		{[]float64{-4}, []float64{0}},
		{nil, nil},
	} {
		require.Equal(t, c.want, Apart(c.ys, 15, 0, 100), "%v", c.ys)
	}
}
