// Logs is a log collector. Three worker processes log with log/slog; the main process writes what they log as one
// JSON stream to its standard output, each record with its worker's name. In the midst of it the worker "blue" is
// killed (SIGKILL). Every worker keeps a book, a file into which it writes each number that it has logged, and at the
// end the main process compares: nothing that was logged is missing.
//
//	go run ./examples/logs | tail
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/router/slogrouter"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/sender/slogsender"
)

func main() {
	if s, err := sender.FromEnv(); err == nil { // started by Launch below
		work(s, os.Args[1], os.Args[2])
		return
	}
	books, err := os.MkdirTemp("", "logs")
	check(err)
	defer os.RemoveAll(books)

	out := slog.NewJSONHandler(os.Stdout, nil)
	rt, err := router.New(router.WithLogger(slog.New(out).With("worker", "main")))
	check(err)
	check(rt.Start())
	defer rt.Stop()

	lost := 0
	ended := make(chan string)
	names := []string{"red", "green", "blue"}
	for _, name := range names {
		s, receiver, err := rt.Pipe()
		check(err)
		defer receiver.Close()
		book := filepath.Join(books, name)
		cmd := exec.Command("/proc/self/exe", name, book)
		cmd.Stderr = os.Stderr
		worker, err := rt.Launch(cmd, s)
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
		receiver.Handle(onRecord, onEnd)
	}
	for range names {
		fmt.Fprintln(os.Stderr, <-ended)
	}
	if lost > 0 {
		log.Fatal("records lost: ", lost)
	}
}

// work logs two thousand jobs; blue goes on until it is killed.
func work(s *sender.Sender, name, path string) {
	check(s.Start())
	defer s.Stop()
	log := slog.New(slogsender.NewHandler(s, nil))
	book, err := os.Create(path)
	check(err)
	for i := 1; i <= 2000 || name == "blue"; i++ {
		if s.Context().Err() != nil {
			return // the main process has gone
		}
		start := time.Now()
		log := log.With("job", i)
		log.LogAttrs(context.Background(), slog.LevelInfo, "done", slog.Group("result", "size", i*i, "took", time.Since(start)))
		book.Write([]byte{'.'}) // a byte for each record that was logged
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
