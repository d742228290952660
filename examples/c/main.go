// C is a Go program that gets messages from programs in C, such as those that read an instrument. The header
// shmrouter_ring.h is all that these need; producer/producer.c is one. The Go program makes a ring in a file, starts
// three of them, and checks every message that comes. Run it by
//
//	cc -std=c11 -O2 -Wall -Wextra -o /tmp/producer examples/c/producer/producer.c
//	go run ./examples/c /tmp/producer
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

const producers, messages = 3, 100_000

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: c PRODUCER, which is producer/producer.c compiled")
	}
	if err := run(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(producer string) error {
	dir, err := os.MkdirTemp(shm.DefaultDir(), "samples-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "ring")
	r, err := ring.Create(path, ring.Options{Capacity: 1 << 20})
	if err != nil {
		return err
	}
	defer r.Close()
	c, err := r.Consume() // before they start: a producer whose ring is full gives up if nobody consumes
	if err != nil {
		return err
	}
	defer c.Close()

	ended := make(chan error, 1)
	go func() {
		ended <- runProducers(producer, path)
		c.Interrupt()
	}()
	received := map[uint64]uint64{} // by producer
	err = consume(c, received)
	if !errors.Is(err, ring.ErrInterrupted) {
		return err
	}
	failed := <-ended
	if err := drain(r, c, received); err != nil {
		return err
	}
	for id := range uint64(producers) {
		fmt.Printf("received %d blocks of producer %d, whole and in order\n", received[id], id)
		if received[id] != messages && failed == nil {
			failed = fmt.Errorf("producer %d sent %d", id, messages)
		}
	}
	return failed
}

// runProducers starts them all and waits for their end. What one has sent stays in the ring, however it ended.
func runProducers(producer, path string) (err error) {
	var all []*exec.Cmd
	for id := range producers {
		cmd := exec.Command(producer, path, strconv.Itoa(messages), strconv.Itoa(id))
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err = cmd.Start(); err != nil {
			break
		}
		all = append(all, cmd)
	}
	for _, cmd := range all {
		err = errors.Join(err, cmd.Wait())
	}
	return err
}

// consume takes messages as they come, until it is interrupted.
func consume(c *ring.Consumer, received map[uint64]uint64) error {
	for {
		if err := c.Wait(context.Background()); err != nil {
			return err
		}
		if err := poll(c, received); err != nil {
			return err
		}
	}
}

// drain takes what is there still, when nobody sends any more.
func drain(r *ring.Ring, c *ring.Consumer, received map[uint64]uint64) error {
	end, err := r.Frontier()
	for err == nil && c.Position() < end {
		err = poll(c, received)
	}
	return err
}

func poll(c *ring.Consumer, received map[uint64]uint64) error {
	var wrong error
	_, err := c.Poll(256, func(f ring.Frame) ring.Action {
		received[f.Meta]++
		if wrong = check(f.Data, received[f.Meta]); wrong != nil {
			wrong = fmt.Errorf("producer %d: %w", f.Meta, wrong)
			return ring.Break
		}
		return ring.Continue
	})
	return errors.Join(err, wrong)
}

// check looks at a block in place, as the C program has laid it out: both run on one machine, so the byte order is the
// same.
func check(block []byte, want uint64) error {
	if len(block) != 8+8+100*4 {
		return fmt.Errorf("a block of %d bytes", len(block))
	}
	number, sum := binary.NativeEndian.Uint64(block), binary.NativeEndian.Uint64(block[8:])
	for ; len(block) > 16; block = block[:len(block)-4] {
		sum -= uint64(int32(binary.NativeEndian.Uint32(block[len(block)-4:])))
	}
	switch {
	case number != want:
		return fmt.Errorf("block %d came instead of %d", number, want)
	case sum != 0:
		return fmt.Errorf("block %d is torn", number)
	}
	return nil
}
