package main

import (
	"errors"
	"fmt"

	"github.com/shmrouter/shmrouter/internal/inspect"
)

type checkCmd struct {
	Segments []string `arg:"" optional:"" name:"segment" help:"PATH or PID:FD (all)."`
	JSON     bool     `name:"json" help:"Write one JSON object (shmctl schema check)."`
	Quiet    bool     `short:"q" help:"Say nothing, and end with the status."`
}

type checks struct {
	SchemaVersion int       `json:"schema_version"`
	Segments      []checked `json:"segments"`
}

type checked struct {
	Segment  string            `json:"segment"`
	OK       bool              `json:"ok"`    // it was looked at, and there is no damage
	Error    string            `json:"error"` // why it could not be looked at, or not to the end
	Findings []inspect.Finding `json:"findings"`
}

// Help is printed with the flags.
func (*checkCmd) Help() string {
	return `It may run beside a ring that is in use, and raises no false alarm: what changes meanwhile is looked at again.
Damage contradicts the protocol: a bug, or somebody who wrote into the memory. A remnant is what a dead process left behind, and
the next consumer cleans up; it is told, and does not change the status. A file that is damaged, truncated or unfinished
is damage, too. Exit status 0: none; 1: damage; 2: wrong command line; 3: could not look.`
}

// Run checks.
func (c *checkCmd) Run(e *env) error {
	out := checks{SchemaVersion: schemaVersion, Segments: []checked{}}
	damaged, names := false, e.names(c.Segments)
	failed := e.unseen >= inspect.File
	for _, name := range names {
		one, err := check(name)
		if isUsage(err) {
			return err
		}
		if all(c.Segments) && gone(err) {
			continue
		}
		damaged = damaged || !one.OK && err == nil
		failed = failed || err != nil
		out.Segments = append(out.Segments, one)
	}
	if err := c.show(e, out); err != nil {
		return err
	}
	switch {
	case damaged:
		return errDamage
	case failed:
		return errNoAccess
	}
	return nil
}

// check looks at one segment. A file that is a segment, and not a whole one, is damaged; the error is for what
// could not be looked at.
func check(name string) (checked, error) {
	c := checked{Segment: name, Findings: []inspect.Finding{}}
	s, err := inspect.Open(name)
	if err != nil {
		if broken(err) {
			c.Findings = append(c.Findings, inspect.Finding{Severity: inspect.Damage, What: "superblock", Text: err.Error()})
			return c, nil
		}
		c.Error = err.Error()
		return c, err
	}
	defer s.Close()
	if c.Findings, err = s.Check(); err != nil {
		if broken(err) {
			c.Findings = append(c.Findings, inspect.Finding{Severity: inspect.Damage, What: "file", Text: err.Error()})
			return c, nil
		}
		c.Error = err.Error()
		return c, err
	}
	c.OK = true
	for _, f := range c.Findings {
		c.OK = c.OK && f.Severity != inspect.Damage
	}
	return c, nil
}

// broken tells a damaged segment from one that may not be looked at, is none, or is of another version.
func broken(err error) bool {
	state := trouble(err)
	return state == "damaged" || state == "unfinished"
}

func isUsage(err error) bool { return errors.Is(err, inspect.ErrName) }

func (c *checkCmd) show(e *env, out checks) error {
	switch {
	case c.Quiet:
		return nil
	case c.JSON:
		return e.writeJSON(out, true)
	case len(out.Segments) == 0:
		fmt.Fprintln(e.stdout, "no segments")
	}
	for _, s := range out.Segments {
		switch {
		case s.Error != "":
			e.complain("%s", s.Error)
		case s.OK:
			fmt.Fprintf(e.stdout, "%s: ok\n", printable(s.Segment))
		default:
			fmt.Fprintf(e.stdout, "%s: DAMAGED\n", printable(s.Segment))
		}
		for _, f := range s.Findings {
			fmt.Fprintf(e.stdout, "  %s, %s: %s\n", f.Severity, f.What, printable(f.Text))
		}
	}
	return nil
}
