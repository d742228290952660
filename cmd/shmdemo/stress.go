package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/page"
	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/stress"
	"github.com/shmrouter/shmrouter/ring"
)

// output is where a command's result goes.
type output io.Writer

// stressCmd is the command line of the stress run.
type stressCmd struct {
	Workers   int            `placeholder:"N" default:"4" help:"Worker processes at a time, 1 to 200 (${default})."`
	Duration  *time.Duration `placeholder:"D" help:"How long the workers send (10s; without end if --messages is given)."`
	Messages  *uint64        `placeholder:"N" help:"How many messages are sent in all (no limit)."`
	Size      sizeRange      `placeholder:"MIN:MAX" help:"Message length in bytes, spread evenly over the orders of magnitude (from none to more than a frame, mostly small)."`
	KillEvery time.Duration  `placeholder:"D" default:"50ms" help:"Time between kills, 0 for none (${default})."`
	Kills     int64          `placeholder:"N" help:"End after so many kills (no limit; then --duration has no default)."`
	InClaim   float64        `placeholder:"SHARE" default:"0.5" help:"Share of the kills that are aimed at open claims, above 0 to 1 (${default})."`
	StopEvery time.Duration  `placeholder:"D" default:"500ms" help:"Time between stops of a worker, 0 for none (${default})."`
	Pause     time.Duration  `placeholder:"D" default:"0s" help:"Pause of each worker after each message, so that processors are left to others (${default})."`
	Seed      uint64         `placeholder:"S" help:"Makes the same choices as the run that printed it (a new one)."`
	Capacity  int64          `placeholder:"BYTES" default:"${capacity}" help:"Size of the ring, a power of two from 65536 to 1073741824 (${default})."`
	Path      string         `placeholder:"FILE" help:"Put the segment into this file, which must not exist, best in /dev/shm (a nameless one in memory)."`
	Patience  time.Duration  `placeholder:"D" default:"30s" help:"Without progress for so long, the run has failed (${default})."`
	Report    *string        `placeholder:"FILE.html" help:"Write a page with curves and figures into this file, which is replaced as a whole; --json has the curves, too, then."`
	JSON      bool           `name:"json" help:"Write the result as one JSON object to stdout."`
}

const (
	maxWorkers  = 200 // a ring has 255 slots, and one that has just been killed may still hold its own
	maxSize     = 64 << 20
	minPatience = time.Second
)

// sizeRange is a flag of the form MIN:MAX.
type sizeRange struct {
	given    bool
	min, max int
}

// UnmarshalText parses MIN:MAX.
func (r *sizeRange) UnmarshalText(text []byte) error {
	lo, hi, ok := strings.Cut(string(text), ":")
	a, errA := strconv.Atoi(lo)
	b, errB := strconv.Atoi(hi)
	if !ok || errA != nil || errB != nil || a < 0 || b < a || b > maxSize {
		return fmt.Errorf("%q is not MIN:MAX with 0 <= MIN <= MAX <= %d", text, maxSize)
	}
	*r = sizeRange{true, a, b}
	return nil
}

// Validate is called by kong when all flags are parsed.
func (c *stressCmd) Validate() error {
	switch {
	case c.Workers < 1 || c.Workers > maxWorkers:
		return fmt.Errorf("--workers %d is not between 1 and %d", c.Workers, maxWorkers)
	case c.Duration != nil && *c.Duration <= 0:
		return fmt.Errorf("--duration %v is not positive", *c.Duration)
	case c.Messages != nil && *c.Messages == 0:
		return errors.New("--messages 0 is not positive")
	case c.KillEvery < 0:
		return fmt.Errorf("--kill-every %v is negative", c.KillEvery)
	case c.Pause < 0:
		return fmt.Errorf("--pause %v is negative", c.Pause)
	case c.Kills < 0 || c.Kills > 0 && c.KillEvery == 0:
		return fmt.Errorf("--kills %d with --kill-every %v: nobody would be killed", c.Kills, c.KillEvery)
	case !(c.InClaim > 0 && c.InClaim <= 1):
		return fmt.Errorf("--in-claim %v is not above 0 and at most 1", c.InClaim)
	case c.StopEvery < 0:
		return fmt.Errorf("--stop-every %v is negative", c.StopEvery)
	case c.Patience < minPatience:
		return fmt.Errorf("--patience %v is below %v", c.Patience, minPatience)
	}
	if _, _, err := ring.SegmentSize(ring.Options{Capacity: c.Capacity}); err != nil || c.Capacity == 0 {
		return fmt.Errorf("--capacity %d: not a power of two from 65536 to 1073741824", c.Capacity)
	}
	return nil
}

// Help is printed with the flags.
func (*stressCmd) Help() string {
	return `Recoveries are seen from outside: by the segment's words and by asking the kernel for the lock, every 20 µs or so.
A dead worker's claim is promised to be skipped within 10 ms of its lock being free, not of the kill. It is measured from the last look at
which the lock was still held (or, if that is later, at which the consumer had not come to the claim, or slept with nothing behind it,
so that nobody waited) to the first look at which the claim was skipped, so no figure is too short, and nothing is subtracted from any. The
verdict subtracts for how long this process could not run meanwhile (says the kernel's run queue, or a twin that sleeps as the consumer
does), because the promise is for a consumer that gets a processor; it is given with up to 4 workers, on 2 processors or more. What a
stopped worker may have held up is told apart, and not judged. So are the last messages of killed workers, which are promised within 100 ms.`
}

func (c *stressCmd) config() stress.Config {
	cfg := stress.Config{
		Workers:   c.Workers,
		Sizes:     stress.Sizes{Given: c.Size.given, Min: c.Size.min, Max: c.Size.max},
		KillEvery: c.KillEvery, Kills: c.Kills, InClaim: c.InClaim, StopEvery: c.StopEvery, Pause: c.Pause, Seed: c.Seed,
		Capacity: c.Capacity, Path: c.Path, Patience: c.Patience,
		Progress: os.Stderr, Live: isTerminal(os.Stderr), Timeline: c.Report != nil,
	}
	switch {
	case c.Duration != nil:
		cfg.Duration = *c.Duration
	case c.Messages == nil && c.Kills == 0:
		cfg.Duration = 10 * time.Second
	}
	if c.Messages != nil {
		cfg.Messages = *c.Messages
	}
	return cfg
}

// Run carries out the run. The first signal ends it early: it is judged and told as
// any other. After the second one nothing is waited for.
func (c *stressCmd) Run(out output, line commandLine) error {
	file, err := openReport(c.Report)
	if err != nil {
		return err
	}
	makeRoomForTheJudge()
	r, err := stress.New(c.config())
	if err != nil {
		return err
	}
	ctx, cancel := untilSignal(r.Abandon)
	defer cancel()
	began := time.Now()
	result := r.Do(ctx)
	asked := line.asked(result.Seed, began, ctx.Err() != nil, c.options()...)
	return tellBoth(
		func() error { return file.write(func(w io.Writer) error { return page.Stress(w, result, asked) }) },
		func() error { return tell(out, c.JSON, result.OK, result) },
	)
}

// options are what was asked for, whether it was said or not.
func (c *stressCmd) options() []page.Row {
	or := func(given bool, value any, otherwise string) string {
		if !given {
			return otherwise
		}
		return fmt.Sprint(value)
	}
	cfg := c.config()
	return []page.Row{
		{Name: "workers", Value: fmt.Sprint(c.Workers)},
		{Name: "duration", Value: or(cfg.Duration > 0, cfg.Duration, "no limit")},
		{Name: "messages", Value: or(cfg.Messages > 0, cfg.Messages, "no limit")},
		{Name: "size", Value: or(c.Size.given, fmt.Sprintf("%d to %d bytes", c.Size.min, c.Size.max), "none to more than a frame")},
		{Name: "a kill every", Value: or(c.KillEvery > 0, c.KillEvery, "never")},
		{Name: "kills", Value: or(c.Kills > 0, c.Kills, "no limit")},
		{Name: "aimed at claims", Value: fmt.Sprintf("%g %%", 100*c.InClaim)},
		{Name: "a stop every", Value: or(c.StopEvery > 0, c.StopEvery, "never")},
		{Name: "pause after a message", Value: or(c.Pause > 0, c.Pause, "none")},
		{Name: "capacity", Value: stress.Bytes(float64(c.Capacity))},
		{Name: "segment", Value: or(c.Path != "", c.Path, "in memory, without a name")},
		{Name: "patience", Value: fmt.Sprint(c.Patience)},
	}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil && os.Getenv("TERM") != "dumb"
}
