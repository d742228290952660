package sender

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/hosttest"
	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// routerRole is a router that does nothing until it is killed, at a path, and prints a token for each of two
// pipes where it made the segment. With a second argument another one may go on.
func routerRole() error {
	path, resume := os.Args[1], len(os.Args) > 2
	r, err := ring.OpenPath(path)
	if err == nil {
		if _, err := r.Consume(); err != nil {
			return err
		}
		fmt.Println("resumed")
		time.Sleep(time.Hour)
	}
	size, entries := wire.UserSize(2)
	if r, err = ring.Create(path, ring.Options{Capacity: 1 << 20, UserSize: size}); err != nil {
		return err
	}
	off, size := r.User()
	dir, err := wire.Create(r.Segment(), off, size, wire.Config{Entries: entries, Resume: resume})
	if err != nil {
		return err
	}
	if _, err := r.Consume(); err != nil {
		return err
	}
	dir.SetState(wire.Running)
	for index := range uint32(2) {
		id, err := dir.TakeID()
		if err != nil || !dir.Publish(index, id) {
			return fmt.Errorf("pipe %d: %w", index, err)
		}
		fmt.Println(wire.Token{Identity: r.Identity(), Epoch: dir.Epoch(), ID: id, Index: index, Path: path})
	}
	time.Sleep(time.Hour)
	return nil
}

// opened starts the sender of a token.
func opened(t *testing.T, token string) *Sender {
	t.Helper()
	s, err := Open(token)
	must(t, err)
	must(t, s.Start())
	return s
}

// unwatchable makes the rest of the test do without pidfd.
func unwatchable(t *testing.T) {
	watchDeath = func(int, uint64, func()) (func(), error) { return nil, errors.ErrUnsupported }
	t.Cleanup(func() { watchDeath = shm.WatchDeath })
}

// ownTime is this process's, from now on.
func ownTime(t *testing.T) (passed func() time.Duration) {
	passed, stop := hosttest.OwnTime(func() bool { return true })
	t.Cleanup(stop)
	return passed
}

// noticed fails the test if a death was noticed later than is promised to a process that gets a processor.
func noticed(t *testing.T, killed time.Time, passed func() time.Duration) {
	t.Helper()
	if took := passed(); took > 250*time.Millisecond {
		t.Errorf("noticed after %v of this process's own time", took)
	}
	t.Logf("noticed after %v", time.Since(killed))
}

// A router's death ends all sends into a ring that has room, though nobody asked for a context.
func TestRouterKilled(t *testing.T) {
	for _, how := range []string{"watched", "asked for"} {
		t.Run(how, func(t *testing.T) {
			checkLeaks(t)
			if how == "asked for" {
				unwatchable(t)
			}
			w := start(t, command(t, "router", filepath.Join(t.TempDir(), "segment")))
			s, other := opened(t, w.line()), opened(t, w.line())
			open, err := s.TryClaim(10)
			must(t, err)
			ctx := context.Background()
			m := []byte("message")
			for range 100 {
				must(t, s.Send(ctx, m))
				time.Sleep(time.Millisecond)
			}
			w.kill()
			killed, passed := time.Now(), ownTime(t)
			for err = nil; err == nil; err = s.Send(ctx, m) {
				time.Sleep(time.Millisecond)
				if time.Since(killed) > 10*time.Second {
					t.Fatal("sends go on")
				}
			}
			noticed(t, killed, passed)
			for _, s := range []*Sender{s, other} {
				wantErr(t, s.Send(ctx, m), ErrRouterGone)
				wantErr(t, s.Send(ctx, make([]byte, 1<<20)), ErrRouterGone)
				wantErr(t, s.TrySend(m), ErrRouterGone)
				wantErr(t, s.SendBatch(ctx, [][]byte{m, m}), ErrRouterGone)
				_, err := s.Claim(ctx, 10)
				wantErr(t, err, ErrRouterGone)
				_, err = s.TryClaim(10)
				wantErr(t, err, ErrRouterGone)
				wantErr(t, s.WriteFunc(ctx, 10, func([]byte) (int, error) { return 0, nil }), ErrRouterGone)
				wantErr(t, s.Drain(ctx), ErrRouterGone)
				<-s.Context().Done()
				wantErr(t, context.Cause(s.Context()), ErrRouterGone)
			}
			wantErr(t, open.Commit(), ErrRouterGone)
			wantErr(t, open.Commit(), ErrClaimDone)
			must(t, s.Stop())
			must(t, other.Stop())
		})
	}
}

// A context ends as soon as the death is known. The router's process is watched, not asked for.
func TestContextEndsByVigil(t *testing.T) {
	checkLeaks(t)
	watched := make(chan int, 1)
	watchDeath = func(pid int, start uint64, fn func()) (func(), error) {
		stop, err := shm.WatchDeath(pid, start, fn)
		if err == nil {
			watched <- pid
		}
		return stop, err
	}
	t.Cleanup(func() { watchDeath = shm.WatchDeath })
	w := start(t, command(t, "router", filepath.Join(t.TempDir(), "segment")))
	s := opened(t, w.line())
	ctx := s.Context()
	if pid := <-watched; pid != w.cmd.Process.Pid {
		t.Errorf("watches %d, not %d", pid, w.cmd.Process.Pid)
	}
	w.kill()
	killed, passed := time.Now(), ownTime(t)
	<-ctx.Done()
	noticed(t, killed, passed)
	must(t, s.Stop())
}

// Where another router may go on, sends go on without one, and every router's death is noticed.
func TestResumableRouterKilled(t *testing.T) {
	for _, how := range []string{"watched", "asked for"} {
		t.Run(how, func(t *testing.T) {
			checkLeaks(t)
			if how == "asked for" {
				unwatchable(t)
			}
			path := filepath.Join(t.TempDir(), "segment")
			w := start(t, command(t, "router", path, "resume"))
			s := opened(t, w.line())
			w.line()
			for range 3 {
				eventually(t, "the router lives", func() bool { return !s.link.dead.Load() })
				w.kill()
				killed, passed := time.Now(), ownTime(t)
				eventually(t, "the death is noticed", s.link.dead.Load)
				noticed(t, killed, passed)
				must(t, s.Send(context.Background(), []byte("for the next one")))
				w = start(t, command(t, "router", path, "resume"))
				if line := w.line(); line != "resumed" {
					t.Fatal(line)
				}
			}
			must(t, s.Send(context.Background(), []byte("for this one")))
			must(t, s.Stop())
		})
	}
}

// Who waits behind others, and sleeps long, learns with the vigil that there is no router.
func TestVigilWakesWhoWaits(t *testing.T) {
	for _, how := range []string{"watched", "asked for"} {
		t.Run(how, func(t *testing.T) {
			checkLeaks(t)
			if how == "asked for" {
				unwatchable(t)
			}
			w := start(t, command(t, "router", filepath.Join(t.TempDir(), "segment"), "resume"))
			s, other := opened(t, w.line()), opened(t, w.line())
			for _, size := range []int{10_000, 0} {
				err := error(nil)
				for err == nil {
					err = s.TrySend(make([]byte, size))
				}
				wantErr(t, err, ErrFull)
			}
			short, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			wantErr(t, s.Send(short, nil), context.DeadlineExceeded) // the next one waits behind it, for all that is known
			errs := make(chan error)
			go func() { errs <- s.Drain(context.Background()) }()
			go func() { errs <- other.Send(context.Background(), nil) }()
			waiting(t, other, 1)
			w.kill()
			killed, passed := time.Now(), ownTime(t)
			wantErr(t, <-errs, ErrRouterGone)
			wantErr(t, <-errs, ErrRouterGone)
			noticed(t, killed, passed)
			must(t, s.Stop())
			must(t, other.Stop())
		})
	}
}

// A vigil belongs to the seat, and there is none in the router's process.
func TestVigilComesAndGoes(t *testing.T) {
	checkLeaks(t)
	w := start(t, command(t, "router", filepath.Join(t.TempDir(), "segment")))
	a, b := opened(t, w.line()), opened(t, w.line())
	v := a.link.vigil
	if v == nil || b.link.vigil != v {
		t.Errorf("vigils %p and %p", v, b.link.vigil)
	}
	must(t, a.Stop())
	select {
	case <-v.done:
		t.Error("ended with the first Stop")
	default:
	}
	must(t, b.Stop())
	<-v.done

	r := newRouter(t, shm.Memfd)
	token := r.token()
	token.FD = r.inherit()
	setEnv(t, token)
	s, err := FromEnv()
	must(t, err)
	must(t, s.Start())
	if s.link.vigil != nil {
		t.Error("this process watches itself")
	}
	must(t, s.Stop())
}
