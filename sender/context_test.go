package sender

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/shm"
)

func TestContextEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		want error
		do   func(r *testRouter)
	}{
		{"cancelled", ErrCancelled, func(r *testRouter) { r.dir.Flag(0, wire.Cancelled); r.dir.Notify() }},
		{"closed", ErrPipeClosed, func(r *testRouter) { r.dir.Flag(0, wire.Closed); r.dir.Notify() }},
		{"cancelled, then closed", ErrCancelled, func(r *testRouter) { r.dir.Flag(0, wire.Cancelled|wire.Closed); r.dir.Notify() }},
		{"freed", ErrPipeClosed, func(r *testRouter) { r.dir.Free(0, r.dir.Word(0)); r.dir.Notify() }},
		{"stopped", ErrRouterGone, (*testRouter).stop},
		{"dead", ErrRouterGone, (*testRouter).die},
	} {
		t.Run(c.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, kind shm.Kind) {
				r := newRouter(t, kind)
				s := r.started()
				ctx := s.Context()
				if s.Context() != ctx {
					t.Error("another one at the second call")
				}
				if err := context.Cause(ctx); err != nil {
					t.Fatalf("ended early: %v", err)
				}
				begun := time.Now()
				c.do(r)
				<-ctx.Done()
				if took := time.Since(begun); took > 2*time.Second {
					t.Errorf("took %v", took)
				}
				wantErr(t, context.Cause(ctx), c.want)
				must(t, s.Stop())
				wantErr(t, context.Cause(ctx), c.want) // the first cause stays
			})
		})
	}
}

// What happened before anybody watched counts, too.
func TestContextEndedBefore(t *testing.T) {
	for _, second := range []bool{false, true} {
		r := newRouter(t, shm.Memfd)
		first := r.started()
		if second { // there is a watcher already, and it sleeps
			first.Context()
			r.look()
		}
		s := r.started()
		r.dir.Flag(s.token.Index, wire.Cancelled) // and not even a notice
		begun := time.Now()
		ctx := s.Context()
		<-ctx.Done()
		if took := time.Since(begun); took > 100*time.Millisecond { // less than a watcher's time to look
			t.Errorf("took %v", took)
		}
		wantErr(t, context.Cause(ctx), ErrCancelled)
		if second && first.Context().Err() != nil {
			t.Error("the other one ended, too")
		}
		must(t, s.Stop())
		must(t, first.Stop())
	}
}

// look makes sure that this process's watcher has looked around since it was called: it sees to a pipe made for that.
func (r *testRouter) look() {
	s := r.started()
	ctx := s.Context()
	r.dir.Flag(s.token.Index, wire.Cancelled)
	r.dir.Notify()
	<-ctx.Done()
	must(r.t, s.Stop())
}

// The context may be asked for in any state.
func TestContextByState(t *testing.T) {
	r := newRouter(t, shm.Memfd)

	s := r.pipe()
	ctx := s.Context()
	r.dir.Flag(0, wire.Cancelled)
	if ctx.Err() != nil {
		t.Error("ended before Start")
	}
	must(t, s.Start())
	<-ctx.Done()
	wantErr(t, context.Cause(ctx), ErrCancelled)
	must(t, s.Stop())

	s = r.started()
	ctx = s.Context()
	must(t, s.Stop())
	<-ctx.Done() // without delay
	wantErr(t, context.Cause(ctx), os.ErrClosed)

	s = r.started()
	must(t, s.Stop())
	wantErr(t, context.Cause(s.Context()), os.ErrClosed)

	for _, before := range []bool{true, false} {
		s, cmd := r.pipe(), exec.Command("true")
		if before {
			s.Context()
		}
		must(t, s.HandOver(cmd))
		closeExtra(cmd)
		wantErr(t, context.Cause(s.Context()), ErrState)
	}
}

// One goroutine watches for all senders of a process, and ends with the last of them, or when there is
// nothing to watch.
func TestOneWatcher(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	watchers := func() int { // others' goroutines come and go
		stacks := make([]byte, 1<<20)
		return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "(*link).keepWatch(")
	}
	goroutines := func(want int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d goroutines", want), func() bool { return watchers() == want })
	}
	var ss []*Sender
	for range 4 {
		ss = append(ss, r.started())
	}
	goroutines(0)
	for _, s := range ss[1:] {
		s.Context()
		goroutines(1)
	}
	r.look()
	begun := time.Now()
	for _, s := range ss[1:] {
		must(t, s.Stop())
	}
	if took := time.Since(begun); took > 100*time.Millisecond {
		t.Errorf("took %v", took) // less than the watcher's time to look
	}
	goroutines(0)
	ss[0].Context()
	goroutines(1)
	r.stop()
	<-ss[0].Context().Done()
	eventually(t, "it ends by itself", func() bool { return watchers() == 0 })
	must(t, ss[0].Stop())
}

// Watchers come and go at any time.
func TestWatchRace(t *testing.T) {
	r := newRouter(t, shm.Heap)
	r.next = 0
	done := make(chan struct{})
	for i := range 4 {
		s := r.pipe()
		go func() {
			defer func() { done <- struct{}{} }()
			for range 50 {
				if err := s.Start(); err != nil {
					t.Error(err)
					return
				}
				ctx := s.Context()
				if i%2 == 0 {
					r.dir.Flag(s.token.Index, wire.Cancelled)
					r.dir.Notify()
					<-ctx.Done()
					wantErr(t, context.Cause(ctx), ErrCancelled)
				}
				if err := s.Stop(); err != nil {
					t.Error(err)
				}
				if cause := context.Cause(ctx); i%2 == 1 && cause != os.ErrClosed {
					t.Error(cause)
				}
				// the same pipe once more, as a router that had closed it would not do
				old := s.token
				r.dir.Free(old.Index, r.dir.Word(old.Index))
				r.dir.Publish(old.Index, old.ID)
				s = atHome(r.ring, old)
			}
		}()
	}
	for range 4 {
		for open := true; open; {
			select {
			case <-done:
				open = false
			default:
				r.poll() // the ends, for which there is room otherwise
				runtime.Gosched()
			}
		}
	}
}
