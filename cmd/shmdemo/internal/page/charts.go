package page

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"time"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/picture"
	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/stress"
)

// overTime is the rate, the ring's fill, and the latency, one below the other over the same time.
func overTime(res *stress.Result, line *stress.Timeline) section {
	o := &over{res: res, line: line, total: line.Intervals[len(line.Intervals)-1].To}
	o.scale, o.ticks = picture.Clock(time.Duration(o.total), 12)
	for _, seat := range line.Seats {
		for _, k := range seat.Kills {
			o.kills = append(o.kills, float64(k.At))
		}
	}
	s := section{
		Title: "Over time", Time: true,
		Intro: fmt.Sprintf("Each point is the mean, or the quantile, of about %s.", span(o.interval())),
		Legend: []key{
			{"rug", "a worker is killed"}, {"shade", "a worker is stopped"}, {"end", "the sending ends; then wakes are tested, by single messages, and by one worker that fills the ring"},
		},
		Figures: []figure{o.rate(), o.fill(), o.latency()},
		Tables:  []table{intervalsOf(line)},
	}
	return s
}

// over draws over the time of a run.
type over struct {
	res   *stress.Result
	line  *stress.Timeline
	total int64
	scale picture.Linear
	ticks []picture.Tick
	kills []float64
}

// interval is how long most of the intervals are.
func (o *over) interval() int64 {
	var all []int64
	for _, i := range o.line.Intervals {
		all = append(all, i.To-i.From)
	}
	slices.Sort(all)
	return all[len(all)/2] / int64(time.Millisecond) * int64(time.Millisecond)
}

// chart begins one with what all have in common: the marks lie behind the curves.
func (o *over) chart(id string, height int, y picture.Scale, rows []picture.Tick, title, about string) *picture.Chart {
	c := picture.NewChart(id+"-chart", height, o.scale, y, title, about)
	for _, seat := range o.line.Seats {
		for _, p := range seat.Pauses {
			share := float64(p.Stopped) / math.Max(1, float64(p.To-p.From))
			c.Shade("shade", float64(p.From), float64(p.To), max(.03, .22*share))
		}
	}
	c.Rows(rows)
	c.Columns(o.ticks)
	c.Rug("rug", o.kills, -9, 7)
	if o.line.Sending < o.total {
		c.Mark("end", float64(o.line.Sending), -9, float64(height+9))
	}
	return c
}

// curve has a point in the middle of each interval.
func (o *over) curve(value func(i *stress.Interval) float64) (points []picture.Point) {
	for k := range o.line.Intervals {
		i := &o.line.Intervals[k]
		points = append(points, picture.Point{X: float64(i.From+i.To) / 2, Y: value(i)})
	}
	return points
}

// usual is the value in the middle of those while everybody sends: there stands a curve's name.
func (o *over) usual(points []picture.Point) float64 {
	var all []float64
	for _, p := range points {
		if p.X < float64(o.line.Sending) && !math.IsNaN(p.Y) {
			all = append(all, p.Y)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func most(points []picture.Point) (high float64) {
	for _, p := range points {
		if p.Y > high { // else it may not be a number
			high = p.Y
		}
	}
	return high
}

func perSecond(n uint64, i *stress.Interval) float64 {
	return float64(n) / max(1e-9, time.Duration(i.To-i.From).Seconds())
}

// rate is that of everybody, and of the worker in the middle, between the slowest and the fastest.
func (o *over) rate() figure {
	all := o.curve(func(i *stress.Interval) float64 { return perSecond(i.Messages, i) })
	low := o.curve(func(i *stress.Interval) float64 { return min(i.Slowest, perSecond(i.Messages, i)) })
	high := o.curve(func(i *stress.Interval) float64 { return max(i.Fastest, perSecond(i.Messages, i)) })
	seat := func(share float64) []picture.Point {
		return o.curve(func(i *stress.Interval) float64 {
			sorted := slices.Sorted(slices.Values(i.BySeat))
			return perSecond(sorted[int(share*float64(len(sorted)-1)+.5)], i)
		})
	}
	y, rows := picture.UpTo(most(high), 4, picture.Thousands)
	c := o.chart("rate-chart", 170, y, rows, "Messages a second over time",
		fmt.Sprintf("%s messages a second on the whole.", stress.Count(uint64(o.res.MessagesPerSecond))))
	keys := []key{{"one", "all workers"}}
	names := []picture.Name{{Class: "one", Text: "all workers", Y: o.usual(all)}}
	if o.joined() {
		c.Band("band", low, high)
	}
	if o.res.Workers > 1 {
		c.Band("band", seat(0), seat(1))
		c.Line("two", seat(.5))
		keys = append(keys, key{"two", "one worker, the middle one"}, key{"band", "from the slowest to the fastest"})
		names = append(names, picture.Name{Class: "two", Text: "one worker", Y: o.usual(seat(.5))})
	}
	c.Line("one", all)
	c.Names(names)
	note := "per second"
	if o.res.Workers > 1 {
		note = "per second: all workers, and the middle one of them, between the slowest and the fastest"
	}
	if o.joined() {
		note += fmt.Sprintf("; the band around all is from the least to the greatest over %s", span(o.line.Every))
	}
	return figure{ID: "rate-figure", Title: "Messages", Note: note, Key: keys, SVG: template.HTML(c.SVG()), Wide: true}
}

// joined reports whether there are intervals with extremes within.
func (o *over) joined() bool { return o.interval() > 3*o.line.Every/2 }

// fill is how full the ring is.
func (o *over) fill() figure {
	capacity := float64(max(o.line.Capacity, 1))
	of := func(value func(f *stress.Fill) int64) []picture.Point {
		return o.curve(func(i *stress.Interval) float64 { return 100 * float64(value(&i.Fill)) / capacity })
	}
	mean := of(func(f *stress.Fill) int64 { return f.Mean })
	low, high := of(func(f *stress.Fill) int64 { return f.Least }), of(func(f *stress.Fill) int64 { return f.Most })
	y, rows := picture.UpTo(min(most(high), 100), 4, func(v float64) string { return fmt.Sprintf("%.3g %%", v) })
	y.High = min(y.High, 100)
	rows = slices.DeleteFunc(rows, func(t picture.Tick) bool { return t.At > y.High })
	c := o.chart("fill-chart", 130, y, rows, "How full the ring is over time", "Per cent of its capacity: the mean, the least and the most of each interval.")
	c.Band("band", low, high)
	c.Line("one", mean)
	c.Names([]picture.Name{{Class: "one", Text: "mean", Y: o.usual(mean)}})
	return figure{
		ID: "fill-figure", Title: "Fill of the ring", Note: fmt.Sprintf("per cent of %s: the mean, and from the least to the most that was seen", stress.Bytes(capacity)),
		Key: []key{{"one", "mean"}, {"band", "least to most"}}, SVG: template.HTML(c.SVG()), Wide: true,
	}
}

// latency is what the quantiles of the time from before Send to the handler were.
func (o *over) latency() figure {
	of := func(value func(s stress.Spread) int64) []picture.Point {
		return o.curve(func(i *stress.Interval) float64 {
			if i.Latency.Count == 0 {
				return math.NaN()
			}
			return float64(value(i.Latency))
		})
	}
	curves := []struct {
		class, name string
		points      []picture.Point
	}{
		{"four", "longest", of(func(s stress.Spread) int64 { return s.Max })},
		{"three", "p99.9", of(func(s stress.Spread) int64 { return s.P999 })},
		{"two", "p99", of(func(s stress.Spread) int64 { return s.P99 })},
		{"one", "p50", of(func(s stress.Spread) int64 { return s.P50 })},
	}
	low, high := math.Inf(1), 1.0
	for _, p := range curves[3].points {
		if p.Y > 0 {
			low = min(low, p.Y)
		}
	}
	high = max(high, most(curves[0].points))
	y, rows := picture.Decades(low, high, picture.Duration)
	c := o.chart("latency-chart", 190, y, rows, "Latency over time", "Quantiles of the time from before Send to the handler, on a logarithmic axis.")
	var keys []key
	var names []picture.Name
	for _, curve := range curves {
		c.Line(curve.class, curve.points)
		keys = append(keys, key{curve.class, curve.name})
		names = append(names, picture.Name{Class: curve.class, Text: curve.name, Y: o.usual(curve.points)})
	}
	c.Names(names)
	return figure{
		ID: "latency-figure", Title: "Latency", Note: "from before Send to the handler, on a logarithmic axis; in stops, too",
		Key: keys, SVG: template.HTML(c.SVG()), Wide: true,
	}
}

// intervalsOf is what the curves show.
func intervalsOf(line *stress.Timeline) table {
	t := table{
		ID: "intervals", Title: "The same as a table", Long: true,
		Head: []string{"until", "messages", "messages/s", "ring, mean", "ring, most", "p50", "p99", "p99.9", "longest", "kills", "stops", "stalls"},
	}
	for k := range line.Intervals {
		i := &line.Intervals[k]
		row := []string{
			seconds(i.To), stress.Count(i.Messages), stress.Count(uint64(perSecond(i.Messages, i))),
			stress.Bytes(float64(i.Fill.Mean)), stress.Bytes(float64(i.Fill.Most)),
		}
		row = append(row, spreadCells(i.Latency)[1:]...)
		t.Rows = append(t.Rows, append(row, fmt.Sprint(i.Killed), fmt.Sprint(i.Stopped), fmt.Sprint(i.Stalls)))
		t.At = append(t.At, int64(time.Duration(i.To)/time.Millisecond))
	}
	return t
}
