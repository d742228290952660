package speed

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/picture"
)

// The picture: for each row a bar for each rival, from 1 to how many times better the ring is, on a logarithmic axis, with the
// middle half of the pairs as a whisker.

const (
	plotLeft   = 250 // where the axis begins
	plotRight  = 70  // room for the last figure
	barHeight  = 11
	barStep    = 14
	rowGap     = 12
	plotTop    = 74
	plotBottom = 93
)

const (
	plotLight = `.whisker { stroke: #24292f; stroke-width: 1.2; fill: none; }
.pipe { fill: #6e9bd1; }
.unix { fill: #d98b3a; }
.channel { fill: #58a06c; }
`
	plotDark = `.whisker { stroke: #e6edf3; }
.pipe { fill: #4f7fb8; }
.unix { fill: #b9722a; }
.channel { fill: #3f8555; }
`
)

// Plot writes the picture.
func (res *Result) Plot(w io.Writer) error {
	p := plot{low: 1, high: 10}
	bars := 0
	for _, row := range res.Rows {
		for _, a := range row.Against {
			bars++
			p.low = min(p.low, positive(a.Ratio.P25, a.Ratio.P50))
			p.high = max(p.high, positive(a.Ratio.P75, a.Ratio.P50))
		}
	}
	p.low, p.high = decade(p.low, math.Floor), decade(p.high, math.Ceil)
	bottom := plotTop + bars*barStep + len(res.Rows)*rowGap
	p.Picture = picture.New(bottom+plotBottom, "How many times better the ring is than pipes, unix sockets and Go channels",
		"How many times better the ring is", plotLight, plotDark)
	x := 16
	for _, c := range columns {
		p.Printf(`<rect class="%s" x="%d" y="40" width="11" height="11"/>`, c, x)
		p.Text(float64(x+16), 50, "", "start", "than a "+rivalName(c, false))
		x += 150
	}
	p.axis(bottom)
	y := plotTop
	for _, row := range res.Rows {
		p.Text(plotLeft-10, float64(y+len(row.Against)*barStep/2+4), "", "end", row.Title)
		for _, a := range row.Against {
			p.bar(y, a)
			y += barStep
		}
		y += rowGap
	}
	y = p.Lines(bottom+32, "Medians of pairs, and the middle half of them. Worker to handler: the router, beside a goroutine for each unix socket and one channel.",
		res.Machine)
	p.Lines(y, strings.Split(res.where(), "\n")...)
	return p.Write(w)
}

type plot struct {
	*picture.Picture
	low, high float64
}

// at is where a ratio lies on the axis.
func (p *plot) at(ratio float64) float64 {
	share := math.Log(ratio/p.low) / math.Log(p.high/p.low)
	return plotLeft + min(1, max(0, share))*(picture.Width-plotRight-plotLeft)
}

func (p *plot) axis(bottom int) {
	for v := p.low; v <= p.high*1.001; v *= 10 {
		class := "grid"
		if math.Abs(v-1) < 1e-9 {
			class = "one"
		}
		p.Printf(`<line class="%s" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`+"\n", class, p.at(v), p.at(v), plotTop-8, bottom)
		p.Text(p.at(v), float64(bottom+14), "", "middle", fmt.Sprintf("%g×", v))
	}
}

func (p *plot) bar(y int, a Against) {
	r := a.Ratio
	if !(r.P50 > 0) || math.IsInf(r.P50, 0) {
		return
	}
	lo, hi := p.at(min(1, r.P50)), p.at(max(1, r.P50))
	p.Printf(`<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d"/>`, a.Transport, lo, y, max(1, hi-lo), barHeight)
	middle := float64(y) + barHeight/2.0
	from, to := p.at(positive(r.P25, r.P50)), p.at(positive(r.P75, r.P50))
	p.Printf(`<path class="whisker" d="M%.1f %.1fH%.1fM%.1f %.1fv6M%.1f %.1fv6"/>`+"\n", from, middle, to, from, middle-3, to, middle-3)
	p.Text(max(hi, to)+6, middle+4, "", "start", digits(r.P50)+"×")
}

// positive is the first of the figures that has a place on a logarithmic axis.
func positive(xs ...float64) float64 {
	if i := slices.IndexFunc(xs, func(x float64) bool { return x > 0 && !math.IsInf(x, 0) }); i >= 0 {
		return xs[i]
	}
	return 1
}

func decade(x float64, round func(float64) float64) float64 {
	return math.Pow(10, round(math.Log10(x)))
}
