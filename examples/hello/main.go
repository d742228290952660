// Hello is a program with a worker: a process of its own that sends messages through shared memory, and may crash
// or be killed without harm to the main process. The program is both: started by hand it is the main process, which
// starts it once more as the worker. Run it by
//
//	go run ./examples/hello
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender"
)

func main() {
	if sender.Launched() {
		check(sender.Main(work))
		return
	}
	rt, err := router.New(router.WithLogger(slog.Default())) // also of what the worker prints
	check(err)
	check(rt.Start())
	defer rt.Stop()
	worker, err := router.Command{Name: "hello"}.Start(rt)
	check(err)
	for m, err := range worker.Receivers()[0].Messages(context.Background()) {
		check(err) // a worker that died before its time: errors.Is(err, router.ErrPeerDied)
		fmt.Printf("%s\n", m.Data)
	}
	check(worker.Wait())
}

// work is the worker. Its context ends when there is no use in going on: the main process has died, or cancels.
func work(ctx context.Context, s *sender.Sender) error {
	fmt.Println("what a worker prints is logged")
	for i := range 3 {
		if err := s.Send(ctx, fmt.Appendf(nil, "hello %d from process %d", i, os.Getpid())); err != nil {
			return err
		}
	}
	return nil
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
