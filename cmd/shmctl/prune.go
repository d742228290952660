package main

import (
	"fmt"
	"time"

	"github.com/shmrouter/shmrouter/internal/inspect"
)

type pruneCmd struct {
	Paths     []string      `arg:"" optional:"" name:"path" help:"Files of segments (all in the directories)."`
	DryRun    bool          `short:"n" help:"Remove nothing, and say what would be removed."`
	Resumable bool          `help:"Remove also segments on which another router or consumer could go on."`
	MinAge    time.Duration `placeholder:"D" default:"1m" help:"Leave alone what was made more recently (${default})."`
	JSON      bool          `name:"json" help:"Write one JSON object (shmctl schema prune)."`
}

type pruned struct {
	SchemaVersion int               `json:"schema_version"`
	DryRun        bool              `json:"dry_run"`
	Files         []inspect.Verdict `json:"files"`
	Errors        []problem         `json:"errors"`
}

// Help is printed with the flags.
func (*pruneCmd) Help() string {
	return `A segment file is removed if it belongs to this user, nobody holds a lock in it, no process that can be seen has it
open or mapped, its last consumer does not run, and it was made long enough ago. Never removed without --resumable: a
segment of a router started with WithResume, and one that is used without a router, where another consumer may go on.
Never removed at all: files of other users, and what is damaged or of another version.

The locks of all seats are taken at once before the file goes, so nobody can come in meanwhile, and it is renamed first, so
that whoever opened it before is seen; it then gets its name back. Memory without a path goes with its last process, and
needs no pruning.`
}

// Run prunes.
func (c *pruneCmd) Run(e *env) error {
	if c.MinAge < 0 {
		return usageError{fmt.Errorf("--min-age %v is negative", c.MinAge)}
	}
	paths := c.Paths
	if all(c.Paths) {
		paths = nil
		for _, f := range e.find() {
			if f.Path != "" {
				paths = append(paths, f.Path)
			}
		}
	}
	out := pruned{SchemaVersion: schemaVersion, DryRun: c.DryRun, Files: []inspect.Verdict{}, Errors: []problem{}}
	o := inspect.PruneOptions{DryRun: c.DryRun, Resumable: c.Resumable, MinAge: c.MinAge}
	if len(paths) > 1 {
		o.Census, _ = inspect.TakeCensus() // what cannot be seen is a reason to keep a file, told with each
	}
	for _, path := range paths {
		v, err := inspect.Prune(path, o)
		switch {
		case err == nil:
		case all(c.Paths) && gone(err):
			continue
		case all(c.Paths) && trouble(err) != "unreadable": // not asked for, and not its business
			v.Reason = err.Error()
		default:
			out.Errors = append(out.Errors, problem{path, err.Error()})
			continue
		}
		out.Files = append(out.Files, v)
	}
	if err := c.show(e, out); err != nil {
		return err
	}
	if len(out.Errors) > 0 {
		return errNoAccess
	}
	return nil
}

func (c *pruneCmd) show(e *env, out pruned) error {
	if c.JSON {
		return e.writeJSON(out, true)
	}
	for _, p := range out.Errors {
		e.complain("%s", p.Error)
	}
	if len(out.Files)+len(out.Errors) == 0 {
		fmt.Fprintln(e.stdout, "no segment files")
	}
	var freed int64
	for _, v := range out.Files {
		did := "kept"
		if v.Removed {
			did, freed = "removed", freed+v.Size
			if c.DryRun {
				did = "would remove"
			}
		}
		fmt.Fprintf(e.stdout, "%s %s\n%s\n", did, printable(v.Path), indented(v.Reason))
	}
	if freed > 0 {
		fmt.Fprintf(e.stdout, "%s in all\n", size(freed))
	}
	return nil
}
