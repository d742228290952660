package shm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Event is an eventfd: a ping that any event loop can wait for, with its descriptor, and any
// goroutine with Wait. Pings coalesce: several before a Drain are one readiness, and their number
// says nothing.
//
// It is non-blocking, closed on exec, and all methods may be called concurrently.
type Event struct {
	file *os.File // registered with the runtime's poller

	mu sync.RWMutex // held for reading while fd is used
	fd int          // guarded by mu; file's number; -1: closed

	waiting sync.Mutex // serialises Wait
	count   [8]byte    // guarded by waiting; what Wait reads, kept so as not to allocate
}

var onePing = binary.NativeEndian.AppendUint64(nil, 1)

// NewEvent returns an event that nobody has pinged. Errors are the kernel's: no descriptor
// (unix.EMFILE, ENFILE), no memory.
func NewEvent() (_ *Event, err error) {
	defer wrapf(&err, "new event")
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("eventfd2", err)
	}
	file, err := pollable(fd, "eventfd")
	if err != nil {
		return nil, err
	}
	return &Event{fd: fd, file: file}, nil
}

// pollable wraps a non-blocking descriptor for the runtime's poller, and owns it from here on.
// NewFile says nothing when the poller does not take it, and a goroutine that waits for it would
// then fail, or hold a thread.
func pollable(fd int, name string) (*os.File, error) {
	file := os.NewFile(uintptr(fd), name)
	if err := file.SetReadDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Ping makes the event readable. One that is so already is a success. The error is os.ErrClosed
// after Close.
func (e *Event) Ping() error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.fd < 0 {
		return os.ErrClosed
	}
	for {
		_, err := unix.Write(e.fd, onePing)
		switch err {
		case nil, unix.EAGAIN: // EAGAIN: the counter is full, hence readable
			return nil
		case unix.EINTR:
			continue
		}
		return fmt.Errorf("shm: ping: %w", os.NewSyscallError("write", err))
	}
}

// Drain takes all pings that are there and returns their number, 0 if there are none, without
// waiting. Look for work after it, not before: a ping that comes in between is then not taken for
// one that is done with. The error is os.ErrClosed after Close.
func (e *Event) Drain() (uint64, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.fd < 0 {
		return 0, os.ErrClosed
	}
	var count [8]byte
	for {
		_, err := unix.Read(e.fd, count[:])
		switch err {
		case nil:
			return binary.NativeEndian.Uint64(count[:]), nil
		case unix.EAGAIN:
			return 0, nil
		case unix.EINTR:
			continue
		}
		return 0, fmt.Errorf("shm: drain: %w", os.NewSyscallError("read", err))
	}
}

// Wait blocks the goroutine, not a thread, until the event is pinged, and drains it. The error is
// os.ErrClosed after Close, which also ends a Wait that is under way. Several that wait take turns:
// one ping wakes one of them.
func (e *Event) Wait() error {
	e.waiting.Lock()
	defer e.waiting.Unlock()
	_, err := e.file.Read(e.count[:])
	if errors.Is(err, os.ErrClosed) {
		return os.ErrClosed
	}
	return err
}

// FD returns the descriptor's number for a foreign event loop, or -1 after Close. It belongs to the
// Event: it is waited on for reading, and neither closed nor wrapped into an os.File. Whoever is
// woken by it calls Drain, or reads 8 bytes, and then looks for work.
func (e *Event) FD() int {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.fd
}

// Dup returns a descriptor of its own for the same counter, to be given away, also to another
// process. The caller closes it. Errors: os.ErrClosed after Close, and the kernel's.
func (e *Event) Dup() (_ *os.File, err error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.fd < 0 {
		return nil, os.ErrClosed
	}
	return dupFile(e.fd, "eventfd")
}

// Close ends every Wait and closes the descriptor. A second Close is os.ErrClosed. No Ping can
// reach whatever gets the number next.
func (e *Event) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fd < 0 {
		return os.ErrClosed
	}
	e.fd = -1
	return e.file.Close()
}
