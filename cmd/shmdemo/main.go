// Command shmdemo shows that the message router survives: it has worker processes
// send messages of all sizes, kills them at any moment, replaces them, and
// compares everything that arrives with what the workers noted down. And it shows
// how fast it is, on the machine at hand.
//
//	shmdemo                                  ten seconds of stress, a table, a verdict
//	shmdemo --json --duration 1m --workers 32
//	shmdemo --kills 10000 --in-claim 1 --kill-every 20ms
//	shmdemo --report stress.html             the same as a page to look at
//	shmdemo soak --duration 30m              everything at once, and nothing may grow
//	shmdemo sweep                            kills at every instruction of every operation, in some minutes
//	shmdemo sweep --quick                    the same for a sample of them
//	shmdemo bench                            the ring beside pipes, sockets and channels, in less than two minutes
//	shmdemo gap --plot gap.svg               the rate before, during and after a worker's death
//	shmdemo --help
//
// Its exit status is 0 if nothing was wrong, 1 on any violation, 2 if it could not
// run as asked, 3 if the system does not permit it here.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/shmrouter/shmrouter/bench"
	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/gap"
	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/speed"
	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/stress"
	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/sweep"
	"github.com/shmrouter/shmrouter/ring"
)

// Exit statuses.
const (
	exitOK        = 0
	exitViolation = 1
	exitUsage     = 2
	exitNotHere   = 3
)

// cli is the command line. stress is what runs when no command is named.
type cli struct {
	Stress stressCmd `cmd:"" default:"withargs" help:"Kill and stop workers while they send, and judge what arrives (default)."`
	Soak   soakCmd   `cmd:"" help:"Everything at once, for long, and nothing may grow."`
	Bench  benchCmd  `cmd:"" help:"Compare the ring with pipes, unix sockets and Go channels, in pairs."`
	Gap    gapCmd    `cmd:"" help:"Show the rate before, during and after the death of a worker inside a claim."`
	Sweep  sweepCmd  `cmd:"" help:"Kill and stop processes at every instruction of every operation, and judge what the others see."`
}

// errViolation makes the exit status; what was wrong has been told.
var errViolation = errors.New("the run has failed")

// notHere says that the system does not permit what was asked.
type notHere struct{ error }

// usageError says what is wrong with the command line.
type usageError struct{ error }

func main() {
	bench.Main()
	if os.Getenv(gap.EnvWorker) != "" {
		os.Exit(gap.Worker())
	}
	if sweep.IsRole() {
		os.Exit(sweep.Role())
	}
	if os.Getenv(stress.EnvWorker) != "" {
		os.Exit(stress.Worker())
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	exit := -1
	parser := kong.Must(&cli{},
		kong.Name("shmdemo"),
		kong.Description("Shows that the shared-memory message router survives, and how fast it is. "+
			"Exit status 0: nothing was wrong; 1: a violation; 2: could not run as asked; "+
			"3: not permitted here."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exit = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Help(help),
		kong.BindTo(stdout, (*output)(nil)), kong.Bind(commandLine(args)), kong.Vars{
			"capacity": strconv.Itoa(ring.DefaultCapacity), "operations": strings.Join(sweep.Names(), ", "),
			"rows": strings.Join(speed.Names(), ", "),
		},
	)
	ctx, err := parser.Parse(args)
	if exit >= 0 { // help was asked for, and given
		return exit
	}
	if err == nil {
		err = ctx.Run()
	}
	var usage usageError
	var parse *kong.ParseError
	var not notHere
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errViolation):
		return exitViolation
	case errors.As(err, &not):
		fmt.Fprintf(stderr, "shmdemo: %v\n", err)
		return exitNotHere
	case errors.As(err, &usage), errors.As(err, &parse):
		fmt.Fprintf(stderr, "shmdemo: %v\nTry 'shmdemo --help'.\n", err)
	default:
		fmt.Fprintf(stderr, "shmdemo: %v\n", err)
	}
	return exitUsage
}

// help adds the flags of the command that runs when none is named.
func help(o kong.HelpOptions, ctx *kong.Context) error {
	if err := kong.DefaultHelpPrinter(o, ctx); err != nil || ctx.Selected() != nil {
		return err
	}
	standard, err := kong.Trace(ctx.Kong, []string{"stress"})
	if err != nil {
		return err
	}
	fmt.Fprintln(ctx.Stdout)
	return kong.DefaultHelpPrinter(o, standard)
}
