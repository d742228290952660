package router_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/netip"
	"structs"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/sender/codec"
)

// Progress is what the worker tells. Both sides know the type and the codec.
type Progress struct {
	_    structs.HostLayout
	Step int64
	Done float64
}

var progress = codec.MustStruct[Progress]()

// sendProgress is the worker: its main is sender.Main(sendProgress).
func sendProgress(ctx context.Context, s *sender.Sender) error {
	out := sender.NewTyped(s, progress)
	for i := range int64(4) {
		if err := out.Send(ctx, &Progress{Step: i, Done: float64(i) / 4}); err != nil {
			return err // the receiver is not interested any more
		}
	}
	return nil
}

// A worker process sends structs, the main process receives them.
func ExampleTyped() {
	r, err := router.New()
	if err != nil {
		log.Fatal(err)
	}
	if err := r.Start(); err != nil {
		log.Fatal(err)
	}
	defer r.Stop()
	worker, err := router.Command{Args: []string{"progress"}}.Start(r) // this program, once more
	if err != nil {
		log.Fatal(err)
	}
	in := router.NewTyped(worker.Receivers()[0], progress)
	for p, err := range in.Messages(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("step %d: %3.0f %%\n", p.Step, 100*p.Done)
	}
	fmt.Println("worker:", worker.Wait())
	// Output:
	// step 0:   0 %
	// step 1:  25 %
	// step 2:  50 %
	// step 3:  75 %
	// worker: <nil>
}

// openPipe is a pipe whose both ends are in this process, as the other examples need.
func openPipe() (r *router.Router, s *sender.Sender, rcv *router.Receiver) {
	r, err := router.New()
	if err != nil {
		log.Fatal(err)
	}
	if err := r.Start(); err != nil {
		log.Fatal(err)
	}
	if s, rcv, err = r.Pipe(); err != nil {
		log.Fatal(err)
	}
	if err := s.Start(); err != nil {
		log.Fatal(err)
	}
	return r, s, rcv
}

// Values with maps and strings go by JSON; one that cannot be decoded is an error of its own, with its bytes, and
// the next ones follow.
func ExampleTyped_json() {
	type Job struct {
		Name string            `json:"name"`
		Tags map[string]string `json:"tags,omitempty"`
	}
	jobs := codec.JSON[Job]()
	r, s, rcv := openPipe()
	defer r.Stop()
	defer rcv.Close()

	ctx := context.Background()
	out := sender.NewTyped(s, jobs)
	out.Send(ctx, &Job{Name: "sort"})
	s.Send(ctx, []byte("{oops"))
	out.Send(ctx, &Job{Name: "merge", Tags: map[string]string{"by": "size"}})
	s.Stop()

	for job, err := range router.NewTyped(rcv, jobs).Messages(ctx) {
		if bad, ok := errors.AsType[*router.DecodeError](err); ok {
			fmt.Printf("message %d is bad: %q\n", bad.Seq, bad.Data)
			continue
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(job.Name, job.Tags)
	}
	// Output:
	// sort map[]
	// message 2 is bad: "{oops"
	// merge map[by:size]
}

// A handler gets values on the event loop; the codec is for types that encode themselves.
func ExampleTyped_Handle() {
	addrs := codec.Binary[netip.Addr]()
	r, s, rcv := openPipe()
	defer r.Stop()
	defer rcv.Close()
	ended := make(chan error)
	router.NewTyped(rcv, addrs).Handle(
		func(a *netip.Addr, m router.Message) { fmt.Println(m.Seq, a) },
		func(bad *router.DecodeError) { fmt.Println(bad) },
		func(err error) { ended <- err },
	)

	out := sender.NewTyped(s, addrs)
	a := netip.MustParseAddr("192.0.2.1")
	out.Send(context.Background(), &a)
	s.Send(context.Background(), []byte("?"))
	s.Stop()
	fmt.Println("end:", <-ended)
	// Output:
	// 1 192.0.2.1
	// router: pipe 1: message 2, of 1 bytes, is no netip.Addr: unexpected slice size
	// end: <nil>
}

// A pipe as a stream of bytes, with whatever the standard library puts around one.
func ExampleReader() {
	r, s, rcv := openPipe()
	defer r.Stop()
	ctx := context.Background()
	go func() {
		defer s.Stop() // the reader's end of file
		z := gzip.NewWriter(sender.NewWriter(ctx, s))
		defer z.Close()
		for i := range 3 {
			json.NewEncoder(z).Encode(map[string]int{"line": i})
		}
	}()

	in := router.NewReader(ctx, rcv)
	defer in.Close()
	z, err := gzip.NewReader(in)
	if err != nil {
		log.Fatal(err)
	}
	lines := bufio.NewScanner(z)
	for lines.Scan() {
		fmt.Println(lines.Text())
	}
	_, err = in.Read(make([]byte, 1))
	fmt.Println(err == io.EOF)
	// Output:
	// {"line":0}
	// {"line":1}
	// {"line":2}
	// true
}
