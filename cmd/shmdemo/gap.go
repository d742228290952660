package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/gap"
	"github.com/shmrouter/shmrouter/ring"
)

// gapCmd is the command line of what shows the rate around a kill.
type gapCmd struct {
	Kills    int     `placeholder:"N" default:"100" help:"Workers killed, one after the other (${default}): some ten a second."`
	Workers  int     `placeholder:"N" default:"4" help:"Worker processes (${default})."`
	Capacity int64   `placeholder:"BYTES" default:"${capacity}" help:"Size of the ring, a power of two (${default})."`
	Rate     float64 `placeholder:"N" default:"1000000" help:"Messages a second of all workers together, 0 for as many as possible (${default})."`
	Free     bool    `help:"Let the kernel place all processes, and pin none."`
	Seed     uint64  `placeholder:"N" help:"Of who is killed, for a run like an earlier one (random)."`
	Plot     string  `placeholder:"FILE.svg" help:"Draw the rate into this file."`
	JSON     bool    `name:"json" help:"Write the result as one JSON object to stdout."`
}

// Validate is called by kong when all flags are parsed.
func (c *gapCmd) Validate() error {
	if _, _, err := ring.SegmentSize(ring.Options{Capacity: c.Capacity}); err != nil || c.Capacity == 0 {
		return fmt.Errorf("--capacity %d: %v", c.Capacity, err)
	}
	switch {
	case c.Kills < 1 || c.Kills > 1_000_000:
		return fmt.Errorf("--kills %d is not between 1 and 1000000", c.Kills)
	case !(c.Rate >= 0 && c.Rate <= 1e9):
		return fmt.Errorf("--rate %v is not between 0 and 1e9", c.Rate)
	case c.Workers < 2 || c.Workers > ring.MaxSlots:
		return fmt.Errorf("--workers %d is not between 2 and %d", c.Workers, ring.MaxSlots)
	}
	return nil
}

// Help is printed with the flags.
func (*gapCmd) Help() string {
	return `Workers send; again and again one of them dies by SIGKILL inside a claim, at an instant that it notes, and another takes its
place. All kills are laid over each other at that instant: when how many messages arrived, and for how long none did. Every message is
checked, and anything wrong ends it with status 1.`
}

// Run kills. The first signal ends it early; after the second one nothing is waited for.
func (c *gapCmd) Run(out output) error {
	plot, err := openPlot(c.Plot)
	if err != nil {
		return err
	}
	if c.Seed == 0 {
		c.Seed = 1 + rand.Uint64N(1<<32)
	}
	ctx, cancel := untilSignal(func() {})
	defer cancel()
	makeRoomForTheJudge()
	result := gap.Run(ctx, gap.Config{
		Kills: c.Kills, Workers: c.Workers, Capacity: c.Capacity, Rate: c.Rate, Seed: c.Seed, Free: c.Free, Progress: os.Stderr, Live: isTerminal(os.Stderr),
	})
	if plot != nil {
		if err := errors.Join(result.Plot(plot), plot.Close()); err != nil {
			return fmt.Errorf("--plot: %w", err)
		}
	}
	return tell(out, c.JSON, result.OK, result)
}
