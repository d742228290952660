// Hello is a program with a worker: a process of its own that sends messages through shared memory, and may crash
// or be killed without harm to the main process. The program is both: started by hand it is the main process, which
// starts it once more as the worker. Run it: go run ./examples/hello
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/sender/codec"
)

// Greeting is what the worker sends. Any type that encoding/json takes will do; other codecs are faster.
type Greeting struct {
	Number int
	Text   string
}

var greetings = codec.JSON[Greeting]()

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
	for g, err := range router.NewTyped(worker.Receivers()[0], greetings).Messages(context.Background()) {
		check(err) // a worker that died before its time: errors.Is(err, router.ErrPeerDied)
		fmt.Println(g.Number, g.Text)
	}
	check(worker.Wait())
}

// work is the worker. Its context ends when there is no use in going on: the main process has died, or cancels.
func work(ctx context.Context, s *sender.Sender) error {
	fmt.Println("what a worker prints is logged")
	out := sender.NewTyped(s, greetings)
	for i := range 3 {
		if err := out.Send(ctx, &Greeting{Number: i, Text: "hello"}); err != nil {
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
