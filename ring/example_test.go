package ring_test

import (
	"context"
	"fmt"
	"log"
	"math"
	"os"
	"os/exec"
	"slices"

	"github.com/shmrouter/shmrouter/ring"
)

// A ring in a few lines: two seats, a message, a poll.
func Example() {
	r, err := ring.New(ring.Options{}) // shared memory; other processes open it with OpenFile
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	a, err := r.Attach()
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	c, err := r.Consume()
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	ctx := context.Background()
	if err := a.NewProducer().Send(ctx, []byte("hello"), 42); err != nil {
		log.Fatal(err)
	}
	if err := c.Wait(ctx); err != nil {
		log.Fatal(err)
	}
	c.Poll(64, func(f ring.Frame) ring.Action {
		fmt.Printf("%s %d\n", f.Data, f.Meta) // f.Data lies in the ring, and is valid in here
		return ring.Continue
	})
	// Output: hello 42
}

// Filling a message in place. The deferred Abort does nothing once the claim is
// committed.
func ExampleProducer_Claim() {
	r, _ := ring.New(ring.Options{})
	defer r.Close()
	a, _ := r.Attach()
	defer a.Close()
	c, _ := r.Consume()
	defer c.Close()

	send := func(p *ring.Producer, name string) error {
		claim, err := p.Claim(context.Background(), 100, 0)
		if err != nil {
			return err
		}
		defer claim.Abort()
		if name == "" {
			return fmt.Errorf("nobody to greet")
		}
		return claim.CommitN(copy(claim.Bytes(), "hello "+name))
	}
	p := a.NewProducer()
	fmt.Println(send(p, "world"), send(p, ""))
	c.Poll(64, func(f ring.Frame) ring.Action {
		fmt.Printf("%s\n", f.Data)
		return ring.Continue
	})
	// Output:
	// <nil> nobody to greet
	// hello world
}

// A log collector on the ring alone: worker processes, here this binary once
// more (TestMain sends them to logWorker), write lines; one process collects
// them, with the number of the worker's seat. One worker is killed.
func Example_logCollector() {
	r, err := ring.New(ring.Options{Capacity: 1 << 20})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	segment, err := r.File()
	if err != nil {
		log.Fatal(err)
	}
	exited := make(chan error)
	for _, name := range []string{"red", "green", "killed"} {
		cmd := exec.Command(os.Args[0], name)
		cmd.Env = append(os.Environ(), logWorkerVariable+"="+name)
		cmd.ExtraFiles = []*os.File{segment}
		if err := cmd.Start(); err != nil {
			log.Fatal(err)
		}
		go func() { exited <- cmd.Wait() }()
	}
	segment.Close()

	c, err := r.Consume()
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ended := make(chan uint64, 1)
	go func() { // all have ended: what they sent is there, up to the frontier
		for range 3 {
			<-exited
		}
		end, _ := r.Frontier()
		ended <- end
		c.Interrupt()
	}()
	var lines []string
	for end := uint64(math.MaxUint64); c.Position() < end; {
		switch err := c.Wait(context.Background()); err {
		case nil:
		case ring.ErrInterrupted:
			end = <-ended
		default:
			log.Fatal(err)
		}
		_, err := c.Poll(64, func(f ring.Frame) ring.Action {
			lines = append(lines, string(f.Data)) // a copy: the frame is the ring's
			return ring.Continue
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	slices.Sort(lines)
	for _, line := range lines {
		fmt.Println(line)
	}
	// Output:
	// green: line 1
	// green: line 2
	// killed: line 1
	// red: line 1
	// red: line 2
}

const logWorkerVariable = "SHMROUTER_RING_TEST_LOG"

// logWorker is the worker of Example_logCollector.
func logWorker(name string) error {
	r, err := ring.OpenFile(os.NewFile(3, "segment"))
	if err != nil {
		return err
	}
	a, err := r.Attach()
	if err != nil {
		return err
	}
	defer a.Close()
	p := a.NewProducer()
	for i := 1; i <= 2; i++ {
		claim, err := p.Claim(context.Background(), 100, 0)
		if err != nil {
			return err
		}
		if i == 2 && name == "killed" {
			self, _ := os.FindProcess(os.Getpid())
			self.Kill() // in the middle of its line
			select {}
		}
		if err := claim.CommitN(copy(claim.Bytes(), fmt.Sprintf("%s: line %d", name, i))); err != nil {
			return err
		}
	}
	return nil
}
