package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/shmrouter/shmrouter/sender"
)

const pause = 50 * time.Millisecond

// send sends the lines of in. Nothing is lost that Send has returned from; while there is no receiver, it goes on
// until the ring is full, and then waits for the next one.
func send(ctx context.Context, dir string, in io.Reader) error {
	token, err := os.ReadFile(filepath.Join(dir, "token"))
	for errors.Is(err, fs.ErrNotExist) && sleep(ctx) { // no receiver yet
		token, err = os.ReadFile(filepath.Join(dir, "token"))
	}
	if err != nil {
		return err
	}
	s, err := sender.Open(string(token))
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		err := s.Send(ctx, lines.Bytes())
		if errors.Is(err, sender.ErrRouterGone) {
			log.Print("no receiver, and the ring is full: waiting for the next one")
		}
		for errors.Is(err, sender.ErrRouterGone) && sleep(ctx) {
			err = s.Send(ctx, lines.Bytes())
		}
		if err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return s.Stop()
}

// sleep reports whether to try again.
func sleep(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}
