package page

import (
	"fmt"
	"html/template"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/picture"
	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/stress"
)

// distributions is how often what took how long.
func distributions(res *stress.Result, line *stress.Timeline) section {
	s := section{Title: "How long it took"}
	s.Figures = append(s.Figures, latencies(res, line))
	if res.Recovery.Skip.Count > 0 {
		s.Figures = append(s.Figures, recoveryTimes(&res.Recovery, line.Skip))
	}
	return s
}

const barsHeight = 200

// latencies has both axes logarithmic: what is rare is what one looks for.
func latencies(res *stress.Result, line *stress.Timeline) figure {
	x, columns := bounds(line.Latency, line.LatencyInStops)
	top := int64(1)
	for _, b := range append(append([]stress.Bin{}, line.Latency...), line.LatencyInStops...) {
		top = max(top, b.Count)
	}
	y, rows := picture.Decades(.5, float64(top), picture.Thousands)
	y.Low, rows = .5, rows[1:]
	c := picture.NewChart("latencies-chart", barsHeight, x, y, "How many messages took how long", quantiles(res.Latency))
	c.Rows(append([]picture.Tick{{At: y.Low}}, rows...))
	c.Columns(columns)
	for _, b := range line.Latency {
		bar(c, "bar", b, y, "")
	}
	steps(c, line.LatencyInStops)
	for _, q := range []struct {
		name, anchor string
		at           int64
	}{{"p50\u00a0", "end", res.Latency.P50}, {"\u00a0p99", "start", res.Latency.P99}} {
		c.Mark("quantile", float64(q.at), -14, barsHeight+14)
		c.Note(float64(q.at), -6, "note", q.anchor, q.name)
	}
	f := figure{ID: "latencies-figure", Title: "Latency", Note: "messages, both axes logarithmic", SVG: template.HTML(c.SVG())}
	f.Key = append(f.Key, key{"bar", "nobody stopped: " + quantiles(res.Latency)})
	if res.LatencyInStops.Count > 0 {
		f.Key = append(f.Key, key{"bar2", "under way in a stop: " + quantiles(res.LatencyInStops)})
	}
	return f
}

func quantiles(s stress.Spread) string {
	return fmt.Sprintf("p50 %s, p99 %s, longest %s", span(s.P50), span(s.P99), span(s.Max))
}

// recoveryTimes stand beside what is promised.
func recoveryTimes(r *stress.Recovery, all []stress.Bin) figure {
	x, columns := bounds(all, []stress.Bin{{From: int64(stress.RecoveryBound) / 10, To: int64(stress.RecoveryBound) + 1, Count: 1}})
	var top int64
	for _, b := range all {
		top = max(top, b.Count)
	}
	y, rows := picture.UpTo(float64(top), 4, func(v float64) string { return fmt.Sprintf("%g", v) })
	for len(rows) > 1 && rows[1].At < 1 { // of a few recoveries
		y, rows = picture.UpTo(float64(top), 1, func(v float64) string { return fmt.Sprintf("%g", v) })
	}
	c := picture.NewChart("recovery-chart", barsHeight, x, y, "How long it took until a dead worker's claim was skipped", quantiles(r.Skip))
	c.Rows(rows)
	c.Columns(columns)
	for _, b := range all {
		bar(c, "bar", b, y, "")
	}
	c.Mark("bound", float64(stress.RecoveryBound), -2, barsHeight+2)
	c.Note(float64(stress.RecoveryBound), -7, "bound", "middle", "promised: 10 ms")
	f := figure{
		ID: "recovery-figure", Title: "Recovery", Note: "of dead workers' claims, from the lock being free to the skip",
		Key: []key{{"bar", quantiles(r.Skip)}}, SVG: template.HTML(c.SVG()),
	}
	if r.Over > 0 {
		f.Note += fmt.Sprintf("; longer than promised: %d times for want of a processor, %d times otherwise", r.Over-r.Unexcused, r.Unexcused)
	}
	return f
}

// bounds is an axis with room for all bins.
func bounds(of ...[]stress.Bin) (picture.Log, []picture.Tick) {
	low, high := int64(0), int64(1)
	for _, bins := range of {
		for _, b := range bins {
			if low == 0 || b.From < low {
				low = max(b.From, 1)
			}
			high = max(high, b.To)
		}
	}
	return picture.Decades(float64(max(low, 1)), float64(high), picture.Duration)
}

func bar(c *picture.Chart, class string, b stress.Bin, y picture.Scale, more string) {
	if b.Count == 0 {
		return
	}
	h := barsHeight * y.At(float64(b.Count))
	if more == "" {
		more = fmt.Sprintf("%s to %s: %s", span(b.From), span(b.To), stress.Count(uint64(b.Count)))
	}
	c.Box(class, float64(b.From), float64(b.To), barsHeight-h, h, more)
}

// steps is the outline of bars.
func steps(c *picture.Chart, bins []stress.Bin) {
	if len(bins) == 0 {
		return
	}
	points := []picture.Point{{X: float64(bins[0].From), Y: 0}}
	for _, b := range bins {
		points = append(points, picture.Point{X: float64(b.From), Y: float64(b.Count)}, picture.Point{X: float64(b.To), Y: float64(b.Count)})
	}
	c.Line("outline", append(points, picture.Point{X: float64(bins[len(bins)-1].To), Y: 0}))
}
