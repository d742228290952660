package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/sweep"
)

// sweepCmd is the command line of the sweep.
type sweepCmd struct {
	Quick    bool          `help:"A sample of each operation's points, in less than a minute."`
	Sample   int           `placeholder:"N" help:"So many points of each operation, at most (every one)."`
	Ops      opNames       `placeholder:"NAME,..." help:"Only these operations: ${operations} (all)."`
	NoPause  bool          `help:"Kill only; do not stop victims and let them go on."`
	Pairs    *int          `placeholder:"N" help:"Tries with two victims (2000)."`
	Lanes    int           `placeholder:"N" help:"Victims at a time (two for each processor)."`
	Seed     uint64        `placeholder:"S" help:"Makes the same choices as the run that printed it (a new one)."`
	Patience time.Duration `placeholder:"D" default:"10s" help:"Without progress for so long, a try has failed (${default})."`
	GiveUp   int           `placeholder:"N" default:"20" help:"End after so many points with violations, 0 for never (${default})."`
	JSON     bool          `name:"json" help:"Write the result as one JSON object to stdout."`
}

// What --quick means.
const (
	quickSample = 60
	quickPairs  = 60
	wholePairs  = 2000
)

// Validate is called by kong when all flags are parsed.
func (c *sweepCmd) Validate() error {
	switch {
	case c.Sample < 0:
		return fmt.Errorf("--sample %d is negative", c.Sample)
	case c.Pairs != nil && *c.Pairs < 0:
		return fmt.Errorf("--pairs %d is negative", *c.Pairs)
	case c.Lanes < 0 || c.Lanes > 64:
		return fmt.Errorf("--lanes %d is not between 0 and 64", c.Lanes)
	case c.Patience < minPatience:
		return fmt.Errorf("--patience %v is below %v", c.Patience, minPatience)
	case c.GiveUp < 0:
		return fmt.Errorf("--give-up %d is negative", c.GiveUp)
	}
	return nil
}

// opNames is a flag that names operations; one that is named twice is swept once.
type opNames struct{ names []string }

// UnmarshalText parses NAME,... It is called for each time that the flag is given.
func (o *opNames) UnmarshalText(text []byte) error {
	for name := range strings.SplitSeq(string(text), ",") {
		switch {
		case name == "":
			return fmt.Errorf("an operation's name is empty in %q; there are %s", text, strings.Join(sweep.Names(), ", "))
		case !slices.Contains(sweep.Names(), name):
			return fmt.Errorf("there is no operation %q, but %s", name, strings.Join(sweep.Names(), ", "))
		}
		o.names = append(o.names, name)
	}
	return nil
}

// Help is printed with the flags.
func (*sweepCmd) Help() string {
	return fmt.Sprintf(`An operation is recorded, in the compiled program, and a fresh process is killed at each point of the record, then one is stopped at each, and
the others have to get on. Needs amd64 and the permission to trace (exit status 3 without).

--json: "ok" is the verdict over what was tried: nothing was wrong, and it was not ended early ("ended_early": by a signal or --give-up).
"complete" says how much that is: true only if every recorded point of the operations named was killed at least once; so it is not of
a sample (--quick, --sample). Each of "operations", and "all", the sums, has "points" (recorded), "sampled" (of these, to be tried), "tried"
(of these, a victim was sent there to be killed), "killed" (it came there, and was), "dropped" (it was not in every recording, and no
victim came there: not killed, and not complete), "stopped" (points at which a victim stood while the others went on; of a sample every third,
none with --no-pause), and "recovered" (claims of the dead that were skipped). "pairs" has "tried", "reached" (both victims came to their
points: only these count), "missed" (the others, which are judged all the same), and "required": of %d tries or more, %.0f %% have to reach, or it is a violation.`,
		sweep.PairsFrom, 100*sweep.PairsLeast)
}

func (c *sweepCmd) config() sweep.Config {
	cfg := sweep.Config{
		Operations: c.Ops.names, Sample: c.Sample, NoPause: c.NoPause, Pairs: wholePairs, Lanes: c.Lanes, Seed: c.Seed,
		Patience: c.Patience, GiveUp: c.GiveUp, Progress: os.Stderr, Live: isTerminal(os.Stderr),
	}
	if c.Quick {
		cfg.Pairs = quickPairs
		if c.Sample == 0 {
			cfg.Sample = quickSample
		}
	}
	if c.Pairs != nil {
		cfg.Pairs = *c.Pairs
	}
	if cfg.Lanes == 0 { // they mostly wait: for what is stopped, or sleeps
		cfg.Lanes = min(2*runtime.NumCPU(), 16)
	}
	for cfg.Seed == 0 {
		cfg.Seed = rand.Uint64() >> 32
	}
	return cfg
}

// Run carries out the sweep. A signal ends it early.
func (c *sweepCmd) Run(out output) error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	result, err := sweep.Run(ctx, c.config())
	if errors.Is(err, sweep.ErrNotPermitted) || errors.Is(err, sweep.ErrUnsupported) {
		return notHere{err}
	}
	if err != nil {
		return err
	}
	return tell(out, c.JSON, result.OK, result)
}
