package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// What the commands have in common: signals, a judge that needs processors, and a verdict.

// untilSignal returns a context that the first signal ends, so that the run is judged and told as
// any other. After the second one nothing is waited for: abandon removes what others would find.
func untilSignal(abandon func()) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-signals
		cancel()
		<-signals
		abandon()
		fmt.Fprintln(os.Stderr, "shmdemo: given up without a verdict")
		os.Exit(exitViolation)
	}()
	return ctx, cancel
}

// tell writes the result, as one JSON object or as a table, and makes the exit status of it.
func tell(out io.Writer, asJSON, ok bool, result interface{ Print(io.Writer) error }) (err error) {
	if asJSON {
		err = json.NewEncoder(out).Encode(result)
	} else {
		err = result.Print(out)
	}
	switch {
	case err != nil:
		return fmt.Errorf("writing the result: %w", err)
	case !ok:
		return errViolation
	}
	return nil
}

// tellBoth writes the report and tells the result, and neither is left out because the other fails. What was wrong with the
// run is the more important.
func tellBoth(report, result func() error) error {
	written, told := report(), result()
	if written != nil && told != nil {
		fmt.Fprintf(os.Stderr, "shmdemo: %v\n", written)
	}
	return cmp.Or(told, written)
}

// makeRoomForTheJudge lets the runtime run two goroutines more at a time. The judge and its
// witness, and the starting of processes, which holds its place until the program runs, would
// otherwise keep the router's monitor waiting inside the Go scheduler, where nobody sees it:
// on two processors up to 20 ms.
func makeRoomForTheJudge() { runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 2) }
