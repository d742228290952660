package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Pictures are SVG written by hand: lines over a few places on the x axis, or a
// row of dots for each series; y, or x in rows, is logarithmic. Colours follow
// the reader's choice of light or dark.

const (
	plotWidth, plotHeight = 860, 480
	left, right           = 70, 170
	top, bottom           = 50, 50

	style = `<style>
text{font:13px system-ui,sans-serif;fill:#24292f}.t{font-size:15px;font-weight:600}.s{fill:#57606a}
.g{stroke:#d0d7de;stroke-width:1}path{fill:none;stroke-width:2}
.ours path{stroke-width:4}.ours text{font-weight:700}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s{fill:#9198a1}.g{stroke:#3d444d}}
</style>`
)

// palette keeps apart on light and dark grounds; ours is the first.
var palette = []string{
	"#e5534b", "#4493f8", "#3fb950", "#d29922", "#a371f7", "#1b9e9e", "#db61a2", "#8b949e", "#b98a5e", "#5e7ce0", "#7fae2f", "#c9710d",
	"#6e7681", "#c0588f", "#2f9e6e", "#9a7fd1", "#b8862b",
}

type canvas struct{ strings.Builder }

func newCanvas(title string, height int) *canvas {
	c := &canvas{}
	fmt.Fprintf(c, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">%s`,
		plotWidth, height, html.EscapeString(title), style)
	c.text(left, 24, "t", "start", title)
	return c
}

func (c *canvas) text(x, y float64, class, anchor, s string) {
	fmt.Fprintf(c, `<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`+"\n", x, y, class, anchor, html.EscapeString(s))
}

func (c *canvas) line(x1, y1, x2, y2 float64) {
	fmt.Fprintf(c, `<line class="g" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", x1, y1, x2, y2)
}

func (c *canvas) end() []byte {
	c.WriteString("</svg>\n")
	return []byte(c.String())
}

// logAxis is from 1, 2 or 5 times a power of ten to another.
type logAxis struct{ low, high, from, to float64 }

func newLogAxis(values []float64, from, to float64) logAxis {
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if v > 0 {
			low, high = min(low, v), max(high, v)
		}
	}
	if low > high {
		low, high = 1, 10
	}
	a := logAxis{steps(low, -1), steps(high, 1), from, to}
	if a.low == a.high {
		a.high *= 10
	}
	return a
}

func (a logAxis) at(v float64) float64 {
	return a.from + math.Log(max(v, a.low)/a.low)/math.Log(a.high/a.low)*(a.to-a.from)
}

func (a logAxis) ticks() (ticks []float64) {
	for d := math.Ceil(math.Log10(a.low)); d <= math.Floor(math.Log10(a.high)); d++ {
		ticks = append(ticks, math.Pow(10, d))
	}
	if len(ticks) < 2 {
		ticks = append(ticks, a.low, a.high)
	}
	return ticks
}

// steps rounds to 1, 2 or 5 times a power of ten, up or down.
func steps(v float64, way int) float64 {
	decade := math.Pow(10, math.Floor(math.Log10(v)))
	all := []float64{1, 2, 5, 10}
	for i := range all {
		if s := decade * all[i]; way > 0 && s >= v {
			return s
		} else if s := decade * all[len(all)-1-i]; way < 0 && s <= v {
			return s
		}
	}
	return v
}

// bySeries groups points, in the survey's order.
func (v survey) bySeries(points []point) (names []string, of map[string][]point) {
	of = map[string][]point{}
	for _, p := range points {
		of[p.Series] = append(of[p.Series], p)
	}
	for _, s := range v.series {
		if len(of[s.name]) > 0 {
			names = append(names, s.name)
		}
	}
	return names, of
}

func (v survey) ours(name string) bool {
	return slices.ContainsFunc(v.series, func(s series) bool { return s.name == name && s.ours })
}

// lines draws y over x, with the spread of each point.
func (v survey) lines(points []point) []byte {
	points = v.drawn(points)
	c := newCanvas(v.title, plotHeight)
	var values []float64
	for _, p := range points {
		values = append(values, p.Y.Min, p.Y.Max)
	}
	y := newLogAxis(values, plotHeight-bottom, top)
	xs := map[float64]float64{}
	for i, x := range v.x {
		xs[x] = left + 20 + float64(i)*(plotWidth-left-right-40)/float64(max(len(v.x)-1, 1))
		c.text(xs[x], plotHeight-bottom+20, "", "middle", v.xLabels[i])
	}
	c.text((plotWidth-right+left)/2, plotHeight-8, "s", "middle", v.xTitle)
	c.text(left, 42, "s", "start", v.yTitle)
	for _, t := range y.ticks() {
		c.line(left, y.at(t), plotWidth-right, y.at(t))
		c.text(left-8, y.at(t)+4, "", "end", fmt.Sprintf("%g", t))
	}
	names, of := v.bySeries(points)
	var labels []label
	for i, name := range names {
		colour := palette[i%len(palette)]
		class := "theirs"
		if v.ours(name) {
			class = "ours"
		}
		fmt.Fprintf(c, `<g class="%s">`, class)
		var path strings.Builder
		for k, p := range of[name] {
			fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(k, 1)], xs[p.X], y.at(p.Y.P50))
			fmt.Fprintf(c, `<path style="stroke-width:1" stroke="%s" d="M%.1f %.1fV%.1f"/>`, colour, xs[p.X], y.at(p.Y.Min), y.at(p.Y.Max))
			fmt.Fprintf(c, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, xs[p.X], y.at(p.Y.P50), colour)
		}
		fmt.Fprintf(c, `<path stroke="%s" d="%s"/></g>`+"\n", colour, path.String())
		last := of[name][len(of[name])-1]
		labels = append(labels, label{name, class, colour, xs[last.X], y.at(last.Y.P50), 0})
	}
	c.labels(labels)
	return c.end()
}

// label is a series' name at the end of its line.
type label struct {
	name, class, colour string
	x, y, moved         float64
}

const labelHeight = 15

// labels writes them to the right, moved apart, each with a thin line to where
// it belongs.
func (c *canvas) labels(all []label) {
	slices.SortFunc(all, func(a, b label) int {
		if a.y < b.y {
			return -1
		}
		return 1
	})
	for i := range all {
		all[i].moved = all[i].y
		if i > 0 {
			all[i].moved = max(all[i].moved, all[i-1].moved+labelHeight)
		}
	}
	if n := len(all); n > 0 {
		for i, most := n-1, float64(plotHeight-bottom); i >= 0 && all[i].moved > most; i-- {
			all[i].moved = most
			most -= labelHeight
		}
	}
	const x = plotWidth - right + 14
	for _, l := range all {
		fmt.Fprintf(c, `<path style="stroke-width:1" stroke="%s" stroke-dasharray="2 2" d="M%.1f %.1fL%d %.1f"/>`, l.colour, l.x+5, l.y, x-3, l.moved)
		fmt.Fprintf(c, `<g class="%s"><text x="%d" y="%.1f" style="fill:%s">%s</text></g>`+"\n", l.class, x, l.moved+4, l.colour, html.EscapeString(l.name))
	}
}

const rowHeight = 24

// rows draws the median, 99 % and 99.9 % of each series in a row.
func (v survey) rows(points []point) []byte {
	points = v.drawn(points)
	height := top + bottom + rowHeight*len(points)
	c := newCanvas(v.title, height)
	const from = left + 150
	keys := []string{"p50", "p99", "p999"}
	var values []float64
	for _, p := range points {
		for _, k := range keys {
			values = append(values, v.convert(p.Figures[k].P50, p.X))
		}
	}
	x := newLogAxis(values, from, plotWidth-30)
	for _, t := range x.ticks() {
		c.line(x.at(t), top-8, x.at(t), float64(height-bottom+4))
		c.text(x.at(t), float64(height-bottom+20), "", "middle", fmt.Sprintf("%g", t))
	}
	c.text((plotWidth+from)/2, float64(height-8), "s", "middle", v.xTitle)
	for i, p := range points {
		at := float64(top + rowHeight*i + 8)
		colour, class := palette[1], "theirs"
		if v.ours(p.Series) {
			colour, class = palette[0], "ours"
		}
		var d [3]float64
		for k, key := range keys {
			d[k] = x.at(v.convert(p.Figures[key].P50, p.X))
		}
		fmt.Fprintf(c, `<g class="%s"><text x="%d" y="%.1f" text-anchor="end">%s</text>`, class, from-12, at+4, html.EscapeString(p.Series))
		fmt.Fprintf(c, `<path stroke="%s" d="M%.1f %.1fH%.1f"/>`, colour, d[0], at, d[2])
		for k, r := range []float64{6, 4, 2.5} {
			fmt.Fprintf(c, `<circle cx="%.1f" cy="%.1f" r="%g" fill="%s"/>`, d[k], at, r, colour)
		}
		c.WriteString("</g>\n")
	}
	return c.end()
}
