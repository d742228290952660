package stress

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/router"
)

// Host is the receiving side of a run: a router, and what was measured at it. A run
// makes its own, unless it is given one (Config.Host), which then serves several
// runs one after the other.
type Host struct {
	main  mainSide
	path  string
	keeps bool // the path outlives a Stop
	meter *meter
}

// mainSide is a router, in this process or in another.
type mainSide interface {
	start() error
	// admit opens a pipe for m, whose messages go to the book and whose end goes to m,
	// and starts cmd with its sending end.
	admit(b *book, m *member, cmd *exec.Cmd) error
	// figures never blocks for long.
	figures() figures
	// segment is the file that the ring lies in, for the caller to close.
	segment() (*os.File, error)
	stop() error
}

// process is a worker as it is waited for and signalled.
type process interface {
	PID() int
	Wait() error
	Done() <-chan struct{}
	Kill() error
	Signal(os.Signal) error
}

// sendersEnd is what the main process can do about a pipe.
type sendersEnd interface {
	Cancel() error
	Close() error
}

// figures are what a router counted since its start, and the state of its ring.
type figures struct {
	discarded, malformed, unrouted, damages, panics, dropped uint64
	skippedDead, swept                                       uint64
	queued                                                   int64
	pipes                                                    router.PipeStats
	ring                                                     ring.Stats
}

// packed is figures as they travel from a steward.
type packed struct {
	Counts [8]uint64
	Queued int64
	Pipes  router.PipeStats
	Ring   ring.Stats
}

func (f figures) pack() packed {
	return packed{[8]uint64{f.discarded, f.malformed, f.unrouted, f.damages, f.panics, f.dropped, f.skippedDead, f.swept}, f.queued, f.pipes, f.ring}
}

func unpackFigures(text []byte) (f figures, ok bool) {
	var p packed
	if json.Unmarshal(text, &p) != nil {
		return f, false
	}
	c := p.Counts
	return figures{c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], p.Queued, p.Pipes, p.Ring}, true
}

func figuresOf(s router.Stats) figures {
	return figures{
		discarded: s.Discarded, malformed: s.Malformed, unrouted: s.Unrouted, damages: s.Damages, panics: s.Panics,
		dropped: s.Ring.Dropped, skippedDead: s.Ring.Consumer.SkippedDead, swept: s.Ring.Swept,
		queued: s.Queued, pipes: s.Pipes, ring: s.Ring,
	}
}

// NewHost makes a router as cfg asks for, which does not run yet. An error wraps ErrConfig.
func NewHost(cfg Config) (*Host, error) {
	cfg = cfg.complete()
	h := &Host{path: cfg.Path, meter: newMeter()}
	opts := []router.Option{
		router.WithCapacity(cfg.Capacity), router.WithMaxMessage(max(cfg.Sizes.Longest(), 1)),
		router.WithSkipHook(h.meter.skip), router.WithStallHook(h.meter.stall), router.WithQueue(pulledQueue),
	}
	if cfg.Path != "" {
		opts = append(opts, router.WithPath(cfg.Path))
	}
	r, err := router.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	h.main = &here{router: r}
	return h, nil
}

// Start starts the router. An error wraps ErrConfig.
func (h *Host) Start() error {
	if err := h.main.start(); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return nil
}

// Stop stops the router, and says what is wrong about that.
func (h *Host) Stop() (complaints []string) {
	if err := h.main.stop(); err != nil {
		complaints = append(complaints, fmt.Sprintf("stopping the router: %v", err))
	}
	if h.path == "" || h.keeps {
		return complaints
	}
	if _, err := os.Lstat(h.path); !errors.Is(err, fs.ErrNotExist) {
		complaints = append(complaints, "the router left its segment's file behind")
		os.Remove(h.path)
	}
	return complaints
}

// odd lists what a router counted since before and that cannot be; discards are the
// messages that may have been for closed pipes.
func (f figures) odd(before figures, discards uint64) (complaints []string) {
	for _, o := range []struct {
		what  string
		count uint64
	}{
		{"messages for closed pipes", f.discarded - before.discarded - min(discards, f.discarded-before.discarded)},
		{"frames that no sender makes", f.malformed - before.malformed},
		{"messages that were sent and not routed", f.unrouted - before.unrouted},
		{"places where the segment was damaged", f.damages - before.damages},
		{"panics of handlers", f.panics - before.panics},
	} {
		if o.count != 0 {
			complaints = append(complaints, fmt.Sprintf("the router counted %d %s", o.count, o.what))
		}
	}
	if f.dropped != 0 { // of present holders: not a count since the start
		complaints = append(complaints, fmt.Sprintf("the router counted %d claims dropped by living workers", f.dropped))
	}
	return complaints
}

// here is a router in this process.
type here struct{ router *router.Router }

func (h *here) start() error { return h.router.Start() }
func (h *here) stop() error  { return h.router.Stop() }

func (h *here) figures() figures { return figuresOf(h.router.Stats()) }

func (h *here) admit(b *book, m *member, cmd *exec.Cmd) error {
	s, pipe, err := h.router.Pipe()
	if err != nil {
		return err
	}
	pipe.Handle(func(msg router.Message) { b.arrive(m, msg.Data) }, m.endOfPipe)
	w, err := h.router.Launch(cmd, s)
	if err != nil {
		pipe.Close()
		return err
	}
	m.pipe, m.worker = pipe, w
	return nil
}

// segment asks for the file as a worker gets it, by a pipe that nobody will use.
func (h *here) segment() (*os.File, error) {
	s, pipe, err := h.router.Pipe()
	if err != nil {
		return nil, err
	}
	defer pipe.Close()
	cmd := exec.Command("nobody")
	if err := s.HandOver(cmd); err != nil {
		return nil, err
	}
	return cmd.ExtraFiles[0], nil
}
