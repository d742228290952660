package main

import (
	"errors"

	"golang.org/x/sys/unix"
)

// loop is the least that an event loop is: descriptors, and what to call when they are readable.
type loop struct {
	epfd  int
	calls map[int32]func()
}

func newLoop() (*loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &loop{epfd, map[int32]func(){}}, err
}

// add has the loop call f whenever fd is readable, again and again as long as it is (level-triggered).
func (l *loop) add(fd int, f func()) error {
	l.calls[int32(fd)] = f
	return unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (l *loop) remove(fd int) error {
	delete(l.calls, int32(fd))
	return unix.EpollCtl(l.epfd, unix.EPOLL_CTL_DEL, fd, nil)
}

// turn waits until something is readable, and calls what is to be called.
func (l *loop) turn() error {
	var events [16]unix.EpollEvent
	n, err := unix.EpollWait(l.epfd, events[:], -1)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return err
	}
	for _, e := range events[:max(n, 0)] {
		if f := l.calls[e.Fd]; f != nil { // one that was removed in this turn has none
			f()
		}
	}
	return nil
}
