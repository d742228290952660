package bench

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
)

// Funnel is what a Go programmer would write in place of a Walk: a unix socket
// for each worker, a goroutine for each socket, which reads frames through a
// buffer and hands each message, in memory of its own, to one channel; and a
// loop on that channel, which calls the handler.
type Funnel struct {
	workers
	conns    []net.Conn
	messages chan []byte
	readers  sync.WaitGroup
	loop     sync.WaitGroup
}

// StartFunnel starts the workers. Errors are those of starting a process, and of
// its socket.
func StartFunnel(senders int) (_ *Funnel, err error) {
	f := &Funnel{workers: workers{via: Unix, patience: patienceAfter}, messages: make(chan []byte, channelLength)}
	f.loop.Go(func() {
		for b := range f.messages {
			f.handle(b)
		}
	})
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	for i := range senders {
		if err := f.addWorker(i, senders); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *Funnel) addWorker(i, senders int) error {
	ours, theirs, err := socketPair(numbered(fileUnix, i), syscall.SOCK_STREAM)
	if err != nil {
		return err
	}
	defer ours.Close()
	defer theirs.Close()
	p, err := startProcess(setup{Index: i, Senders: senders, CPU: -1}, map[string]*os.File{numbered(fileUnix, i): theirs})
	if err != nil {
		return err
	}
	f.processes = append(f.processes, p)
	conn, err := openSocket(ours)
	if err != nil {
		return err
	}
	f.conns = append(f.conns, conn)
	f.readers.Go(func() {
		in := newFrameInlet(conn)
		for {
			b, err := in.next()
			if err != nil {
				return // the end; a message that is missing is noticed by who waits for it
			}
			f.messages <- bytes.Clone(b)
		}
	})
	return nil
}

// Close ends the workers and the goroutines. Errors are those of closing sockets.
func (f *Funnel) Close() error {
	f.close()
	var errs []error
	for _, conn := range f.conns {
		errs = append(errs, conn.Close())
	}
	f.readers.Wait()
	close(f.messages)
	f.loop.Wait()
	return errors.Join(errs...)
}
