// Glib is a program whose main loop is GLib's, as in a GTK application: a timer and the messages of two workers are
// its sources, on the main thread. The router's part is one g_unix_fd_add. GLib is loaded at run time by purego, so
// there is no cgo; a program with bindings of its own does the same with those. Needs libglib-2.0.so.0. Run it by
//
//	cd examples/glib && go run .
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender"
)

func init() {
	if !sender.Launched() {
		runtime.LockOSThread() // the main goroutine to the main thread, as GLib and toolkits want their loop
	}
}

func main() {
	if sender.Launched() {
		check(sender.Main(work))
		return
	}
	check(loadGLib())

	fdloop, err := router.NewFDLoop()
	check(err)
	rt, err := router.New(router.WithEventLoop(fdloop), router.WithLogger(slog.Default()))
	check(err)
	check(rt.Start())
	loop := gMainLoopNew(0, false)
	source := watch(fdloop.FD(), func() { check(fdloop.Dispatch()) })

	running := 0
	for i := range 2 {
		name := fmt.Sprintf("worker-%d", i)
		_, err := router.Command{Name: name, Receive: func(_ int, receivers []*router.Receiver) {
			receivers[0].Handle(
				func(m router.Message) { say("%s: %s", name, m.Data) },
				func(err error) {
					say("%s has ended: %v", name, err)
					if running--; running == 0 {
						gMainLoopQuit(loop)
					}
				})
		}}.Start(rt)
		check(err)
		running++
	}
	every(100*time.Millisecond, func() { say("timer: %d workers", running) })

	gMainLoopRun(loop)
	check(rt.Stop())
	gSourceRemove(source) // before the descriptor is closed
	check(fdloop.Close())
}

// work sends what takes a second.
func work(ctx context.Context, s *sender.Sender) error {
	for n := 1; n <= 10; n++ {
		if err := s.Send(ctx, fmt.Appendf(nil, "message %d from process %d", n, os.Getpid())); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// say prints a line and the thread that it comes from.
func say(format string, args ...any) {
	fmt.Printf("[thread %d] %s\n", unix.Gettid(), fmt.Sprintf(format, args...))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
