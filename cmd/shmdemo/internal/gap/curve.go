package gap

import (
	"slices"
	"time"
)

// death is one kill: the messages that arrived in each bin around it, and for how long none did.
type death struct {
	counts  []int
	gap     int64 // for how long nothing arrived when the dead worker's claim was stepped over
	resumed int64 // its end, from the kill
	quiet   int64 // the longest time without an arrival before the kill
	backlog int   // what the poll that ended the gap found
}

const (
	binsBefore = int(before / bin)
	binsAfter  = int(after / bin)
)

// condense lays the arrivals, which are in order, around the kill at an instant of shm.Now. Its claim was skipped at another.
func condense(arrivals []arrival, at, skipped int64) death {
	d := death{counts: make([]int, binsBefore+binsAfter)}
	first := at - int64(before)
	last := int64(-1)
	for _, a := range arrivals {
		if a.at < first {
			continue
		}
		if i := (a.at - first) / int64(bin); int(i) < len(d.counts) {
			d.counts[i] += a.n
		}
		if last >= 0 {
			if without := a.at - last; a.at <= at {
				d.quiet = max(d.quiet, without)
			} else if last <= skipped && skipped < a.at {
				d.gap, d.resumed, d.backlog = without, a.at-at, a.n
			}
		}
		last = a.at
	}
	return d
}

// Curve is the rate around the kills, in messages a second. A bin is named after its begin, in ns from the kill.
type Curve struct {
	Bin    int64     `json:"bin_ns"`
	At     []int64   `json:"at_ns"`
	Median []float64 `json:"median"`
	P10    []float64 `json:"p10"` // a tenth of the kills had no more
	P90    []float64 `json:"p90"`
	Worst  []float64 `json:"worst"` // the kill with the longest gap
}

func curveOf(deaths []death) Curve {
	c := Curve{Bin: int64(bin)}
	if len(deaths) == 0 {
		return c
	}
	worst := slices.MaxFunc(deaths, func(a, b death) int { return int(a.gap - b.gap) })
	perSecond := float64(time.Second) / float64(bin)
	of := make([]float64, len(deaths))
	for i := range binsBefore + binsAfter {
		for k, d := range deaths {
			of[k] = float64(d.counts[i]) * perSecond
		}
		slices.Sort(of)
		c.At = append(c.At, int64(i)*int64(bin)-int64(before))
		c.Median = append(c.Median, of[len(of)/2])
		c.P10 = append(c.P10, of[len(of)/10])
		c.P90 = append(c.P90, of[len(of)*9/10])
		c.Worst = append(c.Worst, float64(worst.counts[i])*perSecond)
	}
	return c
}
