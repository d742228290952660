package gap

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shmrouter/shmrouter/bench"
)

// Result is what a run has found. Times are in nanoseconds.
type Result struct {
	OK          bool    `json:"ok"`
	Error       string  `json:"error,omitempty"`
	Interrupted bool    `json:"interrupted"`
	Machine     string  `json:"machine"`
	Pinned      bool    `json:"pinned"` // workers on one processor, consumer on another
	Workers     int     `json:"workers"`
	Capacity    int64   `json:"capacity"`
	Rate        float64 `json:"rate,omitempty"` // of all workers together, in messages a second; none: full speed
	Seed        uint64  `json:"seed"`

	Kills    int    `json:"kills"`    // each inside a claim
	Skipped  uint64 `json:"skipped"`  // claims of the dead that were stepped over
	Messages uint64 `json:"messages"` // each checked

	Gap     Times `json:"gap_ns"`     // for how long nothing arrived when the claim was stepped over
	Resumed Times `json:"resumed_ns"` // from the kill to the end of that
	Own     Times `json:"skip_ns"`    // what the ring says of itself: from when the death could be known to the skip
	Quiet   Times `json:"quiet_ns"`   // the longest time without an arrival in the 20 ms before each kill
	Backlog Times `json:"backlog"`    // messages that the first poll after the gap found
	Rates   Rates `json:"rates"`
	Curve   Curve `json:"curve"`

	deaths []death
	skips  []float64
}

// Times is a distribution.
type Times struct {
	Count int     `json:"count"`
	Min   float64 `json:"min"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

// Rates are in messages a second: the median of the 20 ms before each kill, and that of the 20 ms that begin 20 ms after it.
type Rates struct {
	Before float64 `json:"before"`
	After  float64 `json:"after"`
}

func newResult(cfg Config) *Result {
	return &Result{Machine: bench.HostLine(), Workers: cfg.Workers, Capacity: cfg.Capacity, Rate: cfg.Rate, Seed: cfg.Seed}
}

func (res *Result) add(d death) {
	res.deaths = append(res.deaths, d)
	res.Kills++
}

func (res *Result) finish(err error, interrupted bool) {
	res.OK, res.Interrupted = err == nil, interrupted
	if err != nil {
		res.Error = err.Error()
	}
	each := func(f func(death) float64) Times {
		var xs []float64
		for _, d := range res.deaths {
			xs = append(xs, f(d))
		}
		return timesOf(xs)
	}
	res.Gap = each(func(d death) float64 { return float64(d.gap) })
	res.Resumed = each(func(d death) float64 { return float64(d.resumed) })
	res.Quiet = each(func(d death) float64 { return float64(d.quiet) })
	res.Backlog = each(func(d death) float64 { return float64(d.backlog) })
	res.Own = timesOf(res.skips)
	rate := func(from, to int) float64 {
		return each(func(d death) float64 {
			n := 0
			for _, k := range d.counts[from:to] {
				n += k
			}
			return float64(n) / (time.Duration(to-from) * bin).Seconds()
		}).P50
	}
	res.Rates = Rates{rate(0, binsBefore), rate(2*binsBefore, 3*binsBefore)}
	res.Curve = curveOf(res.deaths)
}

func timesOf(xs []float64) (t Times) {
	if len(xs) == 0 {
		return t
	}
	slices.Sort(xs)
	at := func(share float64) float64 { return xs[int(share*float64(len(xs)-1))] }
	return Times{len(xs), at(0), at(0.5), at(0.9), at(0.99), at(1)}
}

// setup says what was done, in two lines.
func (res *Result) setup() []string {
	rate, where := "at full speed", "where the kernel puts them"
	if res.Rate > 0 {
		rate = fmt.Sprintf("that send %s messages a second", strconv.FormatFloat(res.Rate, 'f', -1, 64))
	}
	if res.Pinned {
		where = "on one processor, the consumer on another"
	}
	return []string{
		fmt.Sprintf("%d kills, each inside a claim; %d workers %s, %s", res.Kills, res.Workers, rate, where),
		fmt.Sprintf("messages of %d B; a ring of %d KiB", messageSize, res.Capacity>>10),
	}
}

// Print writes it for people.
func (res *Result) Print(w io.Writer) error {
	fmt.Fprintf(w, "%s\n%s; %d in all, each checked\n\n", res.Machine, strings.Join(res.setup(), "\n"), res.Messages)
	if res.Kills == 0 {
		return res.printVerdict(w)
	}
	fmt.Fprintf(w, "%-58s %9s %9s %9s %9s\n", "", "p50", "p90", "p99", "longest")
	for _, row := range []struct {
		what string
		t    Times
	}{
		{"nothing arrived for", res.Gap},
		{"  its end, from the kill", res.Resumed},
		{"  of this the ring's own part, once the death can be known", res.Own},
		{"for comparison: the longest pause in 20 ms before the kill", res.Quiet},
	} {
		ms := func(ns float64) string { return fmt.Sprintf("%.3f ms", ns/1e6) }
		fmt.Fprintf(w, "%-58s %9s %9s %9s %9s\n", row.what, ms(row.t.P50), ms(row.t.P90), ms(row.t.P99), ms(row.t.Max))
	}
	fmt.Fprintf(w, "\nmillions of messages a second: %.1f before, %.1f from 20 ms after the kill on\n", res.Rates.Before/1e6, res.Rates.After/1e6)
	return res.printVerdict(w)
}

func (res *Result) printVerdict(w io.Writer) error {
	if res.Interrupted {
		fmt.Fprintln(w, "ended early, by a signal")
	}
	verdict := "OK: nothing was lost, and every claim of a dead worker was stepped over"
	if !res.OK {
		verdict = fmt.Sprintf("FAILED: %s; to try again: --seed %d", res.Error, res.Seed)
	}
	_, err := fmt.Fprintln(w, verdict)
	return err
}
