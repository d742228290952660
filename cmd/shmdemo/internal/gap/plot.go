package gap

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/picture"
)

// The picture: messages a second over the time around the kills, as steps: the median of all kills, the band in which most of
// them were, and the one with the longest gap.

const (
	plotLeft, plotRight = 60, 840
	plotTop, plotBottom = 80, 340
	plotHeight          = 460

	plotLight = `.median { stroke: #cf222e; stroke-width: 2.5; fill: none; }
.worst { stroke: #0969da; stroke-width: 1.2; fill: none; }
.band { fill: #cf222e; opacity: 0.15; }
`
	plotDark = `.median { stroke: #ff7b72; }
.worst { stroke: #79c0ff; }
.band { fill: #ff7b72; }
`
)

// Plot writes the picture.
func (res *Result) Plot(w io.Writer) error {
	const title = "Messages a second before, during and after the death of a worker inside a claim"
	p := plot{Picture: picture.New(plotHeight, title, title, plotLight, plotDark), top: 1e6}
	for i := range res.Curve.At {
		p.top = max(p.top, res.Curve.P90[i], res.Curve.Worst[i])
	}
	for i, k := range []struct{ class, text string }{
		{"median", "median of the kills"}, {"worst", fmt.Sprintf("the one with the longest gap, %.1f ms", res.Gap.Max/1e6)},
	} {
		x := 16 + 180*i
		p.Printf(`<line class="%s" x1="%d" x2="%d" y1="47" y2="47"/>`, k.class, x, x+22)
		p.Text(float64(x+28), 51, "", "start", k.text)
	}
	p.Printf(`<rect class="band" x="480" y="41" width="22" height="11"/>`)
	p.Text(508, 51, "", "start", "between the lowest and the highest tenth")
	p.axes()
	if len(res.Curve.At) > 0 {
		p.Printf(`<path class="band" d="%sZ"/>`+"\n", p.steps(res.Curve.P90)+strings.Replace(p.back(res.Curve.P10), "M", "L", 1))
		p.Printf(`<path class="worst" d="%s"/>`+"\n", p.steps(res.Curve.Worst))
		p.Printf(`<path class="median" d="%s"/>`+"\n", p.steps(res.Curve.Median))
	}
	y := p.Lines(plotBottom+50,
		fmt.Sprintf("Milliseconds from the kill, in bins of %v. Who has died sends no more, until another takes its place behind the picture's end.", bin))
	y = p.Lines(y, res.setup()...)
	p.Lines(y, fmt.Sprintf("Nothing arrived for %.2f ms (median), %.2f ms (99 %%), %.2f ms (longest).", res.Gap.P50/1e6, res.Gap.P99/1e6, res.Gap.Max/1e6),
		res.Machine)
	return p.Write(w)
}

type plot struct {
	*picture.Picture
	top float64 // of the axis, in messages a second
}

func (p plot) x(t time.Duration) float64 {
	return plotLeft + (plotRight-plotLeft)*float64(t+before)/float64(before+after)
}

func (p plot) y(rate float64) float64 { return plotBottom - (plotBottom-plotTop)*rate/p.top }

func (p plot) axes() {
	for t := -before; t <= after; t += 5 * time.Millisecond {
		class := "grid"
		if t == 0 {
			class = "one"
		}
		p.Printf(`<line class="%s" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`+"\n", class, p.x(t), p.x(t), plotTop-6, plotBottom)
		p.Text(p.x(t), plotBottom+16, "", "middle", fmt.Sprintf("%d", t.Milliseconds()))
	}
	step := 1e6
	for _, s := range []float64{2e6, 5e6, 1e7, 2e7, 5e7, 1e8, 1e9} {
		if p.top/step > 8 {
			step = s
		}
	}
	for rate := 0.0; rate <= p.top; rate += step {
		p.Printf(`<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>`+"\n", plotLeft, plotRight, p.y(rate), p.y(rate))
		p.Text(plotLeft-8, p.y(rate)+4, "", "end", fmt.Sprintf("%g M", rate/1e6))
	}
}

// steps is the path over the bins, from left to right.
func (p plot) steps(rates []float64) string {
	var d strings.Builder
	for i, rate := range rates {
		from := -before + time.Duration(i)*bin
		fmt.Fprintf(&d, "%c%.1f %.1fH%.1f", "ML"[min(i, 1)], p.x(from), p.y(rate), p.x(from+bin))
	}
	return d.String()
}

// back is the same from right to left.
func (p plot) back(rates []float64) string {
	var d strings.Builder
	for i := len(rates) - 1; i >= 0; i-- {
		from := -before + time.Duration(i)*bin
		fmt.Fprintf(&d, "%c%.1f %.1fH%.1f", "ML"[min(len(rates)-1-i, 1)], p.x(from+bin), p.y(rates[i]), p.x(from))
	}
	return d.String()
}
