package picture

import (
	"fmt"
	"math"
	"strings"
)

// Chart is a drawing within a page. It is as wide as its place there, and text, lines and marks do not grow with it: whatever lies on
// the way across is placed by per cent. Its colours are those that the page gives its classes. Labels stand outside, where the
// page leaves room.
type Chart struct {
	Picture
	X      Scale
	Y      Scale
	Height int
}

// NewChart begins one that nobody needs to see: title and about say what is in it. id is its own on the page.
func NewChart(id string, height int, x, y Scale, title, about string) *Chart {
	c := &Chart{X: x, Y: y, Height: height}
	c.Printf(`<svg class="chart" width="100%%" height="%d" role="img" aria-labelledby="%s-t %s-d"><title id="%s-t">`, height, id, id, id)
	c.escaped(title)
	c.Printf(`</title><desc id="%s-d">`, id)
	c.escaped(about)
	c.Printf("</desc>\n")
	return c
}

// X and y of values: per cent, and pixels from the top.
func (c *Chart) x(v float64) string  { return percent(c.X.At(v)) }
func (c *Chart) y(v float64) float64 { return float64(c.Height) * (1 - c.Y.At(v)) }

func percent(share float64) string { return trim(100*share, 3) + "%" }

// trim writes a number without zeros at its end.
func trim(v float64, digits int) string {
	s := fmt.Sprintf("%.*f", digits, v)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// Rows draws the horizontal axis lines of a chart, labelled at its left.
func (c *Chart) Rows(ticks []Tick) {
	for i, t := range ticks {
		class := "grid"
		if i == 0 {
			class = "base"
		}
		y := trim(c.y(t.At), 1)
		c.Printf(`<line class="%s" x1="0" x2="100%%" y1="%s" y2="%s"/>`, class, y, y)
		c.label(`x="-8"`, c.y(t.At)+4, "tick", "end", t.Label)
	}
}

// Columns draws short marks below a chart, labelled there. Of many labels every other one is optional: a page may
// leave it out where it is narrow.
func (c *Chart) Columns(ticks []Tick) {
	for i, t := range ticks {
		at, class := c.x(t.At), "tick"
		if i%2 == 1 && len(ticks) > 5 {
			class = "tick optional"
		}
		c.Printf(`<line class="base" x1="%s" x2="%s" y1="%d" y2="%d"/>`, at, at, c.Height, c.Height+5)
		c.label(`x="`+at+`"`, float64(c.Height+18), class, "middle", t.Label)
	}
}

// Point is one on a curve.
type Point struct{ X, Y float64 }

// Line draws a curve.
func (c *Chart) Line(class string, points []Point) { c.path(class, c.way("M", points)) }

// Band fills what lies between two curves over the same values.
func (c *Chart) Band(class string, low, high []Point) {
	if len(low) == 0 {
		return
	}
	back := make([]Point, len(low))
	for i, p := range low {
		back[len(low)-1-i] = p
	}
	c.path(class, c.way("M", high)+c.way("L", back)+"Z")
}

// way is a path through points; where there is no number it is interrupted.
func (c *Chart) way(begin string, points []Point) string {
	var d strings.Builder
	next := begin
	for _, p := range points {
		if math.IsNaN(p.Y) {
			next = "M"
			continue
		}
		fmt.Fprintf(&d, "%s%s %s", next, trim(1000*c.X.At(p.X), 1), trim(c.y(p.Y), 1))
		next = "L"
	}
	return d.String()
}

// path draws one that is stretched to the width, while its line is not.
func (c *Chart) path(class, d string) {
	if d == "" {
		return
	}
	c.Printf(`<svg width="100%%" height="%d" viewBox="0 0 1000 %d" preserveAspectRatio="none"><path class="%s" vector-effect="non-scaling-stroke" d="%s"/></svg>`+"\n",
		c.Height, c.Height, class, d)
}

// Box fills what lies between two values of X, from y down so many pixels. It tells more to who points at it.
func (c *Chart) Box(class string, from, to float64, y, height float64, more string) {
	c.boxed(class, "", from, to, y, height, more)
}

// Shade is a box as high as the chart, through which one sees.
func (c *Chart) Shade(class string, from, to, opacity float64) {
	c.boxed(class, ` fill-opacity="`+trim(opacity, 2)+`"`, from, to, 0, float64(c.Height), "")
}

func (c *Chart) boxed(class, attributes string, from, to, y, height float64, more string) {
	a, b := c.X.At(from), c.X.At(to)
	c.Printf(`<rect class="%s"%s x="%s" width="%s" y="%s" height="%s"`, class, attributes, percent(a), percent(b-a), trim(y, 1), trim(height, 1))
	if more == "" {
		c.Printf("/>\n")
		return
	}
	c.Printf("><title>")
	c.escaped(more)
	c.Printf("</title></rect>\n")
}

// Mark draws an upright line at a value of X, from y down so many pixels.
func (c *Chart) Mark(class string, at, y, height float64) {
	x := c.x(at)
	c.Printf(`<line class="%s" x1="%s" x2="%s" y1="%s" y2="%s"/>`+"\n", class, x, x, trim(y, 1), trim(y+height, 1))
}

// Rug draws short upright lines at values of X, from y down so many pixels; with a height of 0 and round ends they are dots.
// Those that would lie over each other are one.
func (c *Chart) Rug(class string, at []float64, y, height float64) {
	var d strings.Builder
	seen := map[string]bool{}
	for _, v := range at {
		if x := trim(1000*c.X.At(v), 1); !seen[x] {
			seen[x] = true
			fmt.Fprintf(&d, "M%s %sv%s", x, trim(y, 1), trim(height, 1))
		}
	}
	c.path(class, d.String())
}

// Note writes at a value of X and a distance from the top.
func (c *Chart) Note(at, y float64, class, anchor, s string) {
	c.label(`x="`+c.x(at)+`"`, y, class, anchor, s)
}

// Left writes at the left of the chart, with its middle so far from the top.
func (c *Chart) Left(y float64, s string) { c.label(`x="-8"`, y+4, "tick", "end", s) }

// Name is what stands at the end of a curve.
type Name struct {
	Class, Text string
	Y           float64 // value at which it ends
}

// Names writes them at the right of the chart, next to where the curves end, and not over each other.
func (c *Chart) Names(names []Name) {
	var ys []float64
	for _, n := range names {
		ys = append(ys, c.y(n.Y))
	}
	for i, y := range Apart(ys, 15, 6, float64(c.Height-4)) {
		c.label(`x="100%" dx="8"`, y+4, "name "+names[i].Class, "start", names[i].Text)
	}
}

func (c *Chart) label(x string, y float64, class, anchor, s string) {
	c.Printf(`<text %s y="%s" class="%s" text-anchor="%s">`, x, trim(y, 1), class, anchor)
	c.escaped(s)
	c.Printf("</text>\n")
}

// SVG ends the chart and returns it.
func (c *Chart) SVG() string { return c.out.String() + "</svg>\n" }
