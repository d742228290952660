package sender

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/label"
)

// Launched reports whether this process was started as a worker: with a sender in its environment, taken since or
// not. It is for programs that are their own worker. Processes that a worker starts are not workers.
func Launched() bool {
	taken.mu.Lock()
	defer taken.mu.Unlock()
	return taken.once || os.Getenv(EnvName) != ""
}

// Main is the body of a worker's main function, which has only to report its error. It takes the one sender that
// was handed to this process (FromEnv), starts it, and calls f on the same goroutine.
// f's context ends when there is no use in going on: when the pipe is cancelled or closed, the router stops, the
// router's process dies in whatever way, or somebody asks this process to end by SIGTERM or SIGINT. context.Cause
// tells which: ErrCancelled, ErrPipeClosed, ErrRouterGone or ErrSignal. A second signal has its usual effect.
//
// Main returns when f does. If f returned nil, Main stops the sender, which the receiver sees as a clean end, and
// returns nil, or what Stop said. It is as clean an end if f returned its context's error or cause once that had
// ended, or ErrRouterGone. Main returns any other error of f as it is, and leaves the sender open: the program is
// expected to exit with a status that is not 0, which the receiver is told behind the last message
// (router.PeerError). A panic in f goes on as one, with the same effect. Main neither prints nor exits.
//
// The errors are those of FromEnv (ErrNoHandover in a program that was started by hand) and Start, and f's.
func Main(f func(ctx context.Context, s *Sender) error) error {
	s, err := FromEnv()
	if err != nil {
		return err
	}
	return work([]*Sender{s}, func(ctx context.Context) error { return f(ctx, s) })
}

// MainAll is Main for any number of senders, at least one, in the order in which they were handed over. f's context
// ends as above, but when the last of them is cancelled or closed, with that one's cause; each has a context of its
// own (Sender.Context). A clean end stops those that f has not stopped. The errors are as Main's, with those of AllFromEnv.
func MainAll(f func(ctx context.Context, ss []*Sender) error) error {
	ss, err := AllFromEnv()
	if err != nil {
		return err
	}
	return work(ss, func(ctx context.Context) error { return f(ctx, slices.Clone(ss)) })
}

// nameProcess gives a process that was started by /proc/self/exe a better name than exe, for those who look at it from
// outside. It is no loss where the kernel forbids it.
func nameProcess() {
	const own = "/proc/self/comm" // of the first thread, which is the process's; the kernel cuts it
	if b, err := os.ReadFile(own); err == nil && string(b) == "exe\n" {
		os.WriteFile(own, []byte(filepath.Base(os.Args[0])), 0)
	}
}

// work stops no sender unless f has returned: a panic leaves them as they are.
func work(ss []*Sender, f func(context.Context) error) error {
	nameProcess()
	for i, s := range ss {
		if err := s.Start(); err != nil {
			for _, unstarted := range ss[i:] {
				unstarted.Close()
			}
			return err
		}
	}
	ctx, end := context.WithCancelCause(context.Background())
	left := new(atomic.Int64)
	left.Store(int64(len(ss)))
	for _, s := range ss {
		own := s.Context()
		context.AfterFunc(own, func() {
			if left.Add(-1) == 0 {
				end(context.Cause(own))
			}
		})
	}
	err := func() error {
		defer endOnSignal(end)()
		return f(ctx)
	}()
	if err != nil && !isCleanEnd(ctx, ss, err) {
		return err
	}
	var errs []error
	for _, s := range ss {
		errs = append(errs, s.Close())
	}
	end(context.Canceled) // for what f may have left behind
	return errors.Join(errs...)
}

// endOnSignal has the first SIGTERM or SIGINT end a context. A SIGINT that was ignored from the start, as for
// a background job of a shell, stays ignored.
func endOnSignal(end context.CancelCauseFunc) (forget func()) {
	signals := []os.Signal{unix.SIGTERM}
	if !signal.Ignored(unix.SIGINT) {
		signals = append(signals, unix.SIGINT)
	}
	came, quit := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(came, signals...)
	go func() {
		label.Context.Set()
		select {
		case sig := <-came:
			signal.Stop(came)
			end(fmt.Errorf("%w: %v", ErrSignal, sig))
		case <-quit:
		}
	}()
	return func() {
		signal.Stop(came)
		close(quit)
	}
}

// isCleanEnd reports whether err says only that there was no use in going on. A send may know that the router is
// gone before the context does; where there are several routers, that is not the end of all.
func isCleanEnd(ctx context.Context, ss []*Sender, err error) bool {
	if ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))) {
		return true
	}
	oneRouter := !slices.ContainsFunc(ss, func(s *Sender) bool { return s.link != ss[0].link })
	return oneRouter && errors.Is(err, ErrRouterGone)
}
