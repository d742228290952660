package bench

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// Transport names what carries the messages.
type Transport string

const (
	Ring      Transport = "ring"      // ring.Producer to ring.Consumer; one ring for all senders
	Pipe      Transport = "pipe"      // os.Pipe, one for each sender and direction
	Unix      Transport = "unix"      // unix stream socket, a pair for each sender
	Seqpacket Transport = "seqpacket" // unix socket that keeps messages apart, likewise
	Channel   Transport = "channel"   // Go channel between goroutines of one process

	viaRouter Transport = "router" // a worker's Sender; see Walk
)

// Wait says how the receiving end of a ring passes the time in which nothing
// comes. The other transports sleep in the kernel, whatever it says.
type Wait string

const (
	Default Wait = ""      // Consumer.Wait with the options' defaults
	Spin    Wait = "spin"  // polls on and on, and never sleeps
	Sleep   Wait = "sleep" // Consumer.Wait without spinning
)

// outlet and inlet are the two ends of a transport.
type outlet interface {
	// send blocks until b is on its way; b may be changed then.
	send(b []byte) error
	// sendBatch does that for some messages of one size, at least one, at once
	// where the transport can.
	sendBatch(msgs [][]byte) error
}

type inlet interface {
	// receive takes exactly n messages and gives each to v.
	receive(n uint64, v *verifier) error
}

// The descriptors that an actor inherits, by name. Every transport has its
// descriptors there from the start, so that all run between the same processes.
const (
	fileFloor    = "floor"     // two cache lines
	fileRingUp   = "ring-up"   // senders to receiver
	fileRingDown = "ring-down" // receiver to sender 0: the way back of round trips
	filePipeUp   = "pipe-up"   // + index of the sender
	filePipeDown = "pipe-down"
	fileUnix     = "unix"
	fileSeq      = "seqpacket"
)

// wiring is both ends of everything, as the files that the actors inherit.
type wiring struct {
	receiver map[string]*os.File
	senders  []map[string]*os.File
}

// newWiring makes all links of a crew. On an error nothing stays open.
func newWiring(o CrewOptions) (_ *wiring, err error) {
	w := &wiring{receiver: map[string]*os.File{}}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	for range o.Senders {
		w.senders = append(w.senders, map[string]*os.File{})
	}
	floor, err := shm.NewMemfd("bench-floor", int64(os.Getpagesize()), 0)
	if err != nil {
		return nil, err
	}
	defer floor.Close()
	if err := w.share(fileFloor, floor.File); err != nil {
		return nil, err
	}
	for _, name := range []string{fileRingUp, fileRingDown} {
		capacity := o.Capacity
		if name == fileRingDown { // which never holds more than an answer
			capacity = min(capacity, ring.DefaultCapacity)
		}
		r, err := ring.New(ring.Options{Capacity: capacity})
		if err != nil {
			return nil, err
		}
		defer r.Close()
		if err := w.share(name, r.File); err != nil {
			return nil, err
		}
	}
	for i := range o.Senders {
		if o.RingOnly {
			break
		}
		if err := w.connect(i); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// share gives every actor a descriptor of the same file.
func (w *wiring) share(name string, file func() (*os.File, error)) error {
	for _, files := range append([]map[string]*os.File{w.receiver}, w.senders...) {
		f, err := file()
		if err != nil {
			return err
		}
		files[name] = f
	}
	return nil
}

// connect makes the links that sender i has for itself.
func (w *wiring) connect(i int) error {
	sender := w.senders[i]
	r, s, err := os.Pipe()
	if err != nil {
		return err
	}
	w.receiver[numbered(filePipeUp, i)], sender[numbered(filePipeUp, i)] = r, s
	if r, s, err = os.Pipe(); err != nil {
		return err
	}
	sender[numbered(filePipeDown, i)], w.receiver[numbered(filePipeDown, i)] = r, s
	for name, kind := range map[string]int{fileUnix: syscall.SOCK_STREAM, fileSeq: syscall.SOCK_SEQPACKET} {
		name = numbered(name, i)
		if w.receiver[name], sender[name], err = socketPair(name, kind); err != nil {
			return err
		}
	}
	return nil
}

func socketPair(name string, kind int) (a, b *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, kind|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("bench: %s: %w", name, os.NewSyscallError("socketpair", err))
	}
	return os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name), nil
}

func numbered(name string, i int) string { return name + strconv.Itoa(i) }

// close closes this process's descriptors of the links.
func (w *wiring) close() {
	for _, files := range append([]map[string]*os.File{w.receiver}, w.senders...) {
		for _, f := range files {
			f.Close()
		}
	}
}
