package page

import (
	"fmt"
	"html/template"
	"io"
	"time"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/picture"
	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/soak"
	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/stress"
)

// Soak writes the page of a soak.
func Soak(w io.Writer, res *soak.Result, asked Asked) error {
	p := &page{
		Title: "shmdemo: soak", OK: res.OK, Violations: res.Violations, Asked: asked, Machine: res.Machine,
		Sentence: "Nothing lost, torn, duplicated or reordered, and nothing grows.", Tiles: soakTiles(res),
	}
	if !res.OK {
		p.Sentence = fmt.Sprintf("Something was wrong. The same choices are made again with seed %d.", res.Seed)
	}
	p.Sections = append(p.Sections, resourcesOf(res), section{Title: "Counts", Tables: []table{arenasOf(res)}})
	return p.write(w)
}

func soakTiles(res *soak.Result) []tile {
	var sum soak.Arena
	for _, a := range res.Arenas {
		sum.Acknowledged += a.Acknowledged
		sum.Delivered += a.Delivered
		sum.Lost, sum.Torn, sum.Duplicated, sum.Reordered = sum.Lost+a.Lost, sum.Torn+a.Torn, sum.Duplicated+a.Duplicated, sum.Reordered+a.Reordered
		sum.Killed += a.Killed
		sum.KilledInClaim += a.KilledInClaim
		sum.Stopped += a.Stopped
		sum.MainKilled += a.MainKilled
		sum.MainStopped += a.MainStopped
		sum.Redelivered += a.Redelivered
	}
	grown := 0
	for _, r := range res.Resources {
		if r.AtRest.Grew || r.AtWork.Grew {
			grown++
		}
	}
	return []tile{
		{"delivered", "delivered", stress.Count(sum.Delivered), fmt.Sprintf("messages; %s were acknowledged", stress.Count(sum.Acknowledged))},
		{"wrong", "wrong messages", stress.Count(sum.Lost + sum.Torn + sum.Duplicated + sum.Reordered),
			fmt.Sprintf("lost %d, torn %d, duplicated %d, reordered %d", sum.Lost, sum.Torn, sum.Duplicated, sum.Reordered)},
		{"grown", "resources that grow", fmt.Sprint(grown), fmt.Sprintf("of %d that were watched", len(res.Resources))},
		{"elapsed", "elapsed", time.Duration(res.Elapsed).Round(time.Second).String(), fmt.Sprintf("%d epochs, of which %d to warm up", res.Epochs, res.WarmUp)},
		{"kills", "workers killed", stress.Count(uint64(sum.Killed)), fmt.Sprintf("%s of them inside a claim", stress.Count(uint64(sum.KilledInClaim)))},
		{"stops", "workers stopped", stress.Count(uint64(sum.Stopped)), "and continued"},
		{"mains", "main process killed", stress.Count(uint64(sum.MainKilled)), fmt.Sprintf("and %d times stopped in order, and resumed", sum.MainStopped)},
		{"redelivered", "delivered again", stress.Count(uint64(sum.Redelivered)), "marked as such, by a main process that resumed"},
	}
}

// resourcesOf has a small drawing of each thing that must not grow.
func resourcesOf(res *soak.Result) section {
	s := section{
		Many:   true,
		Title:  "What the main process uses",
		Intro:  "Between two epochs everything is taken down; what the process still holds then must not grow along a line fitted through all rests behind the warm-up. At work the least of each epoch is looked at; epochs with 200 workers are left out.",
		Legend: []key{{"one", "at rest, between two epochs"}, {"three", "at work, the least of each epoch"}, {"shade", "warm-up, not judged"}},
	}
	for i, r := range res.Resources {
		s.Figures = append(s.Figures, resource(res, i, r))
	}
	t := table{ID: "resources", Title: "The same as a table", Long: true,
		Head: []string{"resource", "at rest: first", "last", "per hour", "growth", "allowed", "at work: first", "last", "per hour", "growth", "allowed"}}
	for _, r := range res.Resources {
		row := []string{r.Name}
		for _, w := range []soak.Trend{r.AtRest, r.AtWork} {
			row = append(row, r.Text(w.First), r.Text(w.Last), r.Text(w.PerHour), r.Text(w.Growth), r.Text(w.Allowed))
		}
		t.Rows = append(t.Rows, row)
	}
	s.Tables = []table{t}
	return s
}

func resource(res *soak.Result, i int, r soak.Resource) figure {
	var rest, work []picture.Point
	var top float64
	var warm int64
	for k, v := range res.Rests {
		rest = append(rest, picture.Point{X: float64(v.At), Y: float64(v.Value[i])})
		top = max(top, float64(v.Value[i]))
		if k < res.WarmUp {
			warm = v.At
		}
	}
	for _, w := range res.Windows {
		if !w.Crowd && w.Samples > 0 {
			work = append(work, picture.Point{X: float64(w.At), Y: float64(w.Least[i])})
			top = max(top, float64(w.Least[i]))
		}
	}
	label := func(v float64) string { return fmt.Sprintf("%g", v) }
	scale, unit := 1.0, ""
	if r.Bytes {
		scale, unit = 1<<20, "MiB"
		for _, points := range [][]picture.Point{rest, work} {
			for k := range points {
				points[k].Y /= scale
			}
		}
	}
	y, rows := picture.UpTo(max(top/scale, 2), 2, label)
	x, columns := picture.Clock(time.Duration(res.Elapsed), 5)
	id := fmt.Sprintf("resource-%d", i)
	about := fmt.Sprintf("at rest from %s to %s", r.Text(r.AtRest.First), r.Text(r.AtRest.Last))
	c := picture.NewChart(id+"-chart", 100, x, y, r.Name, about)
	if warm > 0 {
		c.Shade("shade", 0, float64(warm), .16)
	}
	c.Rows(rows)
	c.Columns(columns)
	c.Line("three", work)
	c.Line("one", rest)
	if unit != "" {
		about = "in " + unit + "; " + about
	}
	return figure{ID: id, Title: r.Name, Note: about, SVG: template.HTML(c.SVG())}
}

// arenasOf has a column for each router.
func arenasOf(res *soak.Result) table {
	t := table{
		ID: "arenas", Title: "Each router", Head: []string{"figure"},
		Note: "“memory” runs throughout, “small” has 64 KiB and starts anew each epoch, “named” is in another process, which is killed and resumed.",
	}
	names, columns := []string{
		"runs", "sent", "acknowledged", "delivered", "lost", "torn", "duplicated", "reordered", "killed", "killed inside a claim", "stopped", "dead claims skipped",
		"pipes in the main process", "main process killed", "main process stopped", "delivered again", "latency p50", "latency p99", "recovery p50", "recovery p99", "recovery, longest",
	}, make([][]string, len(res.Arenas))
	for i, a := range res.Arenas {
		t.Head = append(t.Head, a.Name)
		for _, n := range []uint64{
			uint64(a.Runs), a.Sent, a.Acknowledged, a.Delivered, a.Lost, a.Torn, a.Duplicated, a.Reordered, uint64(a.Killed), uint64(a.KilledInClaim), uint64(a.Stopped), a.ClaimsSkipped,
			a.LocalPipes, uint64(a.MainKilled), uint64(a.MainStopped), uint64(a.Redelivered),
		} {
			columns[i] = append(columns[i], stress.Count(n))
		}
		for _, ns := range []int64{a.Latency.P50, a.Latency.P99, a.Recovery.Skip.P50, a.Recovery.Skip.P99, a.Recovery.Skip.Max} {
			columns[i] = append(columns[i], span(ns))
		}
	}
	for k, name := range names {
		row := []string{name}
		for _, c := range columns {
			row = append(row, c[k])
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}
