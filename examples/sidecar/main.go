// Sidecar is two programs that did not start each other and meet in a directory: one sends the lines of its standard
// input, the other writes them to a journal. Either is started first. The receiver may be stopped, or killed, and
// started again, also as a newer version, while the sender goes on: the ring is a file, which the next receiver takes
// over, and every line is in the journal once. Run it in two terminals by
//
//	go run ./examples/sidecar receive /tmp/sidecar
//	seq 1000000 | go run ./examples/sidecar send /tmp/sidecar
package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if len(os.Args) != 3 {
		log.Fatal("usage: sidecar receive|send DIRECTORY")
	}
	dir, err := filepath.Abs(os.Args[2]) // the token names the ring's path for processes that run elsewhere
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		log.Fatal(err)
	}
	switch os.Args[1] {
	case "receive":
		err = receive(ctx, dir)
	case "send":
		err = send(ctx, dir, os.Stdin)
	}
	if err != nil {
		log.Fatal(err)
	}
}
