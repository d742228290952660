package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// newTable returns a table that is columns and spaces and nothing else: narrow, and as good in a pipe.
func newTable(header ...any) table.Writer {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatDefault
	style.Box.PaddingLeft = ""
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	t.AppendHeader(header)
	return t
}

// rightAlign is for columns of numbers, from one to the other.
func rightAlign(t table.Writer, from, to int) {
	var numbers []table.ColumnConfig
	for n := from; n <= to; n++ {
		numbers = append(numbers, table.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(numbers)
}

// size writes bytes in three digits and a unit.
func size(bytes int64) string { return sizeOf(float64(bytes)) }

// sizeOf writes a number of bytes that a segment states, whatever it states.
func sizeOf[N uint64 | float64](bytes N) string {
	return scaled(float64(bytes), 1024, "B", "KiB", "MiB", "GiB", "TiB")
}

// perSecond writes a rate of bytes.
func perSecond(bytes float64) string {
	return scaled(bytes, 1024, "B", "KiB", "MiB", "GiB", "TiB") + "/s"
}

// count writes a number of things.
func count(n float64) string {
	return strings.TrimSuffix(scaled(n, 1000, "", "k", "M", "G", "T"), " ")
}

func scaled(x, base float64, units ...string) string {
	u := 0
	for x >= base*0.9995 && u < len(units)-1 {
		x /= base
		u++
	}
	digits := 0
	switch {
	case u == 0 && x == float64(int64(x)):
	case x < 10:
		digits = 2
	case x < 100:
		digits = 1
	}
	return strconv.FormatFloat(x, 'f', digits, 64) + " " + units[u]
}

func percent(share float64) string { return fmt.Sprintf("%.1f%%", 100*share) }

// age writes seconds in two units at most.
func age(seconds float64) string {
	switch d := time.Duration(seconds * float64(time.Second)); {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", seconds)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	}
}

// shorten cuts in front, since the end of a path says more.
func shorten(s string, width int) string {
	r := []rune(s)
	if len(r) <= width {
		return s
	}
	return "…" + string(r[len(r)-width+1:])
}

func orDash(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

// gauge draws a share as a bar of so many cells.
func gauge(share float64, cells int) string {
	full := min(max(int(share*float64(cells)+0.5), 0), cells)
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", cells-full) + "]"
}

// indented wraps a sentence for 80 columns, below what it is about.
func indented(s string) string {
	var out []string
	for line := range strings.Lines(text.WrapSoft(printable(s), 76)) {
		out = append(out, "    "+strings.TrimRight(line, " \n"))
	}
	return strings.Join(out, "\n")
}

// printable keeps what other processes call themselves from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}
