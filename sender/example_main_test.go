package sender_test

import (
	"context"
	"fmt"
	"log"

	"github.com/shmrouter/shmrouter/sender"
)

// A worker program: this, and nothing else, is its main function.
func ExampleMain() {
	if err := sender.Main(work); err != nil {
		log.Fatal(err) // with its status, the receiver is told
	}
}

// work counts until nobody wants it to, or the main process is gone.
func work(ctx context.Context, s *sender.Sender) error {
	for i := 0; ; i++ {
		if err := s.Send(ctx, fmt.Appendf(nil, "message %d", i)); err != nil {
			return err
		}
	}
}
