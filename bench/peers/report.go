package main

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/shmrouter/shmrouter/bench"
)

// report is everything that a run of the command has found.
type report struct {
	Host     string
	Taken    time.Time
	Command  string
	NoC      string `json:",omitempty"`
	WantNear int
	Floors   bench.Spread
	Lines    []lineReport
	Surveys  []surveyReport `json:",omitempty"`
}

type lineReport struct {
	Name, Title string
	Contests    []contestReport
}

type contestReport struct {
	ID, What string
	Ours     string `json:",omitempty"` // where it is not the ring's default
	Skipped  string `json:",omitempty"`
	Metrics  []metricReport
	Floors   bench.Spread
	Pairs    []pair
}

type metricReport struct {
	Key        string
	Rate       bool    // the ratio is of rates: larger is better
	Absolute   bool    `json:",omitempty"` // ours alone, larger is better
	Most       bool    `json:",omitempty"` // ours alone, smaller is better
	Must, Goal float64 `json:",omitempty"`
	States     []summary
}

type surveyReport struct {
	Name, Title string
	Points      []point
}

func (r result) report(wantNear int) contestReport {
	c := contestReport{ID: r.id, What: r.what, Skipped: r.skipped, Pairs: r.pairs}
	if len(r.pairs) == 0 {
		return c
	}
	c.Floors = r.floors()
	for _, m := range r.metrics {
		c.Metrics = append(c.Metrics, metricReport{
			Key: m.key, Rate: m.rate, Absolute: m.absolute, Most: m.most, Must: m.must, Goal: m.goal, States: r.summaries(m, wantNear),
		})
	}
	return c
}

// verdict compares the commonest state's median with the bounds.
func (m metricReport) verdict() string {
	if len(m.States) == 0 || m.Must == 0 && m.Goal == 0 {
		return ""
	}
	is := metric{rate: m.Rate, absolute: m.Absolute, most: m.Most}
	ratio := m.States[0].Ratio.P50
	switch {
	case m.Goal != 0 && is.keeps(ratio, m.Goal):
		return "goal"
	case m.Must != 0 && is.keeps(ratio, m.Must):
		return "must"
	case m.Must == 0:
		return fmt.Sprintf("goal missed by %.0f %%", is.short(ratio, m.Goal))
	}
	return fmt.Sprintf("**missed by %.0f %%**", is.short(ratio, m.Must))
}

// short is how far a ratio is from a bound, in percent of it.
func (m metric) short(ratio, bound float64) float64 {
	if m.larger() {
		return 100 * (bound - ratio) / bound
	}
	return 100 * (ratio - bound) / bound
}

func (m metricReport) bound(b float64) string {
	switch {
	case b == 0:
		return ""
	case m.Rate || m.Absolute && !m.Most:
		return fmt.Sprintf("≥ %g", b)
	}
	return fmt.Sprintf("≤ %g", b)
}

// figure prints a measure with its unit.
func figure(key string, s bench.Spread) string {
	switch key {
	case "cpu":
		return fmt.Sprintf("%.3f cpu", s.P50)
	case "share":
		return fmt.Sprintf("%.2f", s.P50)
	case "M/s", "µs":
		return fmt.Sprintf("%.3g %s", s.P50, key)
	}
	return duration(s.P50)
}

func duration(ns float64) string {
	switch {
	case ns < 1e3:
		return fmt.Sprintf("%.3g ns", ns)
	case ns < 1e6:
		return fmt.Sprintf("%.3g µs", ns/1e3)
	}
	return fmt.Sprintf("%.3g ms", ns/1e6)
}

func spread(s bench.Spread) string { return fmt.Sprintf("**%.2f** (%.2f–%.2f)", s.P50, s.Min, s.Max) }

// name is what is compared.
func (m metricReport) name() string {
	switch {
	case m.Rate:
		return "rate"
	case m.Key == "ns":
		return "time"
	}
	return m.Key
}

// write prints the tables and what belongs to them.
func (r report) write(w io.Writer) {
	fmt.Fprintf(w, "Machine: %s. Taken %s by `%s`.\n\n", r.Host, r.Taken.Format("2006-01-02"), r.Command)
	fmt.Fprintf(w, "Floor (round trip of two cache lines) over all pairs: %.0f ns (%.0f–%.0f).\n\n", r.Floors.P50, r.Floors.Min, r.Floors.Max)
	if r.NoC != "" {
		fmt.Fprintf(w, "The rows against C programs were skipped: %s.\n\n", r.NoC)
	}
	r.writeRings(w)
	r.writePeers(w)
}

func (r report) writeRings(w io.Writer) {
	var rings []lineReport
	for _, l := range r.Lines {
		if l.Name[0] <= '9' {
			rings = append(rings, l)
		}
	}
	if len(rings) == 0 {
		return
	}
	fmt.Fprint(w, "## Against the best rings in C, and the kernel\n\n")
	fmt.Fprint(w, "Ratios of a stream are rates, ring by other: larger is better. All others are times, or processors, ring by other: smaller is better. "+
		"What is bound is the median of the state that occurred most.\n\n")
	fmt.Fprint(w, "| line | against | | ratio | must | goal | | ring | other | pairs |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, l := range rings {
		fmt.Fprintf(w, "| **%s** | **%s** | | | | | | | | |\n", l.Name, l.Title)
		for _, c := range l.Contests {
			if c.Skipped != "" {
				fmt.Fprintf(w, "| | %s | | skipped: %s | | | | | | |\n", c.What, oneLine(c.Skipped))
			}
			for _, m := range c.Metrics {
				m.writeRow(w, c.What)
			}
		}
	}
	fmt.Fprintln(w)
}

func (m metricReport) writeRow(w io.Writer, what string) {
	verdict := m.verdict()
	for i, s := range m.States {
		key, must, goal := m.name(), m.bound(m.Must), m.bound(m.Goal)
		if i > 0 {
			what, key, must, goal, verdict = "", "", "", "", ""
		}
		theirs := figure(m.Key, s.Theirs)
		if m.Absolute {
			theirs = ""
		}
		fmt.Fprintf(w, "| | %s | %s | %s | %s | %s | %s | %s | %s | %d %s |\n",
			what, key, spread(s.Ratio), must, goal, verdict, figure(m.Key, s.Ours), theirs, s.Ratio.N, s.State)
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// writePeers has a row for each peer and contest.
func (r report) writePeers(w io.Writer) {
	var some bool
	for _, l := range r.Lines {
		if l.Name[0] <= '9' {
			continue
		}
		if !some {
			some = true
			fmt.Fprint(w, "## What a Go program would use instead\n\nHow many times faster the ring is, in its default mode: messages per second of a stream, the median of round trips.\n\n")
			fmt.Fprint(w, "| | | the ring is × | ring | other | pairs |\n|---|---|---|---|---|---|\n")
		}
		for i, c := range l.Contests {
			title := l.Title
			if i > 0 {
				title = ""
			}
			if c.Skipped != "" {
				fmt.Fprintf(w, "| %s | %s | skipped: %s | | | |\n", title, c.What, oneLine(c.Skipped))
				continue
			}
			m := c.Metrics[0]
			for k, s := range m.States {
				what := c.What
				if k > 0 {
					title, what = "", ""
				}
				times := s.Ratio
				if !m.Rate {
					times.P50, times.Min, times.Max = 1/s.Ratio.P50, 1/s.Ratio.Max, 1/s.Ratio.Min
				}
				fmt.Fprintf(w, "| %s | %s | **%.3g** (%.3g–%.3g) | %s | %s | %d %s |\n",
					title, what, times.P50, times.Min, times.Max, figure(m.Key, s.Ours), figure(m.Key, s.Theirs), s.Ratio.N, s.State)
			}
		}
	}
	if some {
		fmt.Fprintln(w)
	}
}

// writeHow says how each peer is driven.
func writeHow(w io.Writer) {
	fmt.Fprint(w, "## How each is driven\n\n| | version | |\n|---|---|---|\n")
	for _, name := range peerNames() {
		p := peers[name]
		if p.how == "" {
			continue
		}
		fmt.Fprintf(w, "| %s | %s | %s |\n", p.title, p.version(), p.how)
	}
	fmt.Fprintf(w, "| Go channel, one process | %s | a buffered channel of %d, messages by value; not pinned, since both sides are threads of one process |\n", runtime.Version(), channelLength)
	fmt.Fprint(w, `| Agrona in C | | testdata/c/ring.h: claim by compare-and-swap on the tail, variable length, read records zeroed; 2 MiB. "Gathering": the producer pauses about 5 µs when the ring is full, the consumer when it is empty; "eager": neither |
| fixed slots in C | | testdata/c/ring.h: 128-byte slots with sequence numbers, tickets by fetch-and-add; likewise |
| floors in C | | testdata/c/floors.c: two cache lines; records with a flag in their own line; futexes; sockets and pipes |

`)
}
