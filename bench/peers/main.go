// Command peers holds the ring against the best rings in C, against what the
// kernel and the caches allow, and against what a Go program would use instead:
// pipes, sockets, message queues, channels, shmipc-go, mangos, zmq4, gRPC and
// NATS.
//
//	go run .                    everything, to the terminal
//	go run . -quick             the same with three pairs, in about a minute
//	go run . -rows 1,2,shmipc   lines, or single contests as -list names them; "c" and "peers" are the two halves
//	go run . -out ../../docs    writes docs/benchmarks-peers.md and its pictures
//	go run . -json              everything as JSON, each pair included
//
// A contest that cannot be held here, or fails, is named in the tables; failures
// make the exit status 1, and arguments that make no sense 2. Interrupted, it
// prints what it has, and writes no page.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/shmrouter/shmrouter/bench"
)

func main() {
	registerTasks()
	bench.Main()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		if _, usage := errors.AsType[usageError](err); usage {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

// usageError says what is wrong with the arguments. Nothing was measured.
type usageError struct{ error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

type options struct {
	json     bool
	out      string
	quick    bool
	rows     string
	list     bool
	pictures bool
	pairs    int
	limits
	rounds int // of surveys
}

func command(ctx context.Context, arguments []string) error {
	var o options
	fs := flag.NewFlagSet("peers", flag.ContinueOnError)
	fs.BoolVar(&o.json, "json", false, "print everything as JSON")
	fs.StringVar(&o.out, "out", "", "write "+pageName+" and its pictures into this `folder`")
	fs.BoolVar(&o.quick, "quick", false, "three pairs of 20 ms runs for each contest")
	fs.StringVar(&o.rows, "rows", "", "only these `lines` or contests, separated by commas")
	fs.BoolVar(&o.list, "list", false, "list the contests and stop")
	fs.BoolVar(&o.pictures, "pictures", false, "measure for the pictures as well; with -out they are")
	fs.IntVar(&o.pairs, "pairs", 40, "pairs of a contest at most")
	if err := fs.Parse(arguments); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return usageError{err}
	}
	switch {
	case fs.NArg() > 0:
		return usage("what is %q?", fs.Arg(0))
	case o.pairs < 1:
		return usage("-pairs %d: at least one", o.pairs)
	case o.out != "" && (o.quick || o.rows != ""):
		return usage("-out writes the page of everything: not with -quick or -rows")
	case o.out != "":
		if info, err := os.Stat(o.out); err != nil || !info.IsDir() {
			return usage("-out %s: no such folder", o.out)
		}
	}
	set := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { set[f.Name] = true })
	o.limits = limits{near: enoughNear, pairs: o.pairs, verify: 20_000}
	o.rounds = 7
	if o.quick {
		if !set["pairs"] {
			o.pairs = 3
		}
		o.limits = limits{near: o.pairs, pairs: o.pairs, each: 20 * time.Millisecond, crowd: 0.2, verify: 2000}
		o.rounds = 2
	}
	o.pictures = o.pictures || o.out != ""
	return o.run(ctx, arguments)
}

func (o options) run(ctx context.Context, arguments []string) error {
	for name := range strings.SplitSeq(o.rows, ",") {
		if o.rows != "" && name == "" || len(plan(name)) == 0 {
			return usage("no contest is called %q: see -list", name)
		}
	}
	lines := plan(o.rows)
	if o.list {
		for _, l := range lines {
			fmt.Printf("%s\t%s\n", l.name, l.title)
			for _, c := range l.contests {
				fmt.Printf("\t%s\t%s\n", c.id, c.what)
			}
		}
		return nil
	}
	s, err := newStage(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	rep := report{
		Host: bench.HostLine(), Taken: time.Now(), WantNear: o.near,
		Command: strings.Join(append([]string{"go run ."}, arguments...), " "),
	}
	if s.noC != nil {
		rep.NoC = s.noC.Error()
	}
	var floors []float64
	failed := 0
	for _, l := range lines {
		lr := lineReport{Name: l.name, Title: l.title}
		for _, c := range l.contests {
			if ctx.Err() != nil {
				break
			}
			res, err := s.hold(c, o.limits)
			if err != nil && ctx.Err() != nil {
				break // the signal may have reached its processes, too
			}
			switch {
			case errors.Is(err, errSkipped):
				res.skipped = err.Error()
			case err != nil:
				failed++
				res.skipped = "failed: " + err.Error()
			}
			for _, p := range res.pairs {
				floors = append(floors, p.Floor[:]...)
			}
			cr := res.report(o.near)
			lr.Contests = append(lr.Contests, cr)
			o.progress(l, cr)
		}
		rep.Lines = append(rep.Lines, lr)
	}
	if len(floors) > 0 {
		rep.Floors = bench.SpreadOf(floors)
	}
	taken, surveyErr := o.survey(s, &rep)
	if err := o.print(s, rep, taken); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errors.New("interrupted: what is above is not all")
	}
	if surveyErr != nil {
		return surveyErr
	}
	if failed > 0 {
		return fmt.Errorf("%d contests failed", failed)
	}
	return nil
}

// progress goes to standard error, a line for each contest.
func (o options) progress(l line, c contestReport) {
	text := c.Skipped
	for _, m := range c.Metrics {
		s := m.States[0]
		text += fmt.Sprintf("%s ×%.2f (%.2f–%.2f) %s / %s, %d %s  %s  ", m.name(), s.Ratio.P50, s.Ratio.Min, s.Ratio.Max,
			figure(m.Key, s.Ours), figure(m.Key, s.Theirs), s.Ratio.N, s.State, m.verdict())
	}
	fmt.Fprintf(os.Stderr, "%s  %-12s %s: %s: %s\n", time.Now().Format(time.TimeOnly), c.ID, l.title, c.What, text)
}

func (o options) survey(s *stage, rep *report) ([]surveyOf, error) {
	if !o.pictures || s.ctx.Err() != nil {
		return nil, nil
	}
	var taken []surveyOf
	for _, v := range surveys() {
		each := v.each
		if o.each > 0 {
			each = o.each
		}
		points, err := s.take(v, o.rounds, each)
		if err != nil {
			return taken, fmt.Errorf("picture %s: %w", v.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s  picture: %s\n", time.Now().Format(time.TimeOnly), v.title)
		taken = append(taken, surveyOf{v, points})
		rep.Surveys = append(rep.Surveys, surveyReport{v.name, v.title, v.drawn(points)})
	}
	return taken, nil
}

func (o options) print(s *stage, rep report, taken []surveyOf) error {
	if o.out != "" && s.ctx.Err() == nil {
		if err := rep.writePage(o.out, taken); err != nil {
			return err
		}
	}
	if o.json {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(rep)
	}
	if o.out == "" || s.ctx.Err() != nil {
		rep.write(os.Stdout)
	}
	return nil
}
