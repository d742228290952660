package page

import (
	"fmt"
	"io"
	"time"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/picture"
	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/stress"
)

// Stress writes the page of a stress run.
func Stress(w io.Writer, res *stress.Result, asked Asked) error {
	p := &page{
		Title: "shmdemo: stress", OK: res.OK, Violations: res.Violations, Asked: asked, Machine: res.Machine,
		Sentence: "Nothing lost, torn, duplicated or reordered.", Tiles: tiles(res),
	}
	if !res.OK {
		p.Sentence = fmt.Sprintf("Something was wrong. The same choices are made again with seed %d.", res.Seed)
	}
	if line := res.Timeline; line != nil && len(line.Intervals) > 0 {
		p.Sections = append(p.Sections, overTime(res, line), seatsOf(res, line), distributions(res, line))
	}
	p.Sections = append(p.Sections, section{Title: "Counts", Tables: []table{countsOf(res), recoveriesOf(&res.Recovery)}})
	return p.write(w)
}

func tiles(res *stress.Result) []tile {
	return []tile{
		{"delivered", "delivered", stress.Count(res.Delivered), fmt.Sprintf("messages; %s were acknowledged", stress.Count(res.Acknowledged))},
		{"wrong", "wrong messages", stress.Count(res.Lost + res.Torn + res.Duplicated + res.Reordered),
			fmt.Sprintf("lost %d, torn %d, duplicated %d, reordered %d", res.Lost, res.Torn, res.Duplicated, res.Reordered)},
		{"rate", "messages a second", stress.Count(uint64(res.MessagesPerSecond)), stress.Bytes(res.BytesPerSecond) + "/s, while workers were told to send"},
		{"latency", "latency, median", span(res.Latency.P50), fmt.Sprintf("p99 %s, longest %s", span(res.Latency.P99), span(res.Latency.Max))},
		{"kills", "workers killed", stress.Count(uint64(res.Killed)), fmt.Sprintf("%s of them inside a claim", stress.Count(uint64(res.KilledInClaim)))},
		recoveryTile(&res.Recovery),
		{"stops", "workers stopped", stress.Count(uint64(res.Stopped)), fmt.Sprintf("%d held up everybody for 100 ms or more", res.Stalls.InStops)},
		{"elapsed", "elapsed", span(res.Elapsed), fmt.Sprintf("%d workers on %d processors", res.Workers, res.CPUs)},
	}
}

// recoveryTile is about what is promised: 10 ms where the main process has a processor. What took longer for want of
// one is its note.
func recoveryTile(r *stress.Recovery) tile {
	t := tile{"recovery", "recovery, longest", "none", "no dead worker's claim was in the way"}
	if r.Skip.Count == 0 {
		return t
	}
	t.Value, t.Note = span(r.Skip.Max), fmt.Sprintf("p50 %s; promised: 10 ms", span(r.Skip.P50))
	switch {
	case r.Unexcused > 0:
		t.Note += fmt.Sprintf("; late %d times with a processor at hand", r.Unexcused)
	case r.Skip.Max > int64(stress.RecoveryBound):
		t.Name, t.Value = "recovery, given a processor", "≤ 10 ms"
		t.Note = fmt.Sprintf("as promised; p50 %s; longest, waiting for a processor, %s", span(r.Skip.P50), span(r.Skip.Max))
	}
	return t
}

// span writes a time in nanoseconds with three digits, as the axes do.
func span(ns int64) string { return picture.Duration(float64(ns)) }

// seconds is a moment of the run.
func seconds(ns int64) string { return fmt.Sprintf("%.2f s", time.Duration(ns).Seconds()) }

func countsOf(res *stress.Result) table {
	t := table{ID: "counts", Title: "Messages and workers", Head: []string{"figure", "value", "meaning"}, Words: true}
	add := func(name, value, note string) { t.Rows = append(t.Rows, []string{name, value, note}) }
	count := func(name string, n uint64, note string) { add(name, stress.Count(n), note) }
	count("sent", res.Sent, "meant to be, by the workers' notes")
	count("acknowledged", res.Acknowledged, "sends that returned without error")
	count("delivered", res.Delivered, "different messages that arrived whole")
	count("lost", res.Lost, "acknowledged, and did not arrive")
	count("torn", res.Torn, "of wrong length, or with wrong bytes")
	count("duplicated", res.Duplicated, "arrived again")
	count("reordered", res.Reordered, "arrived after one that its worker sent later")
	count("killed", uint64(res.Killed), "by SIGKILL, and replaced")
	count("killed inside a claim", uint64(res.KilledInClaim), "after they had called from there")
	count("dead claims skipped", res.ClaimsSkipped, fmt.Sprintf("%s of them by the next holder of the slot", stress.Count(res.ClaimsSwept)))
	count("stopped", uint64(res.Stopped), "by SIGSTOP, and continued")
	stall := func(name string, n int, longest int64, note string) {
		if n > 0 {
			note += ", the longest for " + span(longest) + " or more"
		}
		count(name, uint64(n), note)
	}
	stall("stalls in stops", res.Stalls.InStops, res.Stalls.LongestStop, "a stopped worker's claim held up everybody for 100 ms or more")
	stall("other stalls", res.Stalls.Other, res.Stalls.LongestOther, "a running worker's claim did")
	add("wake", span(res.PingMedian), "median, a message to the sleeping router")
	add("waited for a processor", span(res.RunQueueMax), "the longest that a thread of the main process did")
	add("peak memory", stress.Bytes(float64(res.PeakRSS)), "main process")
	return t
}

func recoveriesOf(r *stress.Recovery) table {
	t := table{
		ID: "recoveries", Title: "After a kill", Head: []string{"what", "count", "p50", "p99", "p99.9", "longest"},
		Note: "Seen from outside, by the segment's words and by asking the kernel for the lock. Nothing is subtracted from any figure.",
	}
	for _, row := range r.Rows() {
		t.Rows = append(t.Rows, append([]string{row.What}, spreadCells(row.Spread)...))
	}
	if r.Over > 0 {
		t.Note += fmt.Sprintf(" %d were above their bound, %d of them also without the time for which the main process could not run.", r.Over, r.Unexcused)
	}
	t.List = r.Late
	return t
}

func spreadCells(s stress.Spread) []string {
	if s.Count == 0 {
		return []string{"0", "–", "–", "–", "–"}
	}
	return []string{stress.Count(uint64(s.Count)), span(s.P50), span(s.P99), span(s.P999), span(s.Max)}
}
