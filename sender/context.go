package sender

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/shmrouter/shmrouter/internal/label"
	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/shm"
)

// aliveEvery is how often the kernel is asked whether the router is alive, by the vigil where it cannot do
// better, and by a watcher where there is no vigil. It may take that long to notice a death. Tests replace it.
var aliveEvery = int64(200 * time.Millisecond)

// Context returns a context that ends when there is no use in sending any more; it is the same one every
// time. context.Cause says why: ErrCancelled, ErrPipeClosed, ErrRouterGone, or, after this Sender's own Stop,
// os.ErrClosed. A router's death is noticed at once in a process that it started (Router.Launch, Command), within a
// quarter of a second in others, and within two seconds in one that has closed descriptors of this package; everything
// else at once. Before Start the context is quiet; if the Sender was handed over it has ended, with a *StateError.
//
// Sends are not affected: it is up to the caller to pass this context, or one derived from it, to Send.
//
// The first call starts a goroutine and takes up a thread, for all senders of the router in this process,
// until the last of those that were asked for their context has stopped.
func (s *Sender) Context() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx != nil {
		return s.ctx
	}
	s.ctx, s.end = context.WithCancelCause(context.Background())
	switch s.state {
	case StateOpen:
		s.link.watch(s)
	case StateClosed:
		s.end(os.ErrClosed)
	case StateHandedOver:
		s.end(&StateError{"wait", StateHandedOver})
	}
	return s.ctx
}

// watcher is one goroutine that looks after all senders of a link that are watched.
type watcher struct {
	quit bool // guarded by mu of the link: nobody is watched any more
	done chan struct{}
}

// watch begins to look after s, which sits and has a context.
func (l *link) watch(s *Sender) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watched[s] = true
	if l.watcher != nil {
		l.judge(s) // a change after this look comes with a notice, and the watcher sees that
		return
	}
	w := &watcher{done: make(chan struct{})}
	l.watcher = w
	go func() {
		defer close(w.done)
		label.Context.Set()
		l.keepWatch(w)
	}()
}

// unwatch takes s out, if it is in. If nobody is left, it returns after the watcher has ended.
func (l *link) unwatch(s *Sender) {
	l.mu.Lock()
	delete(l.watched, s)
	w := l.watcher
	if len(l.watched) > 0 || w == nil {
		l.mu.Unlock()
		return
	}
	w.quit, l.watcher = true, nil
	l.mu.Unlock()
	l.seg.Guarded(func() error {
		l.dir.Notify() // w has loaded the notice before it looked for quit, so it does not sleep through this
		return nil
	})
	<-w.done
}

// keepWatch looks at every notice, and often enough to see that the router has died.
func (l *link) keepWatch(w *watcher) {
	var next int64 // when to look without a notice
	for {
		var seen uint32
		err := l.seg.Guarded(func() error {
			seen = l.dir.Notice() // before looking: see internal/wire, notice.go
			return nil
		})
		if !l.look(w, &next, err) {
			return
		}
		err = l.dir.WaitNotice(seen, next)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !l.look(w, &next, err) {
			return
		}
	}
}

// look ends the contexts that have a reason to end, all of them if err is one. It returns false if nobody is
// left to watch.
func (l *link) look(w *watcher, next *int64, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.quit {
		return false
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrRouterGone, err)
	} else if now := shm.Now(); l.vigil != nil {
		*next = now + aliveNet // it gives notice
	} else if now >= *next {
		*next = now + aliveEvery
		if alive, askErr := l.att.ConsumerAlive(); askErr == nil && !alive {
			err = errDied
		}
	}
	for s := range l.watched {
		if err != nil {
			l.finish(s, err)
		} else {
			l.judge(s)
		}
	}
	if len(l.watched) == 0 {
		l.watcher = nil
		return false
	}
	return true
}

// judge ends the context of s if the router has given a reason. The caller holds mu.
func (l *link) judge(s *Sender) {
	var cause error
	if err := l.seg.Guarded(func() error { cause = l.reason(s); return nil }); err != nil {
		cause = fmt.Errorf("%w: %w", ErrRouterGone, err)
	}
	if cause == nil && l.dead.Load() {
		cause = errDied
	}
	if cause != nil {
		l.finish(s, cause)
	}
}

// reason is what the router has to say against sending, nil for nothing.
func (l *link) reason(s *Sender) error {
	if !l.dir.Serves(s.token.Epoch) {
		return errStopped
	}
	switch e := l.dir.Load(s.token.Index); {
	case e.ID() != s.token.ID || e.State() == wire.PipeFree:
		return ErrPipeClosed
	case e.Flags&wire.Cancelled != 0:
		return ErrCancelled
	case e.Flags&wire.Closed != 0:
		return ErrPipeClosed
	}
	return nil
}

// finish ends the context of s, which then needs no watching. The caller holds mu.
func (l *link) finish(s *Sender, cause error) {
	delete(l.watched, s)
	s.end(cause)
}
