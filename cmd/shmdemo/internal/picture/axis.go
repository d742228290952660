package picture

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

// Scale says where on its axis a value lies: 0 at the beginning, 1 at the end. What lies outside is moved to the next of them.
type Scale interface{ At(v float64) float64 }

// Linear is a scale from Low to High.
type Linear struct{ Low, High float64 }

// At implements Scale.
func (s Linear) At(v float64) float64 { return share((v - s.Low) / (s.High - s.Low)) }

// Log is a logarithmic scale from Low to High, both above 0. What is not above 0 lies at the beginning.
type Log struct{ Low, High float64 }

// At implements Scale.
func (s Log) At(v float64) float64 {
	if !(v > 0) {
		return 0
	}
	return share(math.Log(v/s.Low) / math.Log(s.High/s.Low))
}

func share(x float64) float64 {
	if !(x > 0) { // nor a number
		return 0
	}
	return min(x, 1)
}

// Tick is a mark on an axis.
type Tick struct {
	At    float64
	Label string
}

// UpTo is a linear scale from 0 to a round number that is not below high, and at most so many ticks above 0 on it.
func UpTo(high float64, most int, label func(float64) string) (Linear, []Tick) {
	if !(high > 0) || math.IsInf(high, 0) {
		high = 1
	}
	step := roundStep(high / float64(most))
	n := int(math.Ceil(high/step - 1e-9))
	s := Linear{0, step * float64(n)}
	var ticks []Tick
	for i := range n + 1 {
		v := step * float64(i)
		ticks = append(ticks, Tick{v, label(v)})
	}
	return s, ticks
}

// roundStep is the least of 1, 2 and 5 times a power of ten that is not below step.
func roundStep(step float64) float64 {
	ten := math.Pow(10, math.Floor(math.Log10(step)))
	for _, k := range []float64{1, 2, 5} {
		if k*ten >= step*(1-1e-9) {
			return k * ten
		}
	}
	return 10 * ten
}

// Decades is a logarithmic scale between the powers of ten around low and high, and a tick at each of them.
func Decades(low, high float64, label func(float64) string) (Log, []Tick) {
	if !(low > 0) || math.IsInf(low, 0) {
		low = 1
	}
	from, to := math.Floor(math.Log10(low)+1e-9), math.Ceil(math.Log10(max(low, high))-1e-9)
	to = max(to, from+1)
	var ticks []Tick
	for k := from; k <= to; k++ {
		v := math.Pow(10, k)
		ticks = append(ticks, Tick{v, label(v)})
	}
	return Log{math.Pow(10, from), math.Pow(10, to)}, ticks
}

var timeSteps = []time.Duration{
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second,
	15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

// Clock is a scale over a time from 0 on, in nanoseconds, and at most so many ticks above 0 on it. It ends with the time.
func Clock(total time.Duration, most int) (Linear, []Tick) {
	total = max(total, time.Millisecond)
	i := slices.IndexFunc(timeSteps, func(s time.Duration) bool { return int(total/s) <= most })
	step := timeSteps[len(timeSteps)-1]
	if i >= 0 {
		step = timeSteps[i]
	}
	for int(total/step) > most {
		step *= 2
	}
	var ticks []Tick
	for t := time.Duration(0); t <= total; t += step {
		label := "0"
		switch {
		case t == 0:
		case step < time.Second:
			label = fmt.Sprintf("%.4g s", t.Seconds())
		case step < time.Minute && total < 2*time.Minute:
			label = fmt.Sprintf("%.0f s", t.Seconds())
		case step < time.Minute:
			label = fmt.Sprintf("%d:%02d", int(t.Minutes()), int(t.Seconds())%60)
		case step < time.Hour && total < 2*time.Hour:
			label = fmt.Sprintf("%.0f min", t.Minutes())
		case step < time.Hour:
			label = fmt.Sprintf("%d:%02d h", int(t.Hours()), int(t.Minutes())%60)
		default:
			label = fmt.Sprintf("%.0f h", t.Hours())
		}
		ticks = append(ticks, Tick{float64(t), label})
	}
	return Linear{0, float64(total)}, ticks
}

// Duration labels a time in nanoseconds.
func Duration(ns float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e9, "s"}, {1e6, "ms"}, {1e3, "µs"}} {
		if ns >= u.size {
			return short(ns/u.size) + " " + u.name
		}
	}
	return short(ns) + " ns"
}

// Thousands labels a number: 200 k, 1.5 M.
func Thousands(n float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e9, " G"}, {1e6, " M"}, {1e3, " k"}} {
		if math.Abs(n) >= u.size {
			return short(n/u.size) + u.name
		}
	}
	return short(n)
}

func short(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) }

// Apart moves labels that would lie over each other: it returns the places ys, as little changed as will do, no two of them nearer
// than gap, from low to high. Their order is kept.
func Apart(ys []float64, gap, low, high float64) []float64 {
	order := make([]int, len(ys))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if ys[a] < ys[b] {
			return -1
		} else if ys[a] > ys[b] {
			return 1
		}
		return 0
	})
	out := slices.Clone(ys)
	at := low
	for _, i := range order {
		out[i] = max(out[i], at)
		at = out[i] + gap
	}
	at = high
	for _, i := range slices.Backward(order) {
		out[i] = min(out[i], at)
		at = out[i] - gap
	}
	return out
}
