package router_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender"
)

// The program is its own worker: started with an argument, it sends.
func init() {
	if len(os.Args) == 2 && os.Args[1] == "example-worker" {
		work()
		os.Exit(0)
	}
}

func work() {
	s, err := sender.FromEnv()
	if err != nil {
		log.Fatal(err) // says what is missing, if it was started by hand
	}
	if err := s.Start(); err != nil {
		log.Fatal(err)
	}
	defer s.Stop()
	for i := range 3 {
		if err := s.Send(s.Context(), fmt.Appendf(nil, "%d squared is %d", i, i*i)); err != nil {
			return // the receiver is not interested any more
		}
	}
}

// A worker process sends, the main process receives.
func Example() {
	r, err := router.New()
	if err != nil {
		log.Fatal(err)
	}
	if err := r.Start(); err != nil {
		log.Fatal(err)
	}
	defer r.Stop()

	s, rcv, err := r.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	defer rcv.Close()
	worker, err := r.Launch(exec.Command(os.Args[0], "example-worker"), s)
	if err != nil {
		log.Fatal(err)
	}
	for msg, err := range rcv.Messages(context.Background()) {
		if err != nil {
			log.Fatal(err) // a *router.PeerError if the worker was killed
		}
		fmt.Println(string(msg.Data))
	}
	fmt.Println("worker:", worker.Wait())
	// Output:
	// 0 squared is 0
	// 1 squared is 1
	// 2 squared is 4
	// worker: <nil>
}

// A foreign event loop, here a bare poll(2), delivers: it waits for the
// descriptor and calls Dispatch. Handlers run on its thread.
func ExampleFDLoop() {
	loop, err := router.NewFDLoop()
	if err != nil {
		log.Fatal(err)
	}
	defer loop.Close()
	r, err := router.New(router.WithEventLoop(loop))
	if err != nil {
		log.Fatal(err)
	}
	if err := r.Start(); err != nil {
		log.Fatal(err)
	}
	defer r.Stop()

	s, rcv, err := r.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	defer rcv.Close()
	running := true
	rcv.Handle(
		func(m router.Message) { fmt.Printf("message %d: %s\n", m.Seq, m.Data) },
		func(err error) { fmt.Println("end:", err); running = false },
	)
	go func() { // a sender may be in the same process, too
		s.Start()
		s.Send(context.Background(), []byte("hello"))
		s.Stop()
	}()

	for running {
		fds := []unix.PollFd{{Fd: int32(loop.FD()), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		}
		loop.Dispatch() // drains first, then looks: see FDLoop
	}
	// Output:
	// message 1: hello
	// end: <nil>
}
