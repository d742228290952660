// Progress shows long jobs in a terminal: worker processes count primes and send how far they are; a Bubble Tea
// program, whose loop is the main goroutine, draws a row for each. The router delivers on that loop (router.PostLoop),
// so what messages change and what is drawn needs no lock. One worker crashes on the way, and its row says so; q
// cancels the jobs. Run it by
//
//	cd examples/progress && go run .
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"
	"strconv"

	tea "charm.land/bubbletea/v2"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender"
)

func main() {
	if sender.Launched() {
		check(sender.Main(work))
		return
	}
	jobs := flag.Int("jobs", 4, "worker processes")
	n := flag.Int64("n", 5_000_000, "numbers that each looks at")
	crash := flag.Int("crash", 2, "the job that crashes half-way")
	flag.Parse()

	ui := &ui{}
	program := tea.NewProgram(ui)
	var logged bytes.Buffer // the screen is the program's until it ends
	rt, err := router.New(
		router.WithEventLoop(router.PostLoop(func(f func()) { program.Send(turn(f)) })),
		router.WithLogger(slog.New(slog.NewTextHandler(&logged, nil))))
	check(err)
	check(rt.Start())
	for i := range *jobs {
		row := &row{name: fmt.Sprintf("job %d", i)}
		crashAt := int64(-1)
		if i == *crash {
			crashAt = int64(i)**n + *n/2
		}
		row.worker, err = router.Command{
			Name:    row.name,
			Args:    []string{decimal(int64(i) * *n), decimal(int64(i+1) * *n), decimal(crashAt)},
			Receive: func(_ int, receivers []*router.Receiver) { ui.show(row, receivers[0]) },
		}.Start(rt)
		check(err)
		ui.rows = append(ui.rows, row)
	}
	_, err = program.Run()
	check(rt.Stop())
	<-rt.Done() // no worker is left, and nothing more is logged
	os.Stderr.Write(logged.Bytes())
	check(err)
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
