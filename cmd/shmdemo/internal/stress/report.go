package stress

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/shmrouter/shmrouter/bench"
	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/report"
	"github.com/shmrouter/shmrouter/shm"
)

// Result is a run's figures and its verdict. Times are in nanoseconds.
type Result struct {
	OK      bool   `json:"ok"`
	Seed    uint64 `json:"seed"`
	Workers int    `json:"workers"`
	CPUs    int    `json:"cpus"`

	Sent         uint64 `json:"sent"`         // meant to be, by the workers' notes
	Acknowledged uint64 `json:"acknowledged"` // sends that returned without error
	Delivered    uint64 `json:"delivered"`    // different messages that arrived whole
	Lost         uint64 `json:"lost"`
	Torn         uint64 `json:"torn"`
	Duplicated   uint64 `json:"duplicated"`
	Reordered    uint64 `json:"reordered"`

	Killed        int64  `json:"killed"`
	KilledInClaim int64  `json:"killed_in_claim"` // after they had called from inside one
	Stopped       int64  `json:"stopped"`
	ClaimsSkipped uint64 `json:"claims_skipped"` // of dead workers
	ClaimsSwept   uint64 `json:"claims_swept"`   // of these, by the next holder of their slot

	MessagesPerSecond float64  `json:"messages_per_second"`
	BytesPerSecond    float64  `json:"bytes_per_second"`
	Latency           Spread   `json:"latency_ns"`
	LatencyInStops    Spread   `json:"latency_in_stops_ns"` // of messages under way while somebody was stopped
	Recovery          Recovery `json:"recovery"`
	Stalls            Stalls   `json:"stalls"`
	PingMedian        int64    `json:"ping_median_ns"`
	RunQueueMax       int64    `json:"run_queue_wait_max_ns"` // the longest that a thread of this process waited for a processor
	PeakRSS           uint64   `json:"peak_rss_bytes"`
	Elapsed           int64    `json:"elapsed_ns"`

	Machine  string    `json:"machine"`
	Timeline *Timeline `json:"timeline,omitempty"` // where Config asks for it

	Violations []string `json:"violations"`
}

// Spread is a distribution.
type Spread struct {
	Count int64 `json:"count"`
	P50   int64 `json:"p50"`
	P99   int64 `json:"p99"`
	P999  int64 `json:"p999"`
	Max   int64 `json:"max"`
}

// Stalls are claims of living workers that held up everybody for 100 ms or more.
type Stalls struct {
	InStops      int   `json:"in_stops"`
	LongestStop  int64 `json:"in_stops_longest_ns"`
	Other        int   `json:"other"`
	LongestOther int64 `json:"other_longest_ns"`
}

// result puts everything together. The router may be stuck, and is asked for no
// longer than a moment.
func (r *Run) result() *Result {
	var s figures
	stats := make(chan figures, 1)
	go func() { stats <- r.host.main.figures() }()
	select {
	case s = <-stats:
	case <-time.After(time.Second):
	}
	sending := r.sending.Load()
	if sending == nil { // it hangs before that
		sending = r.throughput(shm.Now())
	}
	line := r.record.finish()
	a := r.book.account(r.fleet.present())
	res := &Result{
		Machine: bench.HostLine(), Timeline: line,
		Seed: r.cfg.Seed, Workers: r.cfg.Workers, CPUs: runtime.NumCPU(),
		Sent: a.sent, Acknowledged: a.acked, Delivered: a.delivered,
		Lost: a.lost, Torn: a.torn, Duplicated: a.duplicated, Reordered: a.reordered,
		Killed: r.killer.killed.Load(), KilledInClaim: r.killer.inClaim.Load(), Stopped: r.stopper.stopped.Load(),
		ClaimsSkipped: s.skippedDead + s.swept - r.before.skippedDead - r.before.swept, ClaimsSwept: s.swept - r.before.swept,
		PeakRSS: peakRSS(), Elapsed: shm.Now() - r.began,
		Violations: a.violations,
	}
	if sec := sending.took.Seconds(); sec > 0 {
		res.MessagesPerSecond, res.BytesPerSecond = float64(sending.messages)/sec, float64(sending.bytes)/sec
	}
	median, _ := r.meter.median()
	res.PingMedian = int64(median)
	r.meter.report(res, r.cfg.Soak)
	// A main process that is killed takes with it what it has counted since its last sleep.
	_, far := r.host.main.(*elsewhere)
	if want := uint64(a.heldAtEnd); !far && res.ClaimsSkipped < want {
		res.Violations = append(res.Violations, fmt.Sprintf("%d workers died inside a claim, and only %d claims were skipped", want, res.ClaimsSkipped))
	}
	if res.Acknowledged > res.Delivered && res.Lost+res.Torn == 0 {
		res.Violations = append(res.Violations, fmt.Sprintf("%d messages were acknowledged, and %d delivered", res.Acknowledged, res.Delivered))
	}
	res.OK = len(res.Violations) == 0
	if res.Violations == nil {
		res.Violations = []string{} // a list, also in JSON
	}
	return res
}

// report adds what was measured, and the recoveries that broke the bound. It is
// promised where the consumer gets a core; so it is enforced with few workers and more than
// one processor, and less what this process was late by no fault of its own.
func (m *meter) report(res *Result, soak bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	res.Latency, res.LatencyInStops = spreadOf(m.free), spreadOf(m.stopped)
	res.Recovery = m.recovered.report()
	res.Recovery.Own = spreadOf(m.recovery)
	res.Stalls = Stalls{m.stalls.inStops, int64(m.stalls.longest), m.stalls.other, int64(m.stalls.longestOther)}
	res.RunQueueMax = int64(m.lateness.longest())
	if res.Workers > 4 || res.CPUs < 2 || soak {
		return
	}
	if n := m.recovered.lost; n > 0 {
		res.Violations = append(res.Violations, fmt.Sprintf("%d killed workers' locks or claims were not gone after %v", n, time.Duration(sightMost)))
	}
	for _, l := range m.recovered.late {
		if l.beyond() > 0 {
			res.Violations = append(res.Violations, l.String())
		}
	}
}

func spreadOf(h *hdrhistogram.Histogram) Spread {
	return Spread{h.TotalCount(), h.ValueAtQuantile(50), h.ValueAtQuantile(99), h.ValueAtQuantile(99.9), h.Max()}
}

// peakRSS is the most memory this program has had, 0 if the kernel does not say.
// getrusage would count what was there before exec, too.
func peakRSS() uint64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			kib, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// Print writes the figures as a table, then the verdict.
func (res *Result) Print(w io.Writer) error {
	t := report.NewTable(2)
	t.AppendHeader(table.Row{"messages", "", ""})
	t.AppendRow(table.Row{"sent", Count(res.Sent), ""})
	t.AppendRow(table.Row{"acknowledged", Count(res.Acknowledged), ""})
	t.AppendRow(table.Row{"delivered", Count(res.Delivered), fmt.Sprintf("lost %d, torn %d, duplicated %d, reordered %d",
		res.Lost, res.Torn, res.Duplicated, res.Reordered)})
	t.AppendRow(table.Row{"rate", Count(uint64(res.MessagesPerSecond)) + " /s", ""})
	t.AppendRow(table.Row{"", Bytes(res.BytesPerSecond) + "/s", ""})
	t.AppendSeparator()
	t.AppendRow(table.Row{"latency", Time(res.Latency.P50), "median, from before Send to the handler"})
	t.AppendRow(table.Row{"", Time(res.Latency.P99), "99 %"})
	t.AppendRow(table.Row{"", Time(res.Latency.P999), "99.9 %"})
	t.AppendRow(table.Row{"", Time(res.Latency.Max), "longest"})
	t.AppendSeparator()
	t.AppendRow(table.Row{"kills", res.Killed, fmt.Sprintf("%d of them from inside a claim", res.KilledInClaim)})
	t.AppendRow(table.Row{"dead claims skipped", res.ClaimsSkipped, fmt.Sprintf("%d of them by the next holder of the slot", res.ClaimsSwept)})
	if r := res.Recovery.Skip; r.Count > 0 {
		t.AppendRow(table.Row{"recovery", Time(r.P50), "median, from the owner's lock being free to the skip"})
		t.AppendRow(table.Row{"", Time(r.Max), "longest"})
	}
	t.AppendRow(table.Row{"stops", res.Stopped, ""})
	if res.LatencyInStops.Count > 0 {
		t.AppendRow(table.Row{"latency in stops", Time(res.LatencyInStops.P50), "median"})
		t.AppendRow(table.Row{"", Time(res.LatencyInStops.Max), "longest"})
	}
	t.AppendRow(table.Row{"stalls", res.Stalls.InStops, "a stopped worker's claim held up everybody for 100 ms or more"})
	if res.Stalls.Other > 0 {
		t.AppendRow(table.Row{"", res.Stalls.Other, "a running worker's claim did, for up to " + Time(res.Stalls.LongestOther) + " or more"})
	}
	t.AppendSeparator()
	t.AppendRow(table.Row{"wake", Time(res.PingMedian), "median, a message to the sleeping router"})
	t.AppendRow(table.Row{"peak memory", Bytes(float64(res.PeakRSS)), "main process"})
	t.AppendRow(table.Row{"elapsed", Time(res.Elapsed), fmt.Sprintf("seed %d, %d workers on %d processors", res.Seed, res.Workers, res.CPUs)})
	var more strings.Builder
	if res.Killed > 0 {
		res.Recovery.Print(&more)
	}
	out := t.Render() + "\n" + more.String()
	out += report.Verdict(res.Violations, res.OK, "nothing lost, torn, duplicated or reordered", "", res.Seed)
	_, err := io.WriteString(w, out)
	return err
}

// Count writes a number with a comma between groups of three digits.
func Count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Bytes writes a size with up to four digits.
func Bytes(n float64) string {
	for _, unit := range []string{"B", "KiB", "MiB"} {
		if n < 1024 {
			return fmt.Sprintf("%.4g %s", n, unit)
		}
		n /= 1024
	}
	return fmt.Sprintf("%.4g GiB", n)
}

// Time writes a time with three or four digits.
func Time(n int64) string {
	d := time.Duration(n)
	for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
		if d >= unit {
			return d.Round(unit / 1000).String()
		}
	}
	return d.String()
}
