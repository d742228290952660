package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/page"
	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/soak"
)

// soakCmd is the command line of the soak.
type soakCmd struct {
	Duration time.Duration `placeholder:"D" default:"5m" help:"How long it takes, and what is under way then (${default})."`
	Epochs   int           `placeholder:"N" default:"5" help:"At least so many epochs, even if that takes longer (${default})."`
	Seed     uint64        `placeholder:"S" help:"Makes the same choices as the soak that printed it (a new one)."`
	Dir      string        `placeholder:"DIR" default:"/dev/shm" help:"Where the named segment goes, in a directory of its own (${default})."`
	Patience time.Duration `placeholder:"D" default:"30s" help:"If everybody or a single worker makes no progress for so long, it has failed (${default})."`
	Crowd    bool          `help:"Every epoch has the 200 workers."`
	Report   *string       `placeholder:"FILE.html" help:"Write a page with curves and figures into this file, which is replaced as a whole."`
	JSON     bool          `name:"json" help:"Write the result as one JSON object to stdout."`
}

// Validate is called by kong when all flags are parsed.
func (c *soakCmd) Validate() error {
	switch {
	case c.Duration <= 0:
		return fmt.Errorf("--duration %v is not positive", c.Duration)
	case c.Epochs < 1:
		return fmt.Errorf("--epochs %d is not positive", c.Epochs)
	case c.Patience < minPatience:
		return fmt.Errorf("--patience %v is below %v", c.Patience, minPatience)
	}
	return nil
}

// Help is printed with the flags.
func (*soakCmd) Help() string {
	return fmt.Sprintf(`Epoch by epoch, three routers run at once, each with workers that are killed, stopped and replaced, that send in bursts, stop by themselves
and run programs: "memory", on a memory file, runs throughout, now and then with 200 workers; "small" has 64 KiB and starts anew each
epoch; "named" is in another process, which is killed and resumed. Between two epochs everything is taken down, and what this process
still holds is compared with the rest before. Grown has what rises by more than is allowed along a line fitted through all rests behind the
warm-up, and still does so in their second half; likewise the least of each epoch at work.

The duration may be overrun: an epoch that has begun when it is over is finished, and there are at least --epochs of them. An epoch is a
twelfth of the duration, from %v to %v, and lasts longer only where hardly anything has happened in it; then everybody leaves, which takes
seconds, and is a violation after --patience without progress. So a soak takes the duration, or --epochs epochs, and up to one epoch and its end more.

A short run judges no slope: at rest none with fewer than %d rests behind the warm-up; at work none in epochs below %v, that is with a
duration below %v, nor with fewer than %d epochs behind the warm-up and without the 200 workers.`,
		soak.EpochLeast, soak.EpochMost, soak.SlopeLeast, soak.WorkFrom, soak.Epochs*soak.WorkFrom, soak.WorkLeast)
}

// Run carries out the soak. Signals are taken as by the stress run.
func (c *soakCmd) Run(out output, line commandLine) error {
	file, err := openReport(c.Report)
	if err != nil {
		return err
	}
	makeRoomForTheJudge()
	s, err := soak.New(soak.Config{
		Duration: c.Duration, Epochs: c.Epochs, Seed: c.Seed, Dir: c.Dir, Patience: c.Patience, Crowded: c.Crowd, Progress: os.Stderr, Live: isTerminal(os.Stderr),
	})
	if err != nil {
		return err
	}
	ctx, cancel := untilSignal(s.Abandon)
	defer cancel()
	began := time.Now()
	result := s.Do(ctx)
	asked := line.asked(result.Seed, began, ctx.Err() != nil, []page.Row{
		{Name: "duration", Value: fmt.Sprint(c.Duration)}, {Name: "epochs, at least", Value: fmt.Sprint(c.Epochs)}, {Name: "directory", Value: c.Dir},
		{Name: "patience", Value: fmt.Sprint(c.Patience)}, {Name: "200 workers", Value: map[bool]string{true: "always", false: "now and then"}[c.Crowd]},
	}...)
	return tellBoth(
		func() error { return file.write(func(w io.Writer) error { return page.Soak(w, result, asked) }) },
		func() error { return tell(out, c.JSON, result.OK, result) },
	)
}
