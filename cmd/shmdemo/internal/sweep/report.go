package sweep

import (
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/report"
)

// Result is what a sweep has found.
type Result struct {
	OK         bool        `json:"ok"`       // the verdict over what was tried
	Complete   bool        `json:"complete"` // every recorded point was killed at least once
	Operations []Operation `json:"operations"`
	All        Counts      `json:"all"` // sums
	Pairs      Pairs       `json:"pairs"`
	Violations []Violation `json:"violations"`
	Seed       uint64      `json:"seed"`
	Elapsed    int64       `json:"elapsed_ns"`
	EndedEarly bool        `json:"ended_early"` // it was interrupted, or given up
}

// Operation is what was done to the victims of one operation.
type Operation struct {
	Name string `json:"name"`
	Counts

	violations int
}

// Counts are of the points of one operation, or of all.
type Counts struct {
	Points    int `json:"points"`    // recorded
	Sampled   int `json:"sampled"`   // of these, to be tried: all, but for a sample
	Tried     int `json:"tried"`     // of these, a victim was sent there to be killed
	Killed    int `json:"killed"`    // of these, it came there, and was killed
	Dropped   int `json:"dropped"`   // tried, not in every recording, and no victim came there in as many tries as each point has
	Stopped   int `json:"stopped"`   // points at which one stood while the others went on: of a sample, a third
	Recovered int `json:"recovered"` // claims of the dead that were stepped over
}

func (c *Counts) add(o Counts) {
	c.Points += o.Points
	c.Sampled += o.Sampled
	c.Tried += o.Tried
	c.Killed += o.Killed
	c.Dropped += o.Dropped
	c.Stopped += o.Stopped
	c.Recovered += o.Recovered
}

// extent says how much of what was recorded the counts are about.
func (c Counts) extent() string {
	switch {
	case c.Killed == c.Points:
		return ""
	case c.Sampled < c.Points:
		return fmt.Sprintf("a sample of %d of %d points", c.Sampled, c.Points)
	}
	return fmt.Sprintf("%d of %d points", c.Killed, c.Points)
}

// Pairs are the tries with two victims. Where the first one stands or has died, the second may go another way than
// it was recorded: it does not come to its point then, and such a try is judged, but shows nothing of that pair.
type Pairs struct {
	Tried    int `json:"tried"`
	Reached  int `json:"reached"`  // both came to their points
	Missed   int `json:"missed"`   // not both
	Required int `json:"required"` // Reached is at least that, or it is a violation
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
		Pairs: s.pairs, Violations: slices.Clone(s.violations), Seed: s.cfg.Seed, Elapsed: int64(time.Since(s.began)),
		EndedEarly: !ended || s.cfg.GiveUp > 0 && s.bad >= s.cfg.GiveUp, Complete: true,
	}
	if r.Pairs.judge(); r.Pairs.Reached < r.Pairs.Required {
		r.Violations = append(r.Violations, Violation{
			Operation: "pairs", Point: fmt.Sprintf("%d tries", r.Pairs.Tried),
			What: fmt.Sprintf("both victims came to their points in %d of them, and at least %d are required", r.Pairs.Reached, r.Pairs.Required),
		})
	}
	r.OK = !r.EndedEarly && len(r.Violations) == 0
	for _, a := range s.ops {
		r.Operations = append(r.Operations, Operation{a.op.name, a.Counts, a.violations})
		r.All.add(a.Counts)
		r.Complete = r.Complete && a.Points > 0 && a.Killed == a.Points
		stopped := s.cfg.NoPause || s.cfg.Sample > 0 || a.Stopped+a.unstopped == a.Points
		if a.Killed == 0 || a.Killed+a.Dropped != a.Sampled || !stopped {
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
	t := report.NewTable(6)
	t.AppendHeader(table.Row{"operation", "points", "tried", "killed", "stopped", "recovered", ""})
	for _, o := range r.Operations {
		verdict := "ok"
		if o.violations > 0 {
			verdict = fmt.Sprintf("%d VIOLATIONS", o.violations)
		}
		if e := o.extent(); e != "" {
			verdict += ", " + e
		}
		t.AppendRow(table.Row{o.Name, o.Points, o.Tried, o.Killed, o.Stopped, o.Recovered, verdict})
	}
	t.AppendFooter(table.Row{"all", r.All.Points, r.All.Tried, r.All.Killed, r.All.Stopped, r.All.Recovered, r.Pairs.String()})
	took := time.Duration(r.Elapsed).Round(100 * time.Millisecond)
	good := "nothing lost, torn or repeated, and everybody got on"
	if e := r.All.extent(); e != "" {
		good += ", in " + e
	}
	bad := fmt.Sprintf(", after %v", took)
	if r.EndedEarly {
		bad = ": ended early" + bad
	}
	out := t.Render() + "\n" + report.Verdict(r.Violations, r.OK, fmt.Sprintf("%s (%v, seed %d)", good, took, r.Seed), bad, r.Seed)
	_, err := io.WriteString(w, out)
	return err
}

func (p Pairs) String() string {
	if p.Missed == 0 {
		return fmt.Sprintf("%d pairs", p.Reached)
	}
	return fmt.Sprintf("%d pairs, %d missed", p.Reached, p.Missed)
}

// Of PairsFrom tries or more, both victims have to come to their points in a share of PairsLeast: else it is not pairs
// what is tried. It is some 94 %; fewer tries say nothing of that.
const (
	PairsLeast = 0.75
	PairsFrom  = 40
)

func (p *Pairs) judge() {
	if p.Tried >= PairsFrom {
		p.Required = int(math.Ceil(PairsLeast * float64(p.Tried)))
	}
}
