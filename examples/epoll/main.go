// Epoll is an event loop of one's own that delivers messages among other things: an epoll loop on the main thread that
// waits for a timer, for standard input, and for a router's descriptor. Foreign loops (GLib's, Qt's, libuv's) take the
// same descriptor in the same way: see README.md. Run it, type something, and end it by q and Enter:
//
//	go run ./examples/epoll
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender"
)

func init() {
	if !sender.Launched() {
		runtime.LockOSThread() // the main goroutine to the main thread, as toolkits want their loop
	}
}

func main() {
	if sender.Launched() {
		check(sender.Main(work))
		return
	}
	fdloop, err := router.NewFDLoop()
	check(err)
	rt, err := router.New(router.WithEventLoop(fdloop), router.WithLogger(slog.Default()))
	check(err)
	check(rt.Start())

	// This state needs no lock: everything happens on this thread.
	var workers []*router.Worker
	running := 0
	for i := range 2 {
		name := fmt.Sprintf("worker-%d", i)
		w, err := router.Command{Name: name, Receive: func(_ int, receivers []*router.Receiver) {
			receivers[0].Handle(
				func(m router.Message) { say("%s: %s", name, m.Data) },
				func(err error) {
					running--
					say("%s has ended: %v", name, err)
				})
		}}.Start(rt)
		check(err)
		workers = append(workers, w)
		running++
	}

	loop, err := newLoop()
	check(err)
	check(loop.add(fdloop.FD(), func() { check(fdloop.Dispatch()) }))
	timer, err := newTimer(200 * time.Millisecond)
	check(err)
	check(loop.add(timer, func() {
		if n := expirations(timer); n > 0 {
			say("timer: %d workers", running)
		}
	}))
	err = loop.add(int(os.Stdin.Fd()), func() {
		var b [256]byte
		n, err := unix.Read(0, b[:])
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			return
		}
		line := strings.TrimSpace(string(b[:max(n, 0)]))
		say("stdin: %q", line)
		if n <= 0 {
			check(loop.remove(0))
		}
		if n <= 0 || line == "q" {
			for _, w := range workers {
				w.Receivers()[0].Cancel() // their contexts end; what they have sent arrives, and then their ends
			}
		}
	})
	if errors.Is(err, unix.EPERM) {
		say("stdin: a file, or /dev/null, for which nobody can wait")
	} else {
		check(err)
	}
	for running > 0 {
		check(loop.turn())
	}
	check(rt.Stop())
	check(fdloop.Close())
}

// work counts until it is cancelled.
func work(ctx context.Context, s *sender.Sender) error {
	for n := 1; ; n++ {
		if err := s.Send(ctx, fmt.Appendf(nil, "message %d from process %d", n, os.Getpid())); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(150 * time.Millisecond):
		}
	}
}

// say prints a line and the thread that it comes from.
func say(format string, args ...any) {
	fmt.Printf("[thread %d] %s\n", unix.Gettid(), fmt.Sprintf(format, args...))
}

func newTimer(every time.Duration) (fd int, err error) {
	fd, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	t := unix.NsecToTimespec(every.Nanoseconds())
	return fd, unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: t, Value: t}, nil)
}

func expirations(timer int) uint64 {
	var b [8]byte
	if _, err := unix.Read(timer, b[:]); err != nil {
		return 0
	}
	return binary.NativeEndian.Uint64(b[:])
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
