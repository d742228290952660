// Package picture has what the drawings of the commands have in common: plain SVG, without scripts or fonts, whose colours follow
// the reader's light or dark.
package picture

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// Width is that of every picture.
const Width = 860

const style = `
text { font-family: system-ui, sans-serif; font-size: 12px; fill: #24292f; }
.title { font-size: 16px; font-weight: 600; }
.small { font-size: 10.5px; fill: #57606a; }
.grid { stroke: #d0d7de; stroke-width: 1; }
.one { stroke: #24292f; stroke-width: 1.5; }
.paper { fill: #ffffff; }
%s@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.small { fill: #9aa4ae; }
.grid { stroke: #343b44; }
.one { stroke: #e6edf3; }
.paper { fill: #0d1117; }
%s}
`

// Picture is one that is being drawn.
type Picture struct{ out strings.Builder }

// New begins a picture: about is for readers who do not see it, title for the others. light and dark are the styles of classes of
// its own.
func New(height int, about, title, light, dark string) *Picture {
	p := &Picture{}
	p.Printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-labelledby="t">`+"\n",
		Width, height, Width, height)
	p.Printf(`<title id="t">`)
	p.escaped(about)
	p.Printf("</title>\n<style>"+style+"</style>\n", light, dark)
	p.Printf(`<rect class="paper" width="%d" height="%d"/>`+"\n", Width, height)
	p.Text(16, 26, "title", "start", title)
	return p
}

// Printf adds elements.
func (p *Picture) Printf(format string, args ...any) { fmt.Fprintf(&p.out, format, args...) }

// Text adds a line of text at x, y; anchor is where in it that is.
func (p *Picture) Text(x, y float64, class, anchor, s string) {
	if class != "" {
		class = fmt.Sprintf(` class="%s"`, class)
	}
	p.Printf(`<text x="%.1f" y="%.1f"%s text-anchor="%s">`, x, y, class, anchor)
	p.escaped(s)
	p.Printf("</text>\n")
}

// Lines adds small lines of text, one below the other, and returns where the next one would be.
func (p *Picture) Lines(y int, lines ...string) int {
	for _, line := range lines {
		p.Text(16, float64(y), "small", "start", line)
		y += 15
	}
	return y
}

func (p *Picture) escaped(s string) { _ = xml.EscapeText(&p.out, []byte(s)) } // a Builder takes everything

// Write ends the picture.
func (p *Picture) Write(w io.Writer) error {
	p.Printf("</svg>\n")
	_, err := io.WriteString(w, p.out.String())
	return err
}
