package soak

import (
	"fmt"
	"slices"
	"time"
)

// point is one value of a series.
type point struct {
	at    int64 // ns
	value float64
}

// Trend is how a resource developed over the measured time, which is all but the warm-up.
type Trend struct {
	First   float64 `json:"first"` // window
	Last    float64 `json:"last"`
	Most    float64 `json:"most"`
	PerHour float64 `json:"per_hour"` // slope of the fitted line
	Growth  float64 `json:"growth"`   // of that line over the measured time
	Allowed float64 `json:"allowed"`
	Windows int     `json:"windows"`
	Grew    bool    `json:"grew"`
}

// SlopeLeast is how many points have a slope that says anything.
const SlopeLeast = 3

// trend fits a line through the series (the median of the slopes between any two points, which
// single outliers do not move). A series has grown if the line rises by more than is
// allowed and still does so in its second half: what is only slow to settle does
// not. Fewer than SlopeLeast points are no series.
func trend(series []point, allowed float64) (t Trend) {
	t.Allowed, t.Windows = allowed, len(series)
	if len(series) == 0 {
		return t
	}
	t.First, t.Last = series[0].value, series[len(series)-1].value
	for _, p := range series {
		t.Most = max(t.Most, p.value)
	}
	if len(series) < SlopeLeast {
		return t
	}
	span := float64(series[len(series)-1].at - series[0].at)
	all := slope(series)
	t.PerHour, t.Growth = all*float64(time.Hour), all*span
	late := slope(series[(len(series)-1)/2:]) * span
	t.Grew = t.Growth > allowed && late > allowed/2
	return t
}

// slope is Theil and Sen's.
func slope(series []point) float64 {
	var all []float64
	for i, a := range series {
		for _, b := range series[i+1:] {
			if b.at > a.at {
				all = append(all, (b.value-a.value)/float64(b.at-a.at))
			}
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}

// What is in use at work depends on who is there at the moment: that its least of an epoch
// grows says something only of epochs so long, and so many.
const (
	WorkFrom  = 5 * time.Second
	WorkLeast = 6
)

// warmUp is how many of so many epochs are not measured: a fifth, and two where there are
// enough, because the second one is that of the crowd.
func warmUp(epochs int) int {
	switch {
	case epochs < 5:
		return min(1, max(0, epochs-3))
	case epochs < 15:
		return 2
	}
	return epochs / 5
}

// Resource is the verdict on one resource.
type Resource struct {
	Name   string `json:"name"`
	Bytes  bool   `json:"bytes"` // else it is a count
	AtRest Trend  `json:"at_rest"`
	AtWork Trend  `json:"at_work"` // the least of each epoch
}

// judge looks at all series. Epochs with a crowd are left out of those at work.
func (s *Soak) judge() (all []Resource, violations []string) {
	skip := warmUp(len(s.rests))
	for i, k := range kinds {
		var rest, work []point
		for _, v := range s.rests[min(skip, len(s.rests)):] {
			rest = append(rest, point{v.At, float64(v.Value[i])})
		}
		for _, w := range s.windows {
			if w.Epoch >= skip && !w.Crowd && w.Samples > 0 {
				work = append(work, point{w.At, float64(w.Least[i])})
			}
		}
		r := Resource{k.name, k.bytes, trend(rest, k.atRest), trend(work, k.atWork)}
		if s.cfg.epoch() < WorkFrom || len(work) < WorkLeast {
			r.AtWork.Grew = false
		}
		all = append(all, r)
		for _, t := range []struct {
			when string
			Trend
		}{{"at rest", r.AtRest}, {"at work", r.AtWork}} {
			if t.Grew {
				violations = append(violations, fmt.Sprintf("%s grow %s: from %s to %s in %d epochs, %s per hour",
					k.name, t.when, r.Text(t.First), r.Text(t.Last), t.Windows, r.Text(t.PerHour)))
			}
		}
	}
	return all, violations
}

// Window is one epoch's samples at work.
type Window struct {
	At      int64             `json:"at_ns"` // of the last one, since the soak began
	Epoch   int               `json:"epoch"`
	Crowd   bool              `json:"crowd"`
	Samples int               `json:"samples"`
	Least   [resources]uint64 `json:"least"`
	Most    [resources]uint64 `json:"most"`
}

func (w *Window) add(v Sample) {
	w.At = v.At
	for i, n := range v.Value {
		if w.Samples == 0 || n < w.Least[i] {
			w.Least[i] = n
		}
		w.Most[i] = max(w.Most[i], n)
	}
	w.Samples++
}
