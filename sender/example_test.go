package sender_test

import (
	"context"
	"fmt"
	"log"
	"structs"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/sender/codec"
)

// Image is what is better filled in where it is sent from: a few hundred KiB.
type Image struct {
	_             structs.HostLayout
	Width, Height int32
	Pixels        [256 << 10]uint8
}

// A large struct is filled in in the ring, without being copied there.
func ExampleTyped_Claim() {
	images := codec.MustStruct[Image]()
	r, s, rcv := openPipe()
	defer r.Stop()
	defer rcv.Close()

	out := sender.NewTyped(s, images)
	c, err := out.Claim(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Abort() // does nothing after Commit
	img := c.Value()
	img.Width, img.Height = 640, 400
	img.Pixels[0] = 255
	if err := c.Commit(); err != nil {
		log.Fatal(err)
	}

	got, err := router.NewTyped(rcv, images).Recv(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(got.Width, got.Height, got.Pixels[:2])
	// Output: 640 400 [255 0]
}

func ExampleTyped_Send() {
	type Job struct {
		Name string `json:"name"`
	}
	r, s, rcv := openPipe()
	defer r.Stop()
	defer rcv.Close()

	out := sender.NewTyped(s, codec.JSON[Job]())
	if err := out.Send(context.Background(), &Job{Name: "sort"}); err != nil {
		log.Fatal(err)
	}

	m, err := rcv.Recv(context.Background()) // or by a router.Typed with the same codec
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(m.Data))
	// Output: {"name":"sort"}
}

// Everything that writes to an io.Writer can write to a pipe: here each line is one message.
func ExampleWriter() {
	r, s, rcv := openPipe()
	defer r.Stop()
	defer rcv.Close()

	lines := log.New(sender.NewWriter(context.Background(), s), "worker: ", 0)
	lines.Print("begun")
	lines.Print("done")
	s.Stop()

	for m, err := range rcv.Messages(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%q\n", m.Data)
	}
	// Output:
	// "worker: begun\n"
	// "worker: done\n"
}

// openPipe is a pipe whose both ends are in this process.
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
