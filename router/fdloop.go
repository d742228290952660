package router

import (
	"os"

	"github.com/shmrouter/shmrouter/shm"
)

// FDLoop lets a foreign event loop deliver: GLib, Qt, libuv, or whatever can
// wait for a descriptor to become readable. The rule:
//
//	wait for FD() to be readable, level-triggered (GLib: g_unix_fd_add with
//	G_IO_IN; Qt: QSocketNotifier; libuv: uv_poll_t with UV_READABLE);
//	when it is, call Dispatch on the loop's thread.
//
// Dispatch drains the descriptor before it looks for work, so that a ping that
// comes meanwhile makes it readable again. One who only reads the descriptor
// and does not call Dispatch loses the ping. The descriptor is the FDLoop's: it is
// neither closed nor wrapped into an os.File; a loop that insists on a descriptor
// of its own takes Dup.
//
// Dispatch is for one goroutine at a time; anything else may be called from any.
type FDLoop struct {
	members pingees
	event   *shm.Event
}

// NewFDLoop makes a loop with one eventfd for all its routers. Errors are the kernel's, of eventfd2: no
// descriptor (unix.EMFILE, ENFILE), no memory.
func NewFDLoop() (*FDLoop, error) {
	event, err := shm.NewEvent()
	if err != nil {
		return nil, err
	}
	return &FDLoop{event: event}, nil
}

// Pingee implements EventLoop. The error is os.ErrClosed after Close.
func (l *FDLoop) Pingee(onPing func()) (Pingee, error) { return l.members.add(onPing, l.event.Ping) }

// FD returns the number of the descriptor to wait for, -1 after Close.
func (l *FDLoop) FD() int { return l.event.FD() }

// Dup returns a descriptor of its own that becomes readable as FD does. The
// caller closes it. Errors: os.ErrClosed after Close, and the kernel's.
func (l *FDLoop) Dup() (*os.File, error) { return l.event.Dup() }

// Dispatch drains the descriptor and runs what is pending: handlers are called
// by it. It is called on the loop's thread, and never blocks by itself. Without
// anything pending it does nothing. The error is os.ErrClosed after Close.
func (l *FDLoop) Dispatch() error {
	if _, err := l.event.Drain(); err != nil {
		return err
	}
	l.members.runPending()
	return nil
}

// Wait blocks the goroutine until the descriptor is readable, and drains it; what
// was pending is then run by Dispatch. It is for Go programs that have no poll of
// their own. The error is os.ErrClosed after Close, which also ends it.
func (l *FDLoop) Wait() error { return l.event.Wait() }

// Close gives the descriptor back. Remove it from the foreign loop first. A
// second Close is os.ErrClosed.
func (l *FDLoop) Close() error {
	l.members.close()
	return l.event.Close()
}
