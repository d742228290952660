package speed

import (
	"runtime"
	"time"

	"github.com/shmrouter/shmrouter/bench"
)

// Result is the table's figures. Times are in nanoseconds, rates in messages a second. A ratio is how many times better
// ours is, and its median that of the pairs' ratios.
type Result struct {
	OK          bool     `json:"ok"`
	Error       string   `json:"error,omitempty"`
	Interrupted bool     `json:"interrupted"` // by a signal; what was measured until then is here
	Machine     string   `json:"machine"`
	Processors  int      `json:"processors"`
	Quota       float64  `json:"quota,omitempty"` // of processors
	Pinned      bool     `json:"pinned"`          // senders on one processor, receiver on another; walks and channels never are
	Notes       []string `json:"notes"`

	Floor *Spread        `json:"floor_ns,omitempty"` // round trip of two cache lines
	State map[string]int `json:"pairs_by_state"`

	Rows    []Row `json:"rows"`
	Each    int64 `json:"each_ns"` // of a run
	Elapsed int64 `json:"elapsed_ns"`
}

// Row is one way of using the ring.
type Row struct {
	Name      string  `json:"name"`
	Title     string  `json:"title"`
	Unit      string  `json:"unit"` // of ours and theirs: msgs/s or ns
	Size      int     `json:"size"`
	Batch     int     `json:"batch"`
	Producers int     `json:"producers"`
	Rate      int     `json:"rate,omitempty"` // of paced messages
	Wait      string  `json:"wait"`           // how the ring's consumer waits: adaptive, busy, asleep
	Ours      Spread  `json:"ours"`           // in all pairs of the row
	P99       *Spread `json:"ours_p99_ns,omitempty"`
	CPU       *Spread `json:"ours_cpu_ns,omitempty"` // processor time of both sides for a message
	Floors    float64 `json:"floors,omitempty"`      // our time for a message, in floors

	Against []Against `json:"against"`
}

// Against is a row's ring beside another transport.
type Against struct {
	Transport string            `json:"transport"`
	Ratio     Spread            `json:"ratio"`
	ByState   map[string]Spread `json:"ratio_by_state"`
	Ours      Spread            `json:"ours"`
	Theirs    Spread            `json:"theirs"`
	P99       *Spread           `json:"theirs_p99_ns,omitempty"`
	CPU       *Spread           `json:"theirs_cpu_ns,omitempty"`
	CPUShare  *Spread           `json:"cpu_share,omitempty"` // ours, of theirs: less is better
	Pairs     []Pair            `json:"pairs"`
}

// Pair is two runs, one after the other.
type Pair struct {
	Ours   Figures    `json:"ours"`
	Theirs Figures    `json:"theirs"`
	Ratio  float64    `json:"ratio"`
	Floor  [3]float64 `json:"floor_ns"` // before, between, after; 0 where there is none
	State  string     `json:"state"`
}

// Figures are those of one run. CPU is that of both sides for a message, without the sender's pacing; as a difference it may
// be below nothing.
type Figures struct {
	Value float64 `json:"value"`
	P99   float64 `json:"p99_ns,omitempty"`
	CPU   float64 `json:"cpu_ns,omitempty"`
	Rate  float64 `json:"rate,omitempty"` // of paced messages: what was kept
}

// Spread is a median and how far the figures lie apart.
type Spread struct {
	N   int     `json:"n"`
	P50 float64 `json:"median"`
	P25 float64 `json:"p25"`
	P75 float64 `json:"p75"`
	Min float64 `json:"min"`
	Max float64 `json:"max"`
}

func spreadOf(xs []float64) Spread {
	s := bench.SpreadOf(xs)
	return Spread{s.N, s.P50, s.P25, s.P75, s.Min, s.Max}
}

// spreadIfAny is nil for no figures.
func spreadIfAny(xs []float64) *Spread {
	if len(xs) == 0 {
		return nil
	}
	s := spreadOf(xs)
	return &s
}

// result puts together what there is.
func (r *run) result(err error, interrupted bool) *Result {
	res := &Result{
		OK: err == nil, Interrupted: interrupted && err == nil,
		Machine: bench.HostLine(), Processors: runtime.NumCPU(), Quota: bench.Quota(), Pinned: r.pinned,
		Notes: append([]string{}, r.notes...), State: map[string]int{}, Rows: []Row{},
		Each: int64(r.cfg.Each), Elapsed: int64(time.Since(r.began)),
	}
	if err != nil {
		res.Error = err.Error()
	}
	var floors []float64
	for _, q := range r.questions {
		if q.bout == nil || len(q.bout.Pairs()) == 0 {
			continue
		}
		a := q.against()
		for _, p := range a.Pairs {
			res.State[p.State]++
			for _, f := range p.Floor {
				if f > 0 {
					floors = append(floors, f)
				}
			}
		}
		if n := len(res.Rows); n == 0 || res.Rows[n-1].Name != q.row.name {
			res.Rows = append(res.Rows, q.row.begin())
		}
		row := &res.Rows[len(res.Rows)-1]
		row.Against = append(row.Against, a)
	}
	if res.Floor = spreadIfAny(floors); res.Floor == nil {
		res.State = map[string]int{}
	}
	for i := range res.Rows {
		res.Rows[i].sumUp()
	}
	return res
}

// begin is a row without figures.
func (r row) begin() Row {
	unit := "ns"
	if r.rate() {
		unit = "msgs/s"
	}
	wait := map[bench.Wait]string{bench.Default: "adaptive", bench.Spin: "busy", bench.Sleep: "asleep"}[r.ask.Wait]
	return Row{
		Name: r.name, Title: r.title, Unit: unit,
		Size: r.ask.Size, Batch: max(1, r.ask.Batch), Producers: r.senders, Rate: r.ask.Rate, Wait: wait,
	}
}

// sumUp adds what all pairs of the row say of ours.
func (row *Row) sumUp() {
	var ours, p99, cpu, floors []float64
	for _, a := range row.Against {
		for _, p := range a.Pairs {
			ours = append(ours, p.Ours.Value)
			if p.Ours.P99 > 0 {
				p99 = append(p99, p.Ours.P99)
			}
			if row.Rate > 0 {
				cpu = append(cpu, p.Ours.CPU)
			}
			ns := p.Ours.Value
			if row.Unit == "msgs/s" {
				ns = 1e9 / ns
			}
			if p.Floor[0] > 0 {
				floors = append(floors, 3*ns/(p.Floor[0]+p.Floor[1]+p.Floor[2]))
			}
		}
	}
	row.Ours, row.P99, row.CPU = spreadOf(ours), spreadIfAny(p99), spreadIfAny(cpu)
	if len(floors) > 0 {
		row.Floors = spreadOf(floors).P50
	}
}

// against sums up the pairs of a question.
func (q *question) against() Against {
	a := Against{Transport: string(q.rival), ByState: map[string]Spread{}}
	var ratio, ours, theirs, p99, cpu, share []float64
	states := map[string][]float64{}
	for _, p := range q.bout.Pairs() {
		one := Pair{Ours: q.row.figures(p.Ours), Theirs: q.row.figures(p.Theirs), Floor: p.Floor, State: string(p.State())}
		one.Ratio = one.Theirs.Value / one.Ours.Value
		if q.row.rate() {
			one.Ratio = one.Ours.Value / one.Theirs.Value
		}
		a.Pairs = append(a.Pairs, one)
		ratio, ours, theirs = append(ratio, one.Ratio), append(ours, one.Ours.Value), append(theirs, one.Theirs.Value)
		states[one.State] = append(states[one.State], one.Ratio)
		if one.Theirs.P99 > 0 {
			p99 = append(p99, one.Theirs.P99)
		}
		if q.row.ask.Rate > 0 {
			cpu = append(cpu, one.Theirs.CPU)
			if one.Theirs.CPU > 0 {
				share = append(share, one.Ours.CPU/one.Theirs.CPU)
			}
		}
	}
	a.Ratio, a.Ours, a.Theirs = spreadOf(ratio), spreadOf(ours), spreadOf(theirs)
	a.P99, a.CPU, a.CPUShare = spreadIfAny(p99), spreadIfAny(cpu), spreadIfAny(share)
	for state, ratios := range states {
		a.ByState[state] = spreadOf(ratios)
	}
	return a
}

// figures of one run.
func (r row) figures(p bench.Paced) (f Figures) {
	if r.rate() {
		return Figures{Value: 1e9 / p.Result.PerMessage()}
	}
	f = Figures{Value: float64(p.Latency.P50), P99: float64(p.Latency.P99)}
	if r.ask.Rate > 0 {
		f.CPU, f.Rate = float64(p.Sender+p.Receiver), p.Rate
	}
	return f
}
