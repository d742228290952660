package bench

import (
	"fmt"
	"math"
	"slices"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Latency condenses the durations of one run, in nanoseconds, to about 0.1 %.
type Latency struct {
	N                   int64 // durations
	P50, P99, P999, Max int64 // quantiles, and the longest
}

// recorder takes durations as they come, without allocating.
type recorder struct{ h *hdr.Histogram }

// longest is the largest duration kept apart from larger ones: what a
// stopped machine may cost.
const longest = int64(60e9)

func newRecorder() recorder { return recorder{hdr.New(1, longest, 3)} }

// add takes one duration. Below 1 ns, which clocks of two processors can
// show, counts as 1.
func (r recorder) add(ns int64) { _ = r.h.RecordValue(min(max(ns, 1), longest)) }

func (r recorder) latency() Latency {
	return Latency{
		N:    r.h.TotalCount(),
		P50:  r.h.ValueAtQuantile(50),
		P99:  r.h.ValueAtQuantile(99),
		P999: r.h.ValueAtQuantile(99.9),
		Max:  r.h.Max(),
	}
}

// Spread is the median of some figures and how far they lie apart. Half of them
// are from P25 to P75.
type Spread struct {
	N             int     // figures
	P50, Min, Max float64 // the median, and the outermost
	P25, P75      float64 // the quartiles
}

// spreadOf sorts a copy of xs.
func spreadOf(xs []float64) Spread {
	if len(xs) == 0 {
		nan := math.NaN()
		return Spread{0, nan, nan, nan, nan, nan}
	}
	xs = slices.Sorted(slices.Values(xs))
	// Between two figures a quantile is on the line from one to the other.
	quantile := func(q float64) float64 {
		at := q * float64(len(xs)-1)
		i := int(at)
		if i == len(xs)-1 {
			return xs[i]
		}
		return xs[i] + (at-float64(i))*(xs[i+1]-xs[i])
	}
	return Spread{len(xs), quantile(0.5), xs[0], xs[len(xs)-1], quantile(0.25), quantile(0.75)}
}

// String gives three significant digits: "12.3 (10.9–14.0, n=9)".
func (s Spread) String() string {
	return fmt.Sprintf("%.3g (%.3g–%.3g, n=%d)", s.P50, s.Min, s.Max, s.N)
}
