package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/shmrouter/shmrouter/router"
)

// receive writes messages to the journal until the sender has ended, or ctx does.
func receive(ctx context.Context, dir string) error {
	journal, err := os.OpenFile(filepath.Join(dir, "journal"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer journal.Close()
	ring, token := filepath.Join(dir, "ring"), filepath.Join(dir, "token")
	rt, err := router.New(router.WithPath(ring), router.WithResume())
	if err != nil {
		return err
	}
	if err := rt.Start(); err != nil {
		return err
	}
	defer rt.Stop() // the file stays, for the next receiver
	rcv, err := takeOver(rt, token, journal)
	if err != nil {
		return err
	}
	last, err := lastIn(journal)
	if err != nil {
		return err
	}
	log.Printf("receiving what comes behind message %d", last)

	again := 0
	for m, err := range rcv.Messages(ctx) {
		if err == nil && m.Seq <= last {
			again++ // the receiver before this one had written it, and not finished with it
		} else if err == nil {
			// One write, so a line is there or not, whenever this process is killed. Against a crash of the machine
			// the journal would have to be synced in the body of this loop, behind which the message is handled.
			_, err = fmt.Fprintf(journal, "%d %s\n", m.Seq, m.Data)
			last = m.Seq
		}
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, context.Canceled) {
			log.Printf("stopped behind message %d", last)
			return nil
		}
		if errors.Is(err, router.ErrPeerDied) {
			log.Print(err)
			break // as final as a clean end
		}
		if err != nil {
			return err
		}
	}
	log.Printf("the sender has ended behind message %d; %d came again", last, again)
	return errors.Join(os.Remove(token), os.Remove(ring))
}

// takeOver returns the pipe of the receiver before this one, or else begins: with a line in the journal, as another
// pipe counts from 1, and a token for the sender.
func takeOver(rt *router.Router, token string, journal *os.File) (*router.Receiver, error) {
	old, err := rt.Receivers()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(token); err == nil && len(old) == 1 {
		return old[0], nil
	}
	for _, rcv := range old { // that receiver was killed before anybody got to know of it
		rcv.Close()
	}
	s, rcv, err := rt.Pipe()
	if err != nil {
		return nil, err
	}
	defer s.Close() // the sender takes it by the token
	text, err := s.Token()
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintln(journal, "0 a sender may come"); err != nil {
		return nil, err
	}
	if err := os.WriteFile(token+".new", []byte(text), 0o600); err != nil {
		return nil, err
	}
	return rcv, os.Rename(token+".new", token) // so that nobody reads a part of it
}

// lastIn returns the number of the last message in the journal.
func lastIn(journal *os.File) (last uint64, err error) {
	lines := bufio.NewScanner(journal)
	for lines.Scan() {
		if _, err := fmt.Sscan(lines.Text(), &last); err != nil {
			return 0, fmt.Errorf("journal: %q: %w", lines.Text(), err)
		}
	}
	return last, lines.Err()
}
