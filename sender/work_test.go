package sender

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/shm"
)

// give hands pipes to this very process.
func (r *testRouter) give(pipes int) {
	var text []string
	fd := r.inherit()
	for range pipes {
		token := r.token()
		token.FD = fd
		text = append(text, token.String())
	}
	r.t.(*testing.T).Setenv(EnvName, strings.Join(text, ","))
}

func (r *testRouter) cancel(pipe uint32) {
	r.dir.Flag(pipe, wire.Cancelled)
	r.dir.Notify()
}

var errOwn = errors.New("a worker's own error")

func TestMainReturns(t *testing.T) {
	cancelled := func(r *testRouter, ctx context.Context) { r.cancel(0); <-ctx.Done() }
	for _, c := range []struct {
		name  string
		f     func(r *testRouter, ctx context.Context, s *Sender) error
		clean bool
	}{
		{"nil", func(*testRouter, context.Context, *Sender) error { return nil }, true},
		{"nil, having stopped", func(_ *testRouter, _ context.Context, s *Sender) error { return s.Stop() }, true},
		{"its own error", func(*testRouter, context.Context, *Sender) error { return errOwn }, false},
		{"a context's error before the end", func(*testRouter, context.Context, *Sender) error { return context.Canceled }, false},
		{"the cause of another", func(*testRouter, context.Context, *Sender) error { return ErrCancelled }, false},
		{"the context's error", func(r *testRouter, ctx context.Context, _ *Sender) error { cancelled(r, ctx); return ctx.Err() }, true},
		{"the context's cause", func(r *testRouter, ctx context.Context, _ *Sender) error {
			cancelled(r, ctx)
			return context.Cause(ctx)
		}, true},
		{"that of a send", func(r *testRouter, ctx context.Context, s *Sender) error {
			cancelled(r, ctx)
			return fmt.Errorf("in the midst: %w", s.Send(ctx, nil))
		}, true},
		{"its own error after the end", func(r *testRouter, ctx context.Context, _ *Sender) error { cancelled(r, ctx); return errOwn }, false},
		{"nil after a signal", func(_ *testRouter, ctx context.Context, _ *Sender) error {
			unix.Kill(os.Getpid(), unix.SIGTERM)
			<-ctx.Done()
			return nil
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRouter(t, shm.Memfd)
			r.give(1)
			var s *Sender
			returned := errors.New("nothing")
			err := Main(func(ctx context.Context, given *Sender) error {
				s = given
				returned = c.f(r, ctx, s)
				return returned
			})
			if c.clean {
				require.NoError(t, err)
				require.Equal(t, StateClosed, s.State())
				require.Equal(t, wire.End, r.collectN(1)[0].kind)
				return
			}
			require.Equal(t, returned, err)
			require.Equal(t, StateOpen, s.State(), "the receiver would take it for a clean end")
			require.Empty(t, r.poll())
			require.NoError(t, s.Stop())
		})
	}
}

// A send may know before the context that the router was stopped.
func TestMainIsToldByASend(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	r.give(2)
	require.NoError(t, MainAll(func(ctx context.Context, ss []*Sender) error {
		r.dir.SetState(wire.Stopped) // and no notice
		err := ss[1].Send(context.Background(), nil)
		require.ErrorIs(t, err, ErrRouterGone)
		require.NoError(t, ctx.Err())
		return err
	}))
}

// Where one of two routers is gone, that is an error to the other one's receiver.
func TestMainAllLosesOneRouter(t *testing.T) {
	a, b := newRouter(t, shm.Memfd), newRouter(t, shm.Memfd)
	var tokens []wire.Token
	for _, r := range []*testRouter{a, b} {
		token := r.token()
		token.FD = r.inherit()
		tokens = append(tokens, token)
	}
	setEnv(t, tokens...)
	var both []*Sender
	err := MainAll(func(ctx context.Context, ss []*Sender) error {
		both = ss
		a.stop()
		<-ss[0].Context().Done()
		require.NoError(t, ctx.Err())
		return ss[0].Send(ctx, nil)
	})
	require.ErrorIs(t, err, ErrRouterGone)
	require.Equal(t, StateOpen, both[1].State())
	for _, s := range both {
		require.NoError(t, s.Close())
	}
}

func TestMainContext(t *testing.T) {
	raise := func(sig syscall.Signal) func(*testRouter) {
		return func(*testRouter) { unix.Kill(os.Getpid(), sig) }
	}
	for _, c := range []struct {
		name string
		want error
		do   func(r *testRouter)
	}{
		{"cancelled", ErrCancelled, func(r *testRouter) { r.cancel(0) }},
		{"closed", ErrPipeClosed, func(r *testRouter) { r.dir.Flag(0, wire.Closed); r.dir.Notify() }},
		{"stopped", ErrRouterGone, (*testRouter).stop},
		{"dead", ErrRouterGone, (*testRouter).die},
		{"terminated", ErrSignal, raise(unix.SIGTERM)},
		{"interrupted", ErrSignal, raise(unix.SIGINT)},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRouter(t, shm.Memfd)
			r.give(1)
			require.NoError(t, Main(func(ctx context.Context, _ *Sender) error {
				require.NoError(t, ctx.Err())
				c.do(r)
				<-ctx.Done()
				require.ErrorIs(t, context.Cause(ctx), c.want)
				return context.Cause(ctx)
			}))
		})
	}
}

func TestMainAllContext(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	r.give(3)
	require.NoError(t, MainAll(func(ctx context.Context, ss []*Sender) error {
		for i, s := range ss {
			require.NoError(t, ctx.Err())
			require.NoError(t, s.Send(ctx, fmt.Append(nil, i)))
			r.cancel(uint32(i))
			<-s.Context().Done()
		}
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), ErrCancelled)
		return nil
	}))
	require.Len(t, r.collectN(6), 6) // of each its message and its end
}

func TestMainPanics(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	r.give(1)
	var s *Sender
	require.PanicsWithValue(t, "on purpose", func() {
		Main(func(_ context.Context, given *Sender) error { s = given; panic("on purpose") })
	})
	require.Equal(t, StateOpen, s.State(), "the receiver would take it for a clean end")
	require.NoError(t, s.Stop())
}

func TestMainRefused(t *testing.T) {
	never := func(context.Context, *Sender) error { t.Error("called"); return nil }
	t.Setenv(EnvName, "")
	require.ErrorIs(t, Main(never), ErrNoHandover)
	r := newRouter(t, shm.Memfd)
	r.give(2)
	require.ErrorIs(t, Main(never), ErrManySenders)
	r.dir.Free(0, r.dir.Word(0))
	err := MainAll(func(context.Context, []*Sender) error { t.Error("called"); return nil })
	require.ErrorIs(t, err, ErrPipeClosed)
}

// mainRole says why its context ended, and then does not end.
func mainRole() error {
	if !Launched() {
		return errors.New("not launched")
	}
	return Main(func(ctx context.Context, _ *Sender) error {
		if !Launched() {
			return errors.New("not launched any more")
		}
		fmt.Println("ready")
		<-ctx.Done()
		fmt.Println(context.Cause(ctx))
		select {}
	})
}

func TestMainSecondSignal(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	w, _ := r.handed("main")
	require.Equal(t, "ready", w.line())
	require.NoError(t, w.cmd.Process.Signal(unix.SIGTERM))
	require.Equal(t, ErrSignal.Error()+": terminated", w.line())
	require.NoError(t, w.cmd.Process.Signal(unix.SIGINT))
	require.False(t, w.lines.Scan())
	w.done = true
	require.Error(t, w.cmd.Wait())
	require.Equal(t, unix.SIGINT, w.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
}

// lifelineRole can tell the router's death by nothing else, and its children have not its lifeline.
func lifelineRole() error {
	watchDeath = func(int, uint64, func()) (func(), error) { return nil, errors.ErrUnsupported }
	aliveEvery = int64(time.Hour)
	return Main(func(ctx context.Context, _ *Sender) error {
		flags, err := unix.FcntlInt(3, unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			return fmt.Errorf("descriptor 3 would be inherited by children: %w", err)
		}
		if _, ok := os.LookupEnv(wire.EnvLifeline); ok {
			return errors.New("the environment still has the lifeline")
		}
		fmt.Println("ready")
		<-ctx.Done()
		fmt.Println(context.Cause(ctx))
		return nil
	})
}

func TestLifeline(t *testing.T) {
	checkLeaks(t)
	theirs, ours, err := os.Pipe()
	require.NoError(t, err)
	routing := command(t, "router", filepath.Join(t.TempDir(), "segment"))
	routing.ExtraFiles = []*os.File{ours}
	router := start(t, routing) // closes ours here
	cmd := command(t, "lifeline")
	v, err := wire.LifelineVar(theirs, 3)
	require.NoError(t, err)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Env = append(cmd.Env, v, EnvName+"="+router.line())
	w := start(t, cmd)
	require.Equal(t, "ready", w.line())
	router.kill()
	killed := shm.Now()
	require.Contains(t, w.line(), ErrRouterGone.Error())
	t.Log("noticed after", time.Duration(shm.Now()-killed))
	w.wait()
}

// What is not the pipe that was meant is somebody else's.
func TestLifelineOfSomebodyElse(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	theirs, ours, err := os.Pipe()
	require.NoError(t, err)
	defer theirs.Close()
	defer ours.Close()
	fd, err := unix.FcntlInt(theirs.Fd(), unix.F_DUPFD, 3)
	require.NoError(t, err)
	defer unix.Close(fd)
	for _, text := range []string{"rubbish", fmt.Sprintf("%d:%d", fd, 1), fmt.Sprintf("%d:%d", 1<<20, 1)} {
		r.give(1)
		t.Setenv(wire.EnvLifeline, text)
		require.NoError(t, Main(func(context.Context, *Sender) error { return nil }), text)
		require.Nil(t, lifelineCut(), text)
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		require.NoError(t, err)
		require.Zero(t, flags&unix.FD_CLOEXEC)
	}
}
