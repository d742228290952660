package router

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/shmrouter/shmrouter/sender"
)

var background = context.Background()

func causeOf(ctx context.Context) error {
	err := context.Cause(ctx)
	for _, known := range []error{sender.ErrCancelled, sender.ErrPipeClosed, sender.ErrRouterGone, os.ErrClosed} {
		if errors.Is(err, known) {
			return known
		}
	}
	return err
}

// flood sends numbered messages of arg bytes until it is killed or the router is
// gone, and says on its standard output which it has sent.
func flood(arg string) error {
	size, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	s, err := sender.FromEnv()
	if err == nil {
		err = s.Start()
	}
	if errors.Is(err, sender.ErrRouterGone) {
		return nil
	}
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(os.Stdout, 16) // a line at a time, nearly
	for i := 0; ; i++ {
		if err := s.Send(background, body(i, size)); err != nil {
			if errors.Is(err, sender.ErrRouterGone) {
				return nil
			}
			return err
		}
		fmt.Fprintf(out, "%08d\n", i)
		out.Flush()
	}
}

// sendByPath is a worker that no router launched: it knows a token only.
func sendByPath(token string) error {
	s, err := sender.Open(token)
	if err != nil {
		return err
	}
	if err := s.Start(); err != nil {
		return err
	}
	for i := range 100 {
		if err := s.Send(background, body(i, 100)); err != nil {
			return err
		}
	}
	return s.Stop()
}

// resumingRouter is a main process that delivers what comes at path, and says
// what it has handled; it is killed.
func resumingRouter(path string) error {
	r, err := New(WithPath(path), WithResume())
	if err != nil {
		return err
	}
	if err := r.Start(); err != nil {
		return err
	}
	s, rcv, err := r.Pipe()
	if err != nil {
		return err
	}
	token, err := s.Token()
	if err != nil {
		return err
	}
	fmt.Println(token)
	rcv.Handle(func(m Message) { fmt.Println(m.Seq) }, nil)
	select {}
}
