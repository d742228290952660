package sweep

import (
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Result is what a sweep has found.
type Result struct {
	OK         bool        `json:"ok"`
	Operations []Operation `json:"operations"`
	Pairs      int         `json:"pairs"` // tries with two victims
	Violations []Violation `json:"violations"`
	Seed       uint64      `json:"seed"`
	Elapsed    int64       `json:"elapsed_ns"`
	Ended      bool        `json:"complete"` // it was neither interrupted nor given up
}

// Operation is what was done to the victims of one operation.
type Operation struct {
	Name      string `json:"name"`
	Points    int    `json:"points"`    // recorded, but those dropped
	Dropped   int    `json:"dropped"`   // not in every recording, and no victim came there in as many tries as each point has
	Killed    int    `json:"killed"`    // points at which a victim was killed
	Stopped   int    `json:"stopped"`   // points at which one stood while the others went on
	Recovered int    `json:"recovered"` // claims of the dead that were stepped over

	violations int
}

// Violation is something that must not happen.
type Violation struct {
	Operation string `json:"operation"`
	Point     string `json:"point"`
	What      string `json:"what"`
}

func (v Violation) String() string { return fmt.Sprintf("%s, %s: %s", v.Operation, v.Point, v.What) }

func (s *sweep) result(ended bool) *Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &Result{
		Pairs: s.pairs, Violations: s.violations, Seed: s.cfg.Seed, Elapsed: int64(time.Since(s.began)),
		Ended: ended && (s.cfg.GiveUp == 0 || s.bad < s.cfg.GiveUp),
	}
	r.OK = r.Ended && len(r.Violations) == 0
	for _, a := range s.ops {
		points := len(a.points) + len(a.rare) - a.dropped
		r.Operations = append(r.Operations, Operation{a.op.name, points, a.dropped, a.killed, a.stopped, a.recovered, a.violations})
		whole := a.killed == points && (s.cfg.NoPause || a.stopped+a.unstopped == len(a.points)+len(a.rare))
		if a.killed == 0 || s.cfg.Sample == 0 && !whole {
			r.OK = false
		}
	}
	if r.Violations == nil {
		r.Violations = []Violation{} // a list, also in JSON
	}
	return r
}

// Print writes a table, and what was wrong.
func (r *Result) Print(w io.Writer) error {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Options.SeparateColumns = false
	t.Style().Format.Header = text.FormatDefault
	t.Style().Format.Footer = text.FormatDefault
	var columns []table.ColumnConfig
	for n := 2; n <= 5; n++ {
		columns = append(columns, table.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight, AlignFooter: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	t.AppendHeader(table.Row{"operation", "points", "killed", "stopped", "recovered", ""})
	var all Operation
	for _, o := range r.Operations {
		verdict := "ok"
		switch {
		case o.violations > 0:
			verdict = fmt.Sprintf("%d VIOLATIONS", o.violations)
		case o.Killed < o.Points:
			verdict = "ok, a sample"
		}
		t.AppendRow(table.Row{o.Name, o.Points, o.Killed, o.Stopped, o.Recovered, verdict})
		all.Points += o.Points
		all.Killed += o.Killed
		all.Stopped += o.Stopped
		all.Recovered += o.Recovered
	}
	t.AppendFooter(table.Row{"all", all.Points, all.Killed, all.Stopped, all.Recovered, fmt.Sprintf("%d pairs", r.Pairs)})
	out := t.Render() + "\n"
	for _, v := range r.Violations {
		out += "VIOLATION: " + v.String() + "\n"
	}
	took := time.Duration(r.Elapsed).Round(100 * time.Millisecond)
	switch {
	case r.OK:
		out += fmt.Sprintf("OK: nothing lost, torn or repeated, and everybody got on (%v, seed %d)\n", took, r.Seed)
	case !r.Ended:
		out += fmt.Sprintf("FAILED: ended early, after %v; to try again: --seed %d\n", took, r.Seed)
	default:
		out += fmt.Sprintf("FAILED, after %v; to try again: --seed %d\n", took, r.Seed)
	}
	_, err := io.WriteString(w, out)
	return err
}
