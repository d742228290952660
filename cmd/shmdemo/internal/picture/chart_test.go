package picture

import (
	"encoding/xml"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const hostile = `</title><script>alert("1")</script>&'`

// What is written into a chart stays text.
func TestChartEscapes(t *testing.T) {
	c := NewChart("a", 100, Linear{0, 10}, Linear{0, 10}, hostile, hostile)
	c.Rows([]Tick{{0, hostile}})
	c.Columns([]Tick{{0, hostile}})
	c.Left(5, hostile)
	c.Box("x", 0, 1, 2, 3, hostile)
	c.Mark("x", 0, 1, 2)
	c.Note(1, 2, "x", "start", hostile)
	c.Names([]Name{{"x", hostile, 5}})
	texts := 0
	d := xml.NewDecoder(strings.NewReader(c.SVG()))
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		switch e := token.(type) {
		case xml.StartElement:
			require.NotEqual(t, "script", e.Name.Local)
		case xml.CharData:
			if strings.Contains(string(e), "alert") {
				require.Equal(t, hostile, string(e))
				texts++
			}
		}
	}
	require.Equal(t, 8, texts)
}

func TestCurves(t *testing.T) {
	c := NewChart("a", 100, Linear{0, 10}, Linear{0, 10}, "", "")
	c.Line("line", []Point{{0, 0}, {5, 10}, {6, math.NaN()}, {7, 5}, {10, 5}})
	c.Band("band", []Point{{0, 0}, {10, 0}}, []Point{{0, 10}, {10, 5}})
	c.Rug("rug", []float64{1, 1.0001, 2}, -9, 7)
	c.Line("nothing", []Point{{1, math.NaN()}})
	svg := c.SVG()
	require.Contains(t, svg, `d="M0 100L500 0M700 50L1000 50"`, "interrupted where nothing is known")
	require.Contains(t, svg, `d="M0 0L1000 50L1000 100L0 100Z"`)
	require.Contains(t, svg, `d="M100 -9v7M200 -9v7"`, "what would lie over each other is one")
	require.NotContains(t, svg, "nothing")
	require.NotContains(t, svg, "NaN")
}
