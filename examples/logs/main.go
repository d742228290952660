// Logs is a log collector. Three worker processes log with log/slog; the main process writes what they log as one
// JSON stream to its standard output, each record with its worker's name. In the midst of it the worker "blue" is
// killed (SIGKILL). Every worker keeps a book, a file with a byte for each record that it has logged, and at the end
// the main process compares: nothing that was logged is missing.
//
//	go run ./examples/logs | tail
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/router/slogrouter"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/sender/slogsender"
)

func main() {
	if sender.Launched() {
		check(sender.Main(work))
		return
	}
	books, err := os.MkdirTemp("", "logs")
	check(err)
	defer os.RemoveAll(books)

	out := slog.NewJSONHandler(os.Stdout, nil)
	rt, err := router.New(router.WithLogger(slog.New(out))) // a worker that panics is in the stream, too
	check(err)
	check(rt.Start())
	defer rt.Stop()

	lost := 0
	ended := make(chan string)
	names := []string{"red", "green", "blue"}
	for _, name := range names {
		book := filepath.Join(books, name)
		worker, err := router.Command{Name: name, Args: []string{book}}.Start(rt)
		check(err)
		sink := slogrouter.NewSink(out, &slogrouter.Options{
			Attrs: []slog.Attr{slog.String("worker", name), slog.Int("pid", worker.PID())},
		})
		collected := 0
		onRecord := func(m router.Message) { // on the router's event loop, one record after the other
			sink.Message(m)
			if collected++; name == "blue" && collected == 1000 {
				worker.Kill()
			}
		}
		onEnd := func(err error) { // behind the worker's last record
			logged, _ := os.ReadFile(book)
			lost += max(0, len(logged)-collected)
			ended <- fmt.Sprintf("%-5s logged %d records, %d are in the stream; its end: %v", name, len(logged), collected, err)
		}
		worker.Receivers()[0].Handle(onRecord, onEnd)
	}
	for range names {
		fmt.Fprintln(os.Stderr, <-ended)
	}
	if lost > 0 {
		log.Fatal("records lost: ", lost)
	}
}

// work logs two thousand jobs; blue goes on until it is killed.
func work(ctx context.Context, s *sender.Sender) error {
	log := slog.New(slogsender.NewHandler(s, nil))
	book, err := os.Create(os.Args[1])
	if err != nil {
		return err
	}
	for i := 1; i <= 2000 || filepath.Base(book.Name()) == "blue"; i++ {
		if ctx.Err() != nil {
			return ctx.Err() // the main process has gone
		}
		start := time.Now()
		log.With("job", i).Info("done", slog.Group("result", "size", i*i, "took", time.Since(start)))
		book.Write([]byte{'.'}) // a byte for each record that was logged
	}
	return nil
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
