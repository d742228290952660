package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/shmrouter/shmrouter/internal/inspect"
)

// view is how top shows a picture.
type view struct {
	sort    string
	reverse bool
	filter  string // "" is the first
	from    int    // first row that is shown
}

var (
	orders  = []string{"slot", "rate", "sent", "age", "claim", "wait", "backlog"}
	filters = []string{"alive", "all", "claims"}
)

// next returns what follows a choice, in a circle.
func next(choices []string, now string) string {
	return choices[(max(slices.Index(choices, now), 0)+1)%len(choices)]
}

// oneLine is a picture as a line of text.
func oneLine(p *inspect.Snapshot) string {
	text := fmt.Sprintf("%s %s fill %s", p.Taken.Format(time.TimeOnly), p.State, percent(p.Positions.Fill))
	if r := p.Rates; r != nil {
		text += fmt.Sprintf(", %s messages/s, %s, wait %s", count(r.Messages), perSecond(r.Released), waitText(r))
	}
	if o := p.Claims.Oldest; o != nil {
		text += fmt.Sprintf(", claim by slot %d for %s", o.Slot, age(o.SeenFor))
	}
	return text
}

// draw lays a picture out for a screen.
func (v *view) draw(p *inspect.Snapshot, columns, rows int, every time.Duration, paused bool) []line {
	title := fmt.Sprintf("%s  %s  %s  every %v", shorten(printable(p.Segment), max(columns-40, 10)), p.State, p.Taken.Format(time.TimeOnly), every)
	if paused {
		title += "  PAUSED"
	}
	lines := append([]line{{title, strong}}, v.ring(p, columns)...)
	lines = append(lines, line{})
	header, body := v.table(p)
	lines = append(lines, line{header, plain})
	space := max(rows-len(lines)-1, 0)
	v.from = min(v.from, max(len(body)-space, 0))
	shown := body[v.from:min(v.from+space, len(body))]
	lines = append(lines, shown...)
	for len(lines) < rows-1 {
		lines = append(lines, line{})
	}
	return append(lines, line{v.footer(len(shown), len(body)), plain})
}

func (v *view) ring(p *inspect.Snapshot, columns int) []line {
	at := func(name, format string, args ...any) line {
		return line{fmt.Sprintf("%-9s", name) + fmt.Sprintf(format, args...), plain}
	}
	fill := at("fill", "%s %6s  %s of %s", gauge(p.Positions.Fill, min(max(columns-45, 10), 60)), percent(p.Positions.Fill),
		size(p.Positions.Used), size(p.Geometry.Capacity))
	switch {
	case p.Positions.Fill >= 0.9:
		fill.ink = bad
	case p.Positions.Fill >= 0.5:
		fill.ink = warn
	default:
		fill.ink = good
	}
	rate, flow := at("rate", "…"), at("", "")
	if r := p.Rates; r != nil {
		rate = at("rate", "%s messages/s, %s records/s, %s payload", count(r.Messages), count(r.Records), perSecond(r.Bytes))
		flow = at("flow", "%s claimed, %s released; wait %s", perSecond(r.Claimed), perSecond(r.Released), waitText(r))
	}
	c := p.Consumer
	consumer := at("consumer", "%s, number %d; slept %d times", consumerText(c), c.Life, c.Sleeps)
	if !c.Alive || c.Stopped {
		consumer.ink = bad
	}
	skipped := at("skipped", "%d of the dead, %d aborted, %d pads; %d resyncs", c.SkippedDead, c.SkippedAborted, c.Pads, c.Resyncs)
	open, oldest := claimsText(p.Claims)
	claims := at("claims", "%s", open)
	if o := p.Claims.Oldest; o != nil && o.SeenFor >= 0.1 {
		claims.ink = bad
	}
	lines := []line{fill, rate, flow, consumer, skipped, claims, at("", "%s", oldest), at("room", "%s", roomText(p.Room))}
	if r := p.Router; r != nil {
		lines = append(lines, at("router", "%s; pipes: %d attached, %d open, %d ended", r.State, r.Pipes.Attached, r.Pipes.Open, r.Pipes.Ended))
	}
	for _, n := range p.Notes {
		lines = append(lines, line{at("note", "%s", printable(n)).text, bad})
	}
	return lines
}

// row is a slot and what it does.
type row struct {
	inspect.Slot
	rate inspect.SlotRate
}

func (v *view) table(p *inspect.Snapshot) (header string, body []line) {
	header = fmt.Sprintf("%4s %7s %-9s %7s %7s %10s %7s %7s %8s %4s", "SLOT", "PID", "PROCESS", "AGE", "REC/s", "BYTES/s", "CLAIM", "WAIT", "BACKLOG", "OPEN")
	for _, r := range v.rows(p) {
		claim := "-"
		if r.OpenClaims > 0 {
			claim = age(r.ClaimFor)
		}
		alive := plain
		name := processText(r.Process)
		if !r.Alive {
			name = "(free)"
		}
		if r.ClaimFor >= 0.1 {
			alive = bad
		}
		if r.Alive && r.Stopped {
			name, alive = "(stopped)", bad
		}
		body = append(body, line{fmt.Sprintf("%4d %7s %-9s %7s %7s %10s %7s %7s %8s %4d", r.Slot.Slot, orDash(r.PID), shorten(printable(name), 9),
			age(r.Age), count(r.rate.Records), perSecond(r.rate.Bytes), claim, slotWait(r.rate), size(r.Backlog), r.OpenClaims), alive})
	}
	return header, body
}

// slotWait is the column of that name.
func slotWait(r inspect.SlotRate) string {
	switch {
	case r.Wait < 0:
		return "stuck"
	case r.Wait == 0:
		return "-"
	}
	return age(r.Wait)
}

// stuckLast is a wait to sort by.
func stuckLast(r inspect.SlotRate) float64 {
	if r.Wait < 0 {
		return math.Inf(1)
	}
	return r.Wait
}

// rows filters and sorts: the largest first, slots by number.
func (v *view) rows(p *inspect.Snapshot) (rows []row) {
	rates := map[int]inspect.SlotRate{}
	if p.Rates != nil {
		for _, r := range p.Rates.Slots {
			rates[r.Slot] = r
		}
	}
	for _, s := range p.Slots {
		switch {
		case v.filter == "all", v.filter == "claims" && s.OpenClaims > 0, v.filter != "claims" && s.Alive:
			rows = append(rows, row{s, rates[s.Slot]})
		}
	}
	slices.SortStableFunc(rows, func(a, b row) (order int) {
		switch v.sort {
		case "rate":
			order = cmp.Compare(b.rate.Bytes, a.rate.Bytes)
		case "sent":
			order = cmp.Compare(b.Bytes, a.Bytes)
		case "age":
			order = cmp.Compare(b.Age, a.Age)
		case "claim":
			order = cmp.Compare(b.ClaimFor, a.ClaimFor)
		case "wait":
			order = cmp.Compare(stuckLast(b.rate), stuckLast(a.rate))
		case "backlog":
			order = cmp.Compare(b.Backlog, a.Backlog)
		}
		if v.reverse {
			order = -order
		}
		if order == 0 {
			order = cmp.Compare(a.Slot.Slot, b.Slot.Slot)
			if v.reverse && (v.sort == "slot" || v.sort == "") {
				order = -order
			}
		}
		return order
	})
	return rows
}

func (v *view) footer(shown, all int) string {
	filter := v.filter
	if filter == "" {
		filter = filters[0]
	}
	order := v.sort
	if v.reverse {
		order += " reversed"
	}
	return strings.Join([]string{"q quit", "s sort: " + order, "r reverse", "f filter: " + filter, "p pause", "+/-",
		fmt.Sprintf("%d/%d", shown, all)}, "  ")
}
