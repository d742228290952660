package router

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/shm"
)

// EpollLoop is an event loop that its owner runs, usually the main goroutine,
// and that can wait for other descriptors too (Watch). Each router on it has an
// eventfd. It can be nested into a foreign loop: FD is readable when RunOnce has
// something to do.
type EpollLoop struct {
	epfd int
	quit *shm.Event // ends Run: its context is done, or Close was called

	mu      sync.Mutex
	watched map[int32]func() // by descriptor
	closed  bool
	running bool // in Run or RunOnce: whoever leaves last closes epfd
}

// ErrLoopRunning is returned by Run and RunOnce while another one runs, which
// includes calling them from a handler.
var ErrLoopRunning = errors.New("router: loop is already running")

// NewEpollLoop makes a loop; nothing happens on it before Run. Errors are the kernel's: no descriptor
// (unix.EMFILE, ENFILE), no memory.
func NewEpollLoop() (_ *EpollLoop, err error) {
	quit, err := shm.NewEvent()
	if err != nil {
		return nil, err
	}
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("epoll_create1", err), quit.Close())
	}
	l := &EpollLoop{epfd: epfd, quit: quit, watched: map[int32]func(){}}
	if err := l.Watch(quit.FD(), func() { quit.Drain() }); err != nil {
		return nil, errors.Join(err, quit.Close(), unix.Close(epfd))
	}
	return l, nil
}

// Pingee implements EventLoop. Errors: os.ErrClosed after Close, and the kernel's, of eventfd2 and epoll_ctl.
func (l *EpollLoop) Pingee(onPing func()) (Pingee, error) {
	event, err := shm.NewEvent()
	if err != nil {
		return nil, err
	}
	p := &pingee{onPing: onPing, signal: func() error {
		if l.FD() < 0 {
			return os.ErrClosed
		}
		return event.Ping()
	}}
	fd := event.FD()
	err = l.Watch(fd, func() {
		event.Drain() // before the look for work; an error means that it was closed meanwhile
		p.run()
	})
	if err != nil {
		return nil, errors.Join(err, event.Close())
	}
	p.retire = func() {
		l.Unwatch(fd)
		event.Close()
	}
	return p, nil
}

// Watch has the loop call fn whenever fd is readable, level-triggered: fn reads
// what is there, and takes it well if there is nothing. fd stays the caller's, who calls Unwatch before closing it. Any
// goroutine may call it. Errors: os.ErrClosed, and those of epoll_ctl: EPERM for a file or /dev/null, which is what
// standard input is under a service manager.
func (l *EpollLoop) Watch(fd int, fn func()) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return os.ErrClosed
	}
	err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	if err != nil {
		return fmt.Errorf("router: watch descriptor %d: %w", fd, os.NewSyscallError("epoll_ctl", err))
	}
	l.watched[int32(fd)] = fn
	return nil
}

// Unwatch ends Watch. An fn that is being called finishes. Any goroutine may
// call it, also fn.
func (l *EpollLoop) Unwatch(fd int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.watched[int32(fd)]; !ok {
		return
	}
	delete(l.watched, int32(fd))
	if l.epfd >= 0 {
		unix.EpollCtl(l.epfd, unix.EPOLL_CTL_DEL, fd, nil)
	}
}

// Run runs the loop on the calling goroutine until ctx is done, then returns its
// error, or until Close, then os.ErrClosed. It holds a thread while it waits.
func (l *EpollLoop) Run(ctx context.Context) error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.leave()
	defer context.AfterFunc(ctx, func() { l.quit.Ping() })()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.turn(-1); err != nil {
			return err
		}
	}
}

// RunOnce runs what is ready without waiting, for a loop that is nested into
// another or polled. Errors: os.ErrClosed, ErrLoopRunning.
func (l *EpollLoop) RunOnce() error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.leave()
	return l.turn(0)
}

// FD returns a descriptor that is readable when RunOnce has something to do; -1
// after Close. It is the loop's.
func (l *EpollLoop) FD() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return -1
	}
	return l.epfd
}

// Close ends Run, and gives the descriptors back; from within Run, when that
// returns. A second Close is os.ErrClosed.
func (l *EpollLoop) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return os.ErrClosed
	}
	l.closed = true
	if l.running {
		return l.quit.Ping() // leave does the rest
	}
	return l.release()
}

func (l *EpollLoop) enter() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return os.ErrClosed
	case l.running:
		return ErrLoopRunning
	}
	l.running = true
	return nil
}

func (l *EpollLoop) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running = false
	if l.closed {
		l.release()
	}
}

// release is called with mu held, once nobody waits on epfd: the number may be
// another file's a moment later.
func (l *EpollLoop) release() error {
	epfd := l.epfd
	l.epfd = -1
	return errors.Join(unix.Close(epfd), l.quit.Close())
}

// turn waits for readiness, timeout in milliseconds, and calls what is ready.
func (l *EpollLoop) turn(timeout int) error {
	var ready [16]unix.EpollEvent
	n, err := unix.EpollWait(l.epfd, ready[:], timeout)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("epoll_wait", err)
	}
	for _, ev := range ready[:max(n, 0)] {
		l.mu.Lock()
		fn, closed := l.watched[ev.Fd], l.closed
		l.mu.Unlock()
		if closed {
			return os.ErrClosed
		}
		if fn != nil {
			fn()
		}
	}
	return nil
}
