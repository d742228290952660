package router_test

import (
	"context"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"log"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender"
)

// The program is its own worker, unless it is that of a test.
func init() {
	if sender.Launched() && os.Getenv("ROUTER_TEST_ROLE") == "" {
		work := work
		if len(os.Args) > 1 && os.Args[1] == "progress" {
			work = sendProgress
		}
		if err := sender.Main(work); err != nil {
			log.Fatal(err) // with its status, the receiver is told
		}
		os.Exit(0)
	}
}

// work sends three messages. With an argument its process dies behind the second.
func work(ctx context.Context, s *sender.Sender) error {
	for i := range 3 {
		if i == 2 && len(os.Args) > 1 {
			os.Exit(3)
		}
		if err := s.Send(ctx, fmt.Appendf(nil, "%d squared is %d", i, i*i)); err != nil {
			return err // the receiver is not interested any more
		}
	}
	return nil
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

	worker, err := router.Command{}.Start(r) // this program, once more
	if err != nil {
		log.Fatal(err)
	}
	for msg, err := range worker.Receivers()[0].Messages(context.Background()) {
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

// A worker that fails is started again, and given up when that does not help.
func ExampleCommand() {
	r, err := router.New()
	if err != nil {
		log.Fatal(err)
	}
	if err := r.Start(); err != nil {
		log.Fatal(err)
	}
	defer r.Stop()

	told := make(chan struct{}, 2)
	worker, err := router.Command{
		Args: []string{"fail"},
		Receive: func(life int, receivers []*router.Receiver) {
			receivers[0].Handle(
				func(m router.Message) { fmt.Printf("life %d: %s\n", life, m.Data) },
				func(err error) {
					if peer, died := errors.AsType[*router.PeerError](err); died {
						fmt.Printf("life %d: %v\n", life, peer.State)
					}
					told <- struct{}{}
				})
		},
		Restart: router.Restart{When: router.RestartOnFailure, Delay: time.Millisecond, Limit: 1},
	}.Start(r)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(errors.Is(worker.Wait(), router.ErrGaveUp))
	<-told // everything that came was handled
	<-told
	// Unordered output:
	// life 1: 0 squared is 0
	// life 1: 1 squared is 1
	// life 1: exit status 3
	// life 2: 0 squared is 0
	// life 2: 1 squared is 1
	// life 2: exit status 3
	// true
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

// The router's figures on /debug/vars, beside the runtime's: importing expvar
// serves them there, if the program has an HTTP server.
func ExampleRouter_Stats() {
	r, err := router.New()
	if err != nil {
		log.Fatal(err)
	}
	figures := expvar.Func(func() any { return r.Stats() })
	// A program says expvar.Publish("router", figures), once.
	if err := r.Start(); err != nil {
		log.Fatal(err)
	}
	defer r.Stop()
	s, rcv, err := r.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	defer rcv.Close()
	s.Start()
	defer s.Stop()
	s.Send(context.Background(), []byte("hello"))
	rcv.Recv(context.Background())

	var got struct {
		Messages int `json:"copied_messages"`
		Bytes    int `json:"copied_bytes"`
		Ring     struct {
			Capacity int `json:"capacity_bytes"`
		} `json:"ring"`
	}
	if err := json.Unmarshal([]byte(figures.String()), &got); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%+v\n", got)
	// Output: {Messages:1 Bytes:5 Ring:{Capacity:4194304}}
}
