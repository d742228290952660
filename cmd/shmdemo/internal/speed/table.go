package speed

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/shmrouter/shmrouter/bench"
)

// rivalName is how the table speaks of a transport.
func rivalName(t bench.Transport, walk bool) string {
	switch {
	case walk:
		return "sockets into a channel"
	case t == bench.Unix:
		return "unix socket"
	case t == bench.Channel:
		return "Go channel"
	}
	return string(t)
}

// Print writes the figures as a table.
func (res *Result) Print(w io.Writer) error {
	var out strings.Builder
	fmt.Fprintf(&out, "%s\n%s\n", res.Machine, res.where())
	for _, n := range res.Notes {
		fmt.Fprintln(&out, n)
	}
	if len(res.Rows) > 0 {
		fmt.Fprintf(&out, "%s\n%s", res.table(), legend)
	}
	switch {
	case !res.OK:
		fmt.Fprintf(&out, "FAILED: %s\n", res.Error)
	case res.Interrupted:
		fmt.Fprintln(&out, "Interrupted: this is what was measured until then.")
	}
	_, err := io.WriteString(w, out.String())
	return err
}

const legend = `Below each row's ratios is what the other one did. A ratio is how many times better the ring is: the median of the pairs', and in
brackets the middle half of them. Every message was received by another process (a channel's: by another goroutine) and checked.
Floors: how often two processors could have shown each other a cache line, there and back, in the time that a message took.
CPU: processor time of both sides for a message, without the sender's pacing. "Worker to handler" is the router, beside a goroutine
for each unix socket that feeds one channel.
`

// where says how the processes were placed, and what the floor said.
func (res *Result) where() string {
	line := "Placed by the kernel"
	if res.Pinned {
		line = "Senders pinned to one processor, receiver to another; channels, routers and their workers placed by the kernel"
	}
	if res.Floor == nil {
		return line + "."
	}
	var states []string
	for _, s := range slices.Sorted(maps.Keys(res.State)) {
		states = append(states, fmt.Sprintf("%d pairs %s", res.State[s], s))
	}
	return fmt.Sprintf("%s.\nCache-line floor %s (%s–%s), there and back: %s.", line,
		nanoseconds(res.Floor.P50), nanoseconds(res.Floor.P25), nanoseconds(res.Floor.P75), strings.Join(states, ", "))
}

// columns of rivals, in order. What a walk is beside stands with the sockets.
var columns = []bench.Transport{bench.Pipe, bench.Unix, bench.Channel}

func (res *Result) table() string {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Options.SeparateColumns = false
	t.Style().Format.Header = text.FormatDefault
	head := table.Row{"", "the ring"}
	right := []table.ColumnConfig{{Number: 2, Align: text.AlignRight, AlignHeader: text.AlignRight}}
	for i, c := range columns {
		head = append(head, "beside "+rivalName(c, false))
		right = append(right, table.ColumnConfig{Number: i + 3, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(right)
	t.AppendHeader(head)
	for _, row := range res.Rows {
		t.AppendSeparator()
		for _, line := range row.lines() {
			t.AppendRow(line)
		}
	}
	return t.Render()
}

// lines of one row: the ratios, and below them the others' figures and what else there is.
func (row *Row) lines() []table.Row {
	var p99, cpu, floors string
	if row.P99 != nil {
		p99 = "p99 " + nanoseconds(row.P99.P50)
	}
	if row.CPU != nil {
		cpu = "CPU " + nanoseconds(row.CPU.P50)
	}
	if row.Floors > 0 {
		floors = fmt.Sprintf("%s floors", digits(row.Floors))
	}
	first := table.Row{row.Title, row.value(row.Ours.P50)}
	second := table.Row{fmt.Sprintf("  pairs with each: %d", row.pairs()), floors}
	third := table.Row{"", p99}
	fourth := table.Row{"", cpu}
	for _, c := range columns {
		i := slices.IndexFunc(row.Against, func(a Against) bool { return a.Transport == string(c) })
		if i < 0 {
			first, second, third, fourth = append(first, ""), append(second, ""), append(third, ""), append(fourth, "")
			continue
		}
		a := row.Against[i]
		first = append(first, fmt.Sprintf("%s (%s–%s)", digits(a.Ratio.P50), digits(a.Ratio.P25), digits(a.Ratio.P75)))
		second = append(second, row.value(a.Theirs.P50))
		var theirs99, theirsCPU string
		if a.P99 != nil {
			theirs99 = "p99 " + nanoseconds(a.P99.P50)
		}
		if a.CPU != nil {
			theirsCPU = "CPU " + nanoseconds(a.CPU.P50)
		}
		if a.CPUShare != nil {
			theirsCPU += fmt.Sprintf(", ours %s of it", digits(a.CPUShare.P50))
		}
		third, fourth = append(third, theirs99), append(fourth, theirsCPU)
	}
	lines := []table.Row{first, second}
	if p99 != "" {
		lines = append(lines, third)
	}
	if cpu != "" {
		lines = append(lines, fourth)
	}
	return lines
}

// pairs is the least number of them in the row.
func (row *Row) pairs() int {
	n := math.MaxInt
	for _, a := range row.Against {
		n = min(n, len(a.Pairs))
	}
	return n
}

func (row *Row) value(x float64) string {
	if row.Unit == "ns" {
		return nanoseconds(x)
	}
	for _, unit := range []struct {
		size float64
		name string
	}{{1e6, "M/s"}, {1e3, "k/s"}} {
		if x >= unit.size {
			return digits(x/unit.size) + " " + unit.name
		}
	}
	return digits(x) + " /s"
}

// nanoseconds writes a time with three digits.
func nanoseconds(x float64) string {
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{time.Second, "s"}, {time.Millisecond, "ms"}, {time.Microsecond, "µs"}} {
		if math.Abs(x) >= float64(unit.size) {
			return digits(x/float64(unit.size)) + " " + unit.name
		}
	}
	return digits(x) + " ns"
}

// digits writes three of them, and all those before the point.
func digits(x float64) string {
	after := 0
	if a := math.Abs(x); a > 0 && a < 100 {
		after = min(4, 2-int(math.Floor(math.Log10(a))))
	}
	return strconv.FormatFloat(x, 'f', after, 64)
}
