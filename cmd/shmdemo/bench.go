package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/speed"
)

// benchCmd is the command line of the benchmark.
type benchCmd struct {
	Duration time.Duration `placeholder:"D" default:"90s" help:"For how long pairs are measured; up to a quarter more until each question has had one (${default})."`
	Pairs    int           `placeholder:"N" help:"End after so many pairs of each question (no limit)."`
	Each     time.Duration `placeholder:"D" default:"40ms" help:"How long one run takes; a pair is two of them (${default})."`
	Rows     []string      `placeholder:"NAME,..." help:"Only these: ${rows} (all)."`
	Free     bool          `help:"Let the kernel place all processes, and pin none."`
	Plot     string        `placeholder:"FILE.svg" help:"Draw the ratios into this file."`
	JSON     bool          `name:"json" help:"Write the result as one JSON object to stdout."`
}

// Validate is called by kong when all flags are parsed.
func (c *benchCmd) Validate() error {
	switch {
	case c.Duration <= 0:
		return fmt.Errorf("--duration %v is not positive", c.Duration)
	case c.Pairs < 0:
		return fmt.Errorf("--pairs %d is negative", c.Pairs)
	case c.Each < time.Millisecond || c.Each > 10*time.Second:
		return fmt.Errorf("--each %v is not between 1ms and 10s", c.Each)
	}
	for _, name := range c.Rows {
		if !slices.Contains(speed.Names(), name) {
			return fmt.Errorf("--rows: there is no row %q, but %s", name, strings.Join(speed.Names(), ", "))
		}
	}
	return nil
}

// Help is printed with the flags.
func (*benchCmd) Help() string {
	return `Compares the ring, and the router, with pipes, unix sockets and Go channels, and with the floor: how long two processors need to show each
other a cache line. Each pair is two runs back to back between the same processes, with the floor before, between and after, which says
whether the processors were threads of one core, near or far. It goes round and round through all pairs until the time is over. A signal ends it with what was measured so far. Every message is
checked, and of each kind some hundred byte by byte; anything wrong ends it with status 1.`
}

// Run measures. The first signal ends it early; after the second one nothing is waited for.
func (c *benchCmd) Run(out output) error {
	plot, err := openPlot(c.Plot) // before the work, not after it
	if err != nil {
		return err
	}
	ctx, cancel := untilSignal(func() {})
	defer cancel()
	result := speed.Run(ctx, speed.Config{
		Duration: c.Duration, Pairs: c.Pairs, Each: c.Each, Free: c.Free, Rows: c.Rows, Progress: os.Stderr, Live: isTerminal(os.Stderr),
	})
	if plot != nil {
		if err := errors.Join(result.Plot(plot), plot.Close()); err != nil {
			return fmt.Errorf("--plot: %w", err)
		}
	}
	return tell(out, c.JSON, result.OK, result)
}

// openPlot creates the file for a picture, if there is to be one.
func openPlot(name string) (io.WriteCloser, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Create(filepath.Clean(name))
	if err != nil {
		return nil, usageError{fmt.Errorf("--plot: %w", err)}
	}
	return f, nil
}
