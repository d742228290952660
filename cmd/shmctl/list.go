package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/shmrouter/shmrouter/internal/inspect"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

type listCmd struct {
	Segments []string `arg:"" optional:"" name:"segment" help:"PATH or PID:FD (all)."`
	JSON     bool     `name:"json" help:"Write one JSON object (shmctl schema list)."`
}

type listing struct {
	SchemaVersion int      `json:"schema_version"`
	Segments      []listed `json:"segments"`
	Notes         []string `json:"notes"`
}

// listed is one segment. Its state is that of inspect.State, or says why it could not be looked at: foreign is
// another version or byte order, damaged, unfinished, unreadable.
type listed struct {
	Segment     string           `json:"segment"`
	Path        string           `json:"path"`
	Kind        string           `json:"kind"`
	File        string           `json:"file"`
	State       string           `json:"state"`
	Error       string           `json:"error"`
	Size        int64            `json:"size"`
	Capacity    int64            `json:"capacity"`
	Fill        float64          `json:"fill"`
	ConsumerPID int              `json:"consumer_pid"`
	Producers   int              `json:"producers"` // processes that hold a slot
	Holders     []inspect.Holder `json:"holders"`
}

// Help is printed with the flags.
func (*listCmd) Help() string {
	return `Segments without a path are found through the descriptors of processes of this user, and each is listed once,
however many have it. STATE is alive (a consumer holds its seat), orphaned (none does, and producers hold slots), stale (nobody
holds anything); or foreign (another version or byte order), damaged, unfinished, unreadable.`
}

// Run lists.
func (c *listCmd) Run(e *env) error {
	out := listing{SchemaVersion: schemaVersion, Segments: []listed{}, Notes: []string{}}
	unreadable := false
	for _, f := range c.find(e) {
		l, err := look(f)
		if all(c.Segments) && gone(err) {
			continue
		}
		unreadable = unreadable || l.State == "unreadable"
		out.Segments = append(out.Segments, l)
	}
	out.Notes = append(out.Notes, e.notes...)
	if err := c.show(e, out); err != nil {
		return err
	}
	if unreadable {
		return errNoAccess
	}
	return nil
}

func (c *listCmd) show(e *env, out listing) error {
	if c.JSON {
		return e.writeJSON(out, true)
	}
	t := newTable("SEGMENT", "STATE", "CONSUMER", "PROD", "FILL", "SIZE", "HELD BY")
	rightAlign(t, 3, 6)
	for _, s := range out.Segments {
		row := []any{shorten(printable(s.Segment), 28), s.State, orDash(s.ConsumerPID), s.Producers, percent(s.Fill), size(s.Size), heldBy(s.Holders)}
		if s.Error != "" {
			row[2], row[3], row[4] = "-", "-", "-"
		}
		t.AppendRow(row)
	}
	if len(out.Segments) == 0 {
		fmt.Fprintln(e.stdout, "no segments")
		return nil
	}
	fmt.Fprintln(e.stdout, t.Render())
	for _, s := range out.Segments {
		if s.Error != "" {
			fmt.Fprintln(e.stdout, printable(s.Error))
		}
	}
	return nil
}

// find returns what is to be listed; of what was named, it looks up who holds it.
func (c *listCmd) find(e *env) (found []inspect.Found) {
	if all(c.Segments) {
		return e.find()
	}
	census, err := inspect.TakeCensus()
	if err != nil {
		e.complain("%v", err)
		e.notes = append(e.notes, err.Error())
	}
	for _, name := range c.Segments {
		f := inspect.Found{Name: name}
		if s, err := inspect.Open(name); err == nil {
			f.ID, f.Path = s.ID, s.Path()
			if census != nil {
				f.Holders = census.Holders(s.ID)
			}
			s.Close()
		}
		found = append(found, f)
	}
	return found
}

// look never fails: what went wrong is in the row, too.
func look(f inspect.Found) (listed, error) {
	l := listed{Segment: f.Name, Path: f.Path, Holders: f.Holders}
	if l.Holders == nil {
		l.Holders = []inspect.Holder{}
	}
	s, err := inspect.Open(f.Name)
	if err != nil {
		l.State, l.Error = trouble(err), err.Error()
		return l, err
	}
	defer s.Close()
	if f.ID != (inspect.FileID{}) && s.ID != f.ID {
		return l, fs.ErrNotExist // another file has the name now
	}
	p, err := s.Snapshot()
	if err != nil {
		l.State, l.Error = trouble(err), err.Error()
		return l, err
	}
	l.Kind, l.File, l.State = p.Kind, p.File, string(p.State)
	l.Size, l.Capacity, l.Fill = p.Geometry.Size, p.Geometry.Capacity, p.Positions.Fill
	if p.Consumer.Alive {
		l.ConsumerPID = p.Consumer.PID
	}
	for _, slot := range p.Slots {
		if slot.Alive {
			l.Producers++
		}
	}
	return l, nil
}

// trouble is the state of a segment that could not be looked at.
func trouble(err error) string {
	switch {
	case errors.Is(err, ring.ErrVersion), errors.Is(err, ring.ErrByteOrder):
		return "foreign"
	case errors.Is(err, ring.ErrUnfinished):
		return "unfinished"
	case errors.Is(err, ring.ErrGeometry), errors.Is(err, ring.ErrTruncated), errors.Is(err, ring.ErrCorrupt), errors.Is(err, shm.ErrFault):
		return "damaged"
	}
	return "unreadable"
}

func heldBy(holders []inspect.Holder) string {
	if len(holders) == 0 {
		return "nobody seen"
	}
	more := ""
	if n := len(holders) - 1; n > 0 {
		more = fmt.Sprintf(" +%d", n)
	}
	text := []rune(printable(fmt.Sprintf("%d %s", holders[0].PID, holders[0].Process)))
	return strings.TrimSpace(string(text[:min(len(text), 17-len(more))])) + more
}
