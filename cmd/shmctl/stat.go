package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/shmrouter/shmrouter/internal/inspect"
)

type statCmd struct {
	Segments []string `arg:"" optional:"" name:"segment" help:"PATH or PID:FD (all)."`
	JSON     bool     `name:"json" help:"Write one JSON object (shmctl schema stat); with --watch one on each line."`
	Watch    interval `placeholder:"D" help:"Look again after each interval, and show rates (1s, or --watch=D)."`
	Count    int      `placeholder:"N" help:"With --watch, end after so many looks (no limit)."`
	Slots    bool     `help:"Show also slots that are free now."`
}

// interval is a flag that may go without its value.
type interval time.Duration

// Decode parses --watch and --watch=D.
func (i *interval) Decode(ctx *kong.DecodeContext) error {
	*i = interval(time.Second)
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		return nil
	}
	d, err := time.ParseDuration(ctx.Scan.Pop().String())
	if err == nil && d < 10*time.Millisecond {
		err = fmt.Errorf("%v is below 10ms", d)
	}
	*i = interval(d)
	return err
}

// IsBool has kong accept the flag without a value.
func (i *interval) IsBool() bool { return true }

type statistics struct {
	SchemaVersion int                 `json:"schema_version"`
	Segments      []*inspect.Snapshot `json:"segments"`
	Errors        []problem           `json:"errors"`
}

// Help is printed with the flags.
func (*statCmd) Help() string {
	return `A ring that runs is not looked at in one instant: "moved" says how far it went on meanwhile. Figures of
slots and consumer are what those published last: a producer when the ring has gone on by 256 granules, and when it wakes the consumer, waits
or leaves; a consumer before it sleeps. What is claimed and released, in bytes of space, is exact. Positions count granules of 64 bytes. How long a claim has been
open nobody writes down: it is the time since this command saw it first.`
}

// Run shows each segment once, or again and again.
func (c *statCmd) Run(e *env) error {
	if c.Count < 0 || c.Count > 0 && c.Watch == 0 {
		return usageError{fmt.Errorf("--count %d: it is a number of looks, with --watch", c.Count)}
	}
	for _, name := range c.Segments {
		if _, err := time.ParseDuration(name); err == nil && c.Watch != 0 {
			return usageError{fmt.Errorf("%s is no segment: --watch=%s, with an equals sign", name, name)}
		}
	}
	if c.Watch != 0 {
		defer e.untilSignal()()
	}
	g := newGroup(e, c.Segments)
	defer g.close()
	failed := false
	for n := 1; ; n++ {
		pictures, problems, err := g.look(c.Watch != 0)
		if err != nil {
			return err
		}
		failed = failed || len(problems) > 0
		if err := c.show(e, statistics{schemaVersion, pictures, problems}); err != nil {
			return err
		}
		if c.Watch == 0 || n == c.Count || len(g.by) == 0 && !all(c.Segments) || !pause(e, time.Duration(c.Watch)) {
			break
		}
	}
	failed = failed || g.lost()
	if failed {
		return errNoAccess
	}
	return nil
}

// pause returns false if it is over.
func pause(e *env, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-e.ctx.Done():
		return false
	}
}

func (c *statCmd) show(e *env, out statistics) error {
	if c.JSON {
		return e.writeJSON(out, c.Watch == 0)
	}
	for _, p := range out.Errors {
		e.complain("%s", p.Error)
	}
	if len(out.Segments)+len(out.Errors) == 0 {
		fmt.Fprintln(e.stdout, "no segments")
	}
	for i, p := range out.Segments {
		if i > 0 || c.Watch != 0 && p.Rates != nil {
			fmt.Fprintln(e.stdout)
		}
		writeStat(e.stdout, p, c.Slots)
	}
	return e.stdout.err // or it would go on with --watch
}

func writeStat(w io.Writer, p *inspect.Snapshot, free bool) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(w, "%s  %s\n", printable(p.Segment), p.State)
	line("segment", "%s of %s, made %s ago, %s", p.Kind, size(p.Geometry.Size), age(max(p.Taken.Sub(p.Created).Seconds(), 0)), p.Identity)
	line("ring", "%s, frames to %s, pages of %s, version %d",
		size(p.Geometry.Capacity), size(int64(p.Geometry.MaxFrame)), size(int64(p.Geometry.PageSize)), p.Geometry.Version)
	line("fill", "%s %s, %s", gauge(p.Positions.Fill, 30), percent(p.Positions.Fill), size(p.Positions.Used))
	line("positions", "head %d, hint %d, frontier %d%s", p.Positions.Head, p.Positions.Hint, p.Positions.Frontier, moved(p))
	c := p.Consumer
	line("consumer", "%s, number %d", consumerText(c), c.Life)
	line("", "%d messages in %d records, %s; slept %d times", c.Messages, c.Records, sizeOf(c.Bytes), c.Sleeps)
	line("", "skipped: %d of the dead, %d aborted, %d pads; %d resyncs", c.SkippedDead, c.SkippedAborted, c.Pads, c.Resyncs)
	line("room", "%s", roomText(p.Room))
	open, oldest := claimsText(p.Claims)
	line("claims", "%s", open)
	if oldest != "" {
		line("", "%s", oldest)
	}
	if r := p.Router; r != nil {
		line("router", "%s, resumed %d times%s", r.State, r.Life, map[bool]string{true: ", resumable"}[r.Resumable])
		line("pipes", "%d attached, %d open, %d ended; %d ever, %d entries", r.Pipes.Attached, r.Pipes.Open, r.Pipes.Ended, r.Pipes.Opened, r.Pipes.Entries)
	}
	if r := p.Rates; r != nil {
		line("rates", "%s messages/s, %s payload, %s of space released", count(r.Messages), perSecond(r.Bytes), perSecond(r.Released))
		line("", "%s claimed, %s from here to the consumer", perSecond(r.Claimed), waitText(r))
	}
	for _, n := range p.Notes {
		line("note", "%s", printable(n))
	}
	writeSlots(w, p, free)
}

func writeSlots(w io.Writer, p *inspect.Snapshot, free bool) {
	rates := map[int]inspect.SlotRate{}
	header := []any{"SLOT", "PID", "PROCESS", "ALIVE", "AGE", "RECORDS", "BYTES", "SWEPT", "LOST", "OPEN"}
	if p.Rates != nil {
		header = append(header, "REC/s")
		for _, r := range p.Rates.Slots {
			rates[r.Slot] = r
		}
	}
	t := newTable(header...)
	rightAlign(t, 5, len(header))
	rows := 0
	for _, s := range p.Slots {
		if !s.Alive && !free && s.OpenClaims == 0 {
			continue
		}
		row := []any{s.Slot, orDash(s.PID), shorten(printable(processText(s.Process)), 15), aliveText(s), age(s.Age),
			count(float64(s.Records)), sizeOf(s.Bytes), s.Swept, s.Dropped, s.OpenClaims}
		if p.Rates != nil {
			row = append(row, count(rates[s.Slot].Records))
		}
		t.AppendRow(row)
		rows++
	}
	if rows > 0 {
		for l := range strings.Lines(t.Render()) {
			fmt.Fprint(w, "  ", l)
		}
		fmt.Fprintln(w)
	}
	if n := len(p.Slots) - rows; n > 0 {
		fmt.Fprintf(w, "  free now, and held before: %d\n", n)
	}
}

func moved(p *inspect.Snapshot) string {
	if p.Positions.Moved == 0 {
		return ""
	}
	return fmt.Sprintf(" (moved %d)", p.Positions.Moved)
}

func consumerText(c inspect.Consumer) string {
	switch {
	case c.Alive && c.Stopped:
		return processWithPID(c.Process) + ", alive, STOPPED by a signal or debugger"
	case c.Alive && c.Sleeping:
		return processWithPID(c.Process) + ", alive, sleeps"
	case c.Alive:
		return processWithPID(c.Process) + ", alive, awake"
	case c.PID != 0:
		return processWithPID(c.Process) + ", dead"
	case c.Life == 0:
		return "none yet"
	}
	return "none: the last one left"
}

func processWithPID(p inspect.Process) string {
	if name := processText(p); name != "" {
		return fmt.Sprintf("%d (%s)", p.PID, printable(name))
	}
	return strconv.Itoa(p.PID)
}

// processText is the process's name, or why there is none.
func processText(p inspect.Process) string {
	switch {
	case p.PID == 0:
		return ""
	case p.Here:
		return p.Name
	case p.Namespace != 0 && p.Namespace != ownNamespace:
		return "elsewhere"
	}
	return ""
}

func roomText(r inspect.Room) string {
	text := "nobody waits"
	if r.Waiters {
		text = "somebody waits"
	}
	if r.Turn >= 0 {
		text += fmt.Sprintf(", it is the turn of slot %d", r.Turn)
	}
	return text
}

// claimsText is a line, and a second one if there is an open claim.
func claimsText(c inspect.Claims) (count, oldest string) {
	count = fmt.Sprintf("%d open", c.Open)
	if !c.Complete {
		count += fmt.Sprintf(" among the first %d records", c.Examined)
	}
	o := c.Oldest
	if o == nil {
		return count, ""
	}
	oldest = fmt.Sprintf("the first is by slot %d (pid %d), at %d, %s", o.Slot, o.PID, o.Position, size(o.Bytes))
	if o.Front {
		count += ", and the consumer waits for the first"
	}
	if o.SeenFor > 0 {
		count += ", seen for " + age(o.SeenFor)
	}
	return count, oldest
}

func waitText(r *inspect.Rates) string {
	if r.Wait < 0 {
		return "nothing comes through"
	}
	return "about " + age(r.Wait)
}

func aliveText(s inspect.Slot) string {
	switch {
	case s.Alive && s.Stopped:
		return "stopped"
	case s.Alive:
		return "yes"
	}
	return "no"
}
