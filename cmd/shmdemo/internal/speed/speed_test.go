package speed

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDigits(t *testing.T) {
	for x, want := range map[float64]string{
		0: "0", 1: "1.00", 12.345: "12.3", 123.4: "123", 99_999: "99999", 0.1234: "0.123", 0.00001: "0.0000", -12.345: "-12.3",
	} {
		require.Equal(t, want, digits(x))
	}
	require.Equal(t, "570 ns", nanoseconds(570))
	require.Equal(t, "1.24 µs", nanoseconds(1240))
	require.Equal(t, "-70.0 µs", nanoseconds(-70_000))
	row := Row{Unit: "msgs/s"}
	require.Equal(t, "34.5 M/s", row.value(34.5e6))
	require.Equal(t, "820 k/s", row.value(820e3))
	require.Equal(t, "12.0 /s", row.value(12))
}

// TestPlotOfAnything: ratios of all sizes, and figures that have no place on a logarithmic axis, still make a picture, and
// what a machine calls itself cannot spoil it.
func TestPlotOfAnything(t *testing.T) {
	for name, ratios := range map[string][]float64{
		"none":     nil,
		"one":      {1},
		"small":    {0.0004, 0.3},
		"large":    {3, 40_000},
		"both":     {0.01, 1, 1000},
		"no ratio": {0, -2, math.Inf(1), 5},
	} {
		t.Run(name, func(t *testing.T) {
			res := Result{OK: true, Machine: `<script>"&'`, Notes: []string{}, State: map[string]int{}}
			for i, r := range ratios {
				s := Spread{N: 1, P50: r, P25: r / 2, P75: r * 2, Min: r, Max: r}
				res.Rows = append(res.Rows, Row{
					Name: fmt.Sprint(i), Title: fmt.Sprint("row ", i), Unit: "ns",
					Against: []Against{{Transport: "pipe", Ratio: s, ByState: map[string]Spread{}}, {Transport: "channel", Ratio: s}},
				})
			}
			var svg, table strings.Builder
			require.NoError(t, res.Plot(&svg))
			require.NotContains(t, svg.String(), "NaN")
			require.NotContains(t, svg.String(), "Inf")
			require.NotContains(t, svg.String(), "<script")
			for dec := xml.NewDecoder(strings.NewReader(svg.String())); ; {
				if _, err := dec.Token(); err != nil {
					require.True(t, errors.Is(err, io.EOF), "%v", err)
					break
				}
			}
			require.NoError(t, res.Print(&table))
			require.Contains(t, table.String(), res.Machine)
		})
	}
}

// The bars' lengths are the ratios' logarithms, to both sides of 1.
func TestPlotScale(t *testing.T) {
	p := plot{low: 0.01, high: 1000}
	width := p.at(1000) - p.at(0.01)
	require.InDelta(t, width/5, p.at(10)-p.at(1), 1e-9)
	require.InDelta(t, width/5, p.at(1)-p.at(0.1), 1e-9)
	require.Equal(t, p.at(1000), p.at(5000), "beyond the axis")
}
