package clitest

import (
	"encoding/xml"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var pictureFile = flag.String("picture", "", "write TestPicture's picture of shmctl top to this file (SVG)")

// TestPicture makes a picture of a screen of shmctl top, 80 columns and 24 rows, beside workers that are killed. The one
// in docs/ is made so by docs/pictures.sh.
func TestPicture(t *testing.T) {
	path := fmt.Sprintf("/dev/shm/shmdemo-%d", os.Getpid())
	t.Cleanup(func() { os.Remove(path) })
	demo := exec.Command(filepath.Join(programs, "shmdemo"), "--duration=1h", "--stop-every=0", "--workers=8", "--path", path)
	require.NoError(t, demo.Start())
	t.Cleanup(func() { demo.Process.Signal(os.Interrupt); demo.Wait() })
	require.Eventually(t, func() bool { _, err := os.Stat(path); return err == nil }, patience, time.Millisecond)

	w := startTerminal(t, 24, 80, nil, "top", "--interval=500ms", path)
	w.typed("s")
	w.await("sort: rate")
	killed := regexp.MustCompile(`(?m)^skipped +[1-9]`)
	require.Eventually(t, func() bool {
		text := strings.Join(w.screen(), "\n")
		return killed.MatchString(text) && strings.Contains(text, "messages/s")
	}, patience, 10*time.Millisecond, "somebody was killed inside a send")

	picture := drawn(w.frame(), 24, 80)
	var parsed struct {
		Texts []struct {
			Spans []string `xml:"tspan"`
		} `xml:"g>text"`
	}
	require.NoError(t, xml.Unmarshal([]byte(picture), &parsed))
	require.Len(t, parsed.Texts, 24)
	require.Contains(t, strings.Join(parsed.Texts[23].Spans, ""), "q quit")
	if *pictureFile != "" {
		require.NoError(t, os.WriteFile(*pictureFile, []byte(picture), 0o644))
	}
}

// Sizes of a character, in the picture's own units, for monospace fonts whose advance is 0.6 of their size.
const (
	fontSize  = 14.0
	advance   = fontSize * 0.6
	lineSpace = 18.0
	margin    = 12.0
)

// The classes of the palette's colours that top uses.
var inks = map[string]string{"": "", "0": "", "7": "reversed", "31": "bad", "32": "good", "33": "warn"}

var coloured = regexp.MustCompile("\x1b\\[([0-9;]*)m|\x1b\\[[?0-9;]*[A-Za-z]")

// drawn is a frame of the terminal as SVG, dark where the reader's browser is.
func drawn(frame string, rows, columns int) string {
	var b strings.Builder
	width, height := 2*margin+float64(columns)*advance, 2*margin+float64(rows)*lineSpace
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img">
<title>shmctl top, on a terminal of %d columns and %d rows</title>
<style>
text { font: %gpx "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #1f2328; white-space: pre; }
.ground { fill: #f6f8fa; stroke: #d1d9e0; } .mark { fill: #1f2328; } .reversed { fill: #f6f8fa; }
.good { fill: #1a7f37; } .warn { fill: #9a6700; } .bad { fill: #cf222e; }
@media (prefers-color-scheme: dark) {
text { fill: #e2e6ea; } .ground { fill: #14191f; stroke: #343c45; } .mark { fill: #e2e6ea; } .reversed { fill: #14191f; }
.good { fill: #56d364; } .warn { fill: #e3b341; } .bad { fill: #ff7b72; }
}
</style>
<rect class="ground" x="0.5" y="0.5" width="%.0f" height="%.0f" rx="6"/>
<g>
`, width, height, width, height, columns, rows, fontSize, width-1, height-1)
	var marks, texts strings.Builder
	for row, l := range strings.Split(strings.ReplaceAll(frame, "\r", ""), "\n") {
		y := margin + float64(row)*lineSpace
		fmt.Fprintf(&texts, `<text y="%.1f">`, y+fontSize)
		column, ink, at := 0, "", 0
		span := func(s string) {
			n := len([]rune(s))
			if n == 0 {
				return
			}
			x := margin + float64(column)*advance
			if ink == "reversed" {
				fmt.Fprintf(&marks, `<rect class="mark" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`+"\n", x, y, float64(n)*advance, lineSpace)
			}
			class := ""
			if ink != "" {
				class = ` class="` + ink + `"`
			}
			fmt.Fprintf(&texts, `<tspan%s x="%.1f" textLength="%.1f">`, class, x, float64(n)*advance)
			xml.EscapeText(&texts, []byte(s))
			texts.WriteString("</tspan>")
			column += n
		}
		for _, m := range coloured.FindAllStringSubmatchIndex(l, -1) {
			span(l[at:m[0]])
			if m[2] >= 0 {
				ink = inks[l[m[2]:m[3]]]
			}
			at = m[1]
		}
		span(l[at:])
		texts.WriteString("</text>\n")
	}
	return b.String() + marks.String() + texts.String() + "</g>\n</svg>\n"
}

// A frame is drawn in the columns and colours that a terminal would show.
func TestDrawn(t *testing.T) {
	picture := drawn("\x1b[7mtitle\x1b[0m\x1b[K\r\nfill \x1b[32m##<&\x1b[0m.\x1b[K", 2, 10)
	require.NoError(t, xml.Unmarshal([]byte(picture), new(struct{})))
	require.Contains(t, picture, `<tspan class="reversed" x="12.0" textLength="42.0">title</tspan>`)
	require.Contains(t, picture, `<tspan class="good" x="`+strconv.FormatFloat(margin+5*advance, 'f', 1, 64)+`" textLength="33.6">##&lt;&amp;</tspan>`)
}
