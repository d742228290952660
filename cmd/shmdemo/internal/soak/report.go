package soak

import (
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/shmrouter/shmrouter/bench"
	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/report"
	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/stress"
)

// Result is a soak's figures and its verdict. Times are in nanoseconds.
type Result struct {
	OK      bool   `json:"ok"`
	Seed    uint64 `json:"seed"`
	CPUs    int    `json:"cpus"`
	Elapsed int64  `json:"elapsed_ns"`
	Epochs  int    `json:"epochs"`
	Machine string `json:"machine"`
	WarmUp  int    `json:"warm_up_epochs"` // of these, not measured

	Arenas    []Arena    `json:"arenas"`
	Resources []Resource `json:"resources"`
	Names     []string   `json:"value_names"` // of the values in the samples
	Rests     []Sample   `json:"rests"`
	Windows   []Window   `json:"windows"`

	Violations []string `json:"violations"`
}

// Arena is the sum of the runs on one router.
type Arena struct {
	Name          string `json:"name"`
	Runs          int    `json:"runs"`
	Sent          uint64 `json:"sent"`
	Acknowledged  uint64 `json:"acknowledged"`
	Delivered     uint64 `json:"delivered"`
	Lost          uint64 `json:"lost"`
	Torn          uint64 `json:"torn"`
	Duplicated    uint64 `json:"duplicated"`
	Reordered     uint64 `json:"reordered"`
	Killed        int64  `json:"killed"`
	KilledInClaim int64  `json:"killed_in_claim"`
	Stopped       int64  `json:"stopped"`
	ClaimsSkipped uint64 `json:"claims_skipped"`
	ClaimsSwept   uint64 `json:"claims_swept"`
	stress.Extra

	Latency        stress.Spread   `json:"latency_ns"`
	LatencyInStops stress.Spread   `json:"latency_in_stops_ns"`
	Recovery       stress.Recovery `json:"recovery"`

	delivered, killed *atomic.Int64 // for the display
}

func newArena(name string) Arena {
	return Arena{Name: name, delivered: new(atomic.Int64), killed: new(atomic.Int64)}
}

// add takes a run's result. Distributions are of the arena, from its beginning.
func (a *Arena) add(r *stress.Result, x stress.Extra) {
	a.Runs++
	a.Sent += r.Sent
	a.Acknowledged += r.Acknowledged
	a.Delivered += r.Delivered
	a.Lost += r.Lost
	a.Torn += r.Torn
	a.Duplicated += r.Duplicated
	a.Reordered += r.Reordered
	a.Killed += r.Killed
	a.KilledInClaim += r.KilledInClaim
	a.Stopped += r.Stopped
	a.ClaimsSkipped += r.ClaimsSkipped
	a.ClaimsSwept += r.ClaimsSwept
	a.Extra.Add(x)
	a.Latency, a.LatencyInStops, a.Recovery = r.Latency, r.LatencyInStops, r.Recovery
	a.delivered.Store(int64(a.Delivered))
	a.killed.Store(a.Killed)
}

func (a *Arena) progress() (delivered uint64, killed int64) {
	return uint64(a.delivered.Load()), a.killed.Load()
}

func (s *Soak) result() *Result {
	res := &Result{
		Machine: bench.HostLine(), Seed: s.cfg.Seed, CPUs: runtime.NumCPU(), Elapsed: int64(time.Since(s.began)), Epochs: len(s.windows), WarmUp: warmUp(len(s.rests)),
		Rests: s.rests, Windows: s.windows, Violations: []string{}, OK: true,
	}
	for _, a := range s.arenas {
		res.Arenas = append(res.Arenas, a.total)
	}
	for _, k := range kinds {
		res.Names = append(res.Names, k.name)
	}
	var grown []string
	res.Resources, grown = s.judge()
	for _, v := range append(s.violations, grown...) {
		res.violate(v)
	}
	return res
}

func (res *Result) violate(v string) {
	res.OK = false
	res.Violations = append(res.Violations, v)
}

// Print writes the figures as tables, then the verdict.
func (res *Result) Print(w io.Writer) error {
	t := report.NewTable(8)
	head := table.Row{"arena"}
	rows := []table.Row{{"runs"}, {"sent"}, {"acknowledged"}, {"delivered"}, {"lost, torn, twice, reordered"}, {"kills"}, {"  inside a claim"}, {"stops"},
		{"dead claims skipped"}, {"pipes in the main process"}, {"main process killed"}, {"  stopped, in order"}, {"redelivered, marked"}, {"latency p50"}, {"  p99"}, {"recovery p50"}, {"  p99"}, {"  longest"}}
	for _, a := range res.Arenas {
		head = append(head, a.Name)
		for i, v := range []any{a.Runs, stress.Count(a.Sent), stress.Count(a.Acknowledged), stress.Count(a.Delivered),
			fmt.Sprint(a.Lost, ", ", a.Torn, ", ", a.Duplicated, ", ", a.Reordered), a.Killed, a.KilledInClaim, a.Stopped, a.ClaimsSkipped, stress.Count(a.LocalPipes), a.MainKilled, a.MainStopped, stress.Count(uint64(a.Redelivered)),
			stress.Time(a.Latency.P50), stress.Time(a.Latency.P99), stress.Time(a.Recovery.Skip.P50), stress.Time(a.Recovery.Skip.P99), stress.Time(a.Recovery.Skip.Max)} {
			rows[i] = append(rows[i], v)
		}
	}
	t.AppendHeader(head)
	t.AppendRows(rows)
	out := t.Render() + "\n"

	t = report.NewTable(8)
	t.AppendHeader(table.Row{"resource", "at rest: first", "last", "per hour", "at work: first", "last", "per hour", "most"})
	for _, r := range res.Resources {
		t.AppendRow(table.Row{r.Name, r.Text(r.AtRest.First), r.Text(r.AtRest.Last), r.Text(r.AtRest.PerHour),
			r.Text(r.AtWork.First), r.Text(r.AtWork.Last), r.Text(r.AtWork.PerHour), r.Text(r.AtWork.Most)})
	}
	out += t.Render() + "\n"
	out += fmt.Sprintf("%d epochs, of which %d to warm up, %s, seed %d, %d processors\n", res.Epochs, res.WarmUp, stress.Time(res.Elapsed), res.Seed, res.CPUs)
	out += report.Verdict(res.Violations, res.OK, "nothing lost, torn, duplicated or reordered, and nothing grows", "", res.Seed)
	_, err := io.WriteString(w, out)
	return err
}

// Text writes a value or a change of r.
func (r Resource) Text(v float64) string {
	if !r.Bytes {
		return fmt.Sprintf("%.4g", v)
	}
	if v < 0 {
		return "-" + stress.Bytes(-v)
	}
	return stress.Bytes(v)
}
