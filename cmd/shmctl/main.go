package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/inspect"
	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// Exit statuses.
const (
	exitOK       = 0
	exitDamage   = 1
	exitUsage    = 2
	exitNoAccess = 3
)

// schemaVersion is raised when a field is removed, or means something else.
const schemaVersion = 1

type cli struct {
	Dir []string `placeholder:"DIR" type:"path" help:"Look for segment files there, too; may be repeated (${dir})."`

	Version kong.VersionFlag `help:"Print the versions of this program and of the layouts that it knows."`

	List   listCmd   `cmd:"" help:"List the segments on this machine and who holds them."`
	Stat   statCmd   `cmd:"" help:"Show geometry, fill, positions, slots, consumer and claims."`
	Top    topCmd    `cmd:"" help:"Watch one segment on a terminal screen."`
	Dump   dumpCmd   `cmd:"" help:"Show records, with header words decoded and payload in hexadecimal."`
	Check  checkCmd  `cmd:"" help:"Look for anything that the protocol does not allow."`
	Prune  pruneCmd  `cmd:"" help:"Remove segment files whose users are all dead."`
	Schema schemaCmd `cmd:"" help:"Print the JSON Schema of what a command writes with --json."`
}

// env is what commands work with.
type env struct {
	ctx    context.Context // ends with a signal, where that is asked for
	stdout *output
	stderr io.Writer
	dirs   []string
	notes  []string       // of find
	unseen inspect.Unseen // the worst of them
}

var (
	errDamage   = errors.New("there is damage")
	errNoAccess = errors.New("not everything could be looked at") // each was told
)

// usageError says what is wrong with the command line.
type usageError struct{ error }

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	exit := -1
	var c cli
	out := &output{w: stdout}
	parser := kong.Must(&c,
		kong.Name("shmctl"),
		kong.Description("Looks at shared-memory segments of the message router, and cleans up after the dead. "+
			"A SEGMENT is a path, or PID:FD, a process and its descriptor. "+
			"Exit status 0: all went well; 1: there is damage; 2: wrong command line; 3: could not look, or not remove."),
		kong.Writers(out, stderr),
		kong.Exit(func(code int) { exit = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Vars{"dir": shm.DefaultDir(), "version": versions()},
	)
	parsed, err := parser.Parse(args)
	switch {
	case exit >= 0: // help was asked for
		err = nil
	case err == nil:
		e := &env{ctx: context.Background(), stdout: out, stderr: stderr, dirs: directories(c.Dir)}
		if err = parsed.Run(e); err == nil && e.unseen == inspect.Directories {
			err = errNoAccess
		}
	}
	if out.err != nil { // whatever else, it was not told
		err = out.err
	}
	return status(err, stderr)
}

// untilSignal has ctx end with SIGINT or SIGTERM, for commands that go on until then. Others die by them: half of what
// they had to say is not taken for all of it.
func (e *env) untilSignal() (stop func()) {
	e.ctx, stop = signal.NotifyContext(e.ctx, os.Interrupt, unix.SIGTERM)
	return stop
}

// output remembers the first error, so that no print has to be looked at.
type output struct {
	w   io.Writer
	err error
}

func (c *output) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	if c.err == nil {
		c.err = err
	}
	return n, err
}

func versions() string {
	own := "unknown version"
	if info, ok := debug.ReadBuildInfo(); ok {
		own = info.Main.Version
	}
	return fmt.Sprintf("shmctl %s; ring layout %d, router's directory %d", own, ring.Version, wire.Version)
}

func status(err error, stderr io.Writer) int {
	var usage usageError
	var parse *kong.ParseError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errDamage):
		return exitDamage
	case errors.Is(err, errNoAccess):
		return exitNoAccess
	}
	fmt.Fprintf(stderr, "shmctl: %s\n", printable(err.Error()))
	if errors.As(err, &usage) || errors.As(err, &parse) || errors.Is(err, inspect.ErrName) {
		fmt.Fprintln(stderr, "Try 'shmctl --help'.")
		return exitUsage
	}
	return exitNoAccess
}

func directories(more []string) []string {
	dirs := []string{shm.DefaultDir()}
	for _, d := range more {
		if !slices.Contains(dirs, d) {
			dirs = append(dirs, d)
		}
	}
	return dirs
}

// complain tells of something that could not be done, and goes on.
func (e *env) complain(format string, args ...any) {
	fmt.Fprintf(e.stderr, "shmctl: %s\n", printable(fmt.Sprintf(format, args...)))
}

// writeJSON writes one document on lines of its own, indented for people, or on one line.
func (e *env) writeJSON(v any, indent bool) error {
	enc := json.NewEncoder(e.stdout)
	if indent {
		enc.SetIndent("", "  ")
	}
	return enc.Encode(v)
}

// names returns what was asked for, or all that there is.
func (e *env) names(asked []string) (names []string) {
	if !all(asked) {
		return asked
	}
	for _, f := range e.find() {
		names = append(names, f.Name)
	}
	return names
}

// find returns all that there is, and tells once what could not be looked at.
func (e *env) find() []inspect.Found {
	found, notes := inspect.Find(e.dirs)
	for _, n := range notes {
		e.unseen = max(e.unseen, n.What)
		if !slices.Contains(e.notes, n.Text) {
			e.complain("%s", n.Text)
			e.notes = append(e.notes, n.Text)
		}
	}
	return found
}

// all tells whether names means whatever there is.
func all(asked []string) bool { return len(asked) == 0 || slices.Equal(asked, []string{"all"}) }

// gone tells of one that was found, and has ended or is another file before it could be looked at.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, ring.ErrNotSegment) || errors.Is(err, shm.ErrNotRegular)
}

// one opens the segment that was asked for, or the only one that there is.
func (e *env) one(asked string) (*inspect.Segment, error) {
	if asked == "" {
		names := e.names(nil)
		switch len(names) {
		case 0:
			return nil, errors.New("there is no segment here")
		case 1:
			asked = names[0]
		default:
			return nil, usageError{fmt.Errorf("there are %d segments, say which (shmctl list shows them)", len(names))}
		}
	}
	return inspect.Open(asked)
}

// problem is a segment that could not be looked at.
type problem struct {
	Segment string `json:"segment"`
	Error   string `json:"error"`
}
