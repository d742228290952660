package router

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/hosttest"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
)

// play runs a role that tests by itself, in a process with attributes, and passes on what it says.
func play(t *testing.T, role, arg string, attr *syscall.SysProcAttr) {
	t.Helper()
	cmd := command(t, role, arg)
	cmd.SysProcAttr = attr
	cmd.Stderr = nil
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

// steady is a router of a role that has to go on whatever happens around it.
type steady struct {
	*Router
	s      *sender.Sender
	rcv    *Receiver
	number int
}

func newSteady(opts ...Option) (*steady, error) {
	r, err := New(opts...)
	if err != nil {
		return nil, err
	}
	if err := r.Start(); err != nil {
		return nil, err
	}
	s, rcv, err := r.Pipe()
	if err == nil {
		err = s.Start()
	}
	return &steady{Router: r, s: s, rcv: rcv}, err
}

// goesOn sends a message through it.
func (r *steady) goesOn() error {
	r.number++
	if err := r.s.Send(background, body(r.number, 100)); err != nil {
		return err
	}
	m, err := r.rcv.Recv(background)
	if err == nil && string(m.Data) != string(body(r.number, 100)) {
		err = errors.New("another message")
	}
	return err
}

// scarceMain has too few descriptors in every call that needs some.
func scarceMain(dir string) error {
	steady, err := newSteady()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "x")
	starting := func(opts func() ([]Option, func() error, error)) func() (func() error, error) {
		return func() (func() error, error) {
			o, done, err := opts()
			if err != nil {
				return nil, err
			}
			r, err := New(o...)
			if err == nil {
				err = r.Start()
			}
			if err != nil {
				err = errors.Join(err, done())
				if left, _ := filepath.Glob(path + "*"); len(left) > 0 {
					err = fmt.Errorf("left behind: %v", left)
				}
				return nil, err
			}
			return func() error {
				err := r.Stop()
				<-r.Done()
				return errors.Join(err, done())
			}, nil
		}
	}
	nothing := func() error { return nil }
	for _, call := range []struct {
		name string
		try  func() (func() error, error)
	}{
		{"Start", starting(func() ([]Option, func() error, error) { return nil, nothing, nil })},
		{"Start, path", starting(func() ([]Option, func() error, error) { return []Option{WithPath(path)}, nothing, nil })},
		{"Start, epoll", starting(func() ([]Option, func() error, error) {
			loop, err := NewEpollLoop()
			if err != nil {
				return nil, nil, err
			}
			return []Option{WithEventLoop(loop)}, loop.Close, nil
		})},
		{"Start, FDLoop", starting(func() ([]Option, func() error, error) {
			loop, err := NewFDLoop()
			if err != nil {
				return nil, nil, err
			}
			return []Option{WithEventLoop(loop)}, loop.Close, nil
		})},
		{"HandOver", func() (func() error, error) {
			s, rcv, err := steady.Pipe()
			if err != nil {
				return nil, err
			}
			defer rcv.Close()
			cmd := exec.Command("true")
			if err = steady.HandOver(cmd, s); err != nil {
				if s.State() != sender.StateInitial || cmd.Env != nil || cmd.ExtraFiles != nil {
					return nil, fmt.Errorf("half handed over: %v, %w", s.State(), err)
				}
				return nil, err
			}
			return cmd.ExtraFiles[0].Close, nil
		}},
		{"Command", func() (func() error, error) {
			w, err := Command{Path: "true"}.Start(steady.Router)
			if err != nil {
				return nil, err
			}
			return func() error {
				if _, err := w.Receivers()[0].Recv(background); !errors.Is(err, ErrPeerDied) {
					return fmt.Errorf("end: %w", err)
				}
				return w.Wait()
			}, nil
		}},
		{"Launch", func() (func() error, error) {
			s, rcv, err := steady.Pipe()
			if err != nil {
				return nil, err
			}
			w, err := steady.Launch(again("nothing", ""), s)
			if err != nil {
				return nil, errors.Join(err, rcv.Close())
			}
			return func() error {
				var died *PeerError
				if _, err := rcv.Recv(background); !errors.As(err, &died) || died.State.ExitCode() != 3 {
					return fmt.Errorf("end: %w", err)
				}
				w.Wait()
				return rcv.Close()
			}, nil
		}},
	} {
		failed, err := hosttest.Starve(func() (func() error, error) {
			undo, err := call.try()
			if goes := steady.goesOn(); goes != nil {
				return nil, fmt.Errorf("the other router does not go on: %w", goes)
			}
			return undo, err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", call.name, err)
		}
		fmt.Println(call.name, "failed", failed)
		if p := steady.Stats().Pipes; p != (PipeStats{Attached: 1}) {
			return fmt.Errorf("%s: pipes are left: %+v", call.name, p)
		}
	}
	// A pipe, a sender in this process beside one that sits, and Stop need none.
	restore, err := hosttest.Descriptors(0)
	if err != nil {
		return err
	}
	s, rcv, err := steady.Pipe()
	if err == nil {
		err = errors.Join(s.Start(), s.TrySend([]byte("x")), s.Stop(), rcv.Close(), steady.goesOn(), steady.Stop())
	}
	restore()
	return err
}

// Out of descriptors in everything that opens one: an error that names the call, nothing half-made, a router
// that runs goes on; and with enough of them it works.
func TestOutOfDescriptors(t *testing.T) { play(t, "scarce main", t.TempDir(), nil) }

// scarceWatch has no descriptor to spare when a worker attaches, whose death it could otherwise watch.
func scarceWatch(string) error {
	r, err := newSteady()
	if err != nil {
		return err
	}
	for _, scarce := range []bool{true, false} {
		s, rcv, err := r.Pipe()
		if err != nil {
			return err
		}
		cmd := again("obedient", "")
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		w, err := r.Launch(cmd, s)
		if err != nil {
			return err
		}
		restore := func() {}
		if scarce {
			if restore, err = hosttest.Descriptors(0); err != nil {
				return err
			}
		}
		fmt.Fprintln(in, "start")
		if m, err := rcv.Recv(background); err != nil || string(m.Data) != "started" {
			return fmt.Errorf("got %q: %w", m.Data, err)
		}
		if !scarce { // the first one is asked for
			for r.Stats().Watched == 0 {
				if err := r.goesOn(); err != nil {
					return err
				}
			}
		}
		if err := w.Kill(); err != nil {
			return err
		}
		if _, err := rcv.Recv(background); !errors.Is(err, ErrPeerDied) {
			return fmt.Errorf("end: %w", err)
		}
		restore()
		if err := errors.Join(rcv.Close(), r.goesOn()); err != nil {
			return err
		}
	}
	return r.Stop()
}

// obedient starts its sender when it is told to.
func obedient(string) error {
	s, err := sender.FromEnv()
	if err != nil {
		return err
	}
	fmt.Scanln(new(string))
	if err := s.Start(); err != nil {
		return err
	}
	if err := s.Send(background, []byte("started")); err != nil {
		return err
	}
	select {}
}

// A worker that attaches while the router has no descriptor for its pidfd: its death is told all the same,
// and the next one's by a pidfd again.
func TestDeathWithoutDescriptors(t *testing.T) { play(t, "scarce watch", "", nil) }

// startless attaches when it has no descriptor left to read its own start from /proc.
func startless(string) error {
	ss, err := sender.AllFromEnv()
	if err != nil {
		return err
	}
	if err := errors.Join(ss[0].Start(), ss[0].Stop()); err != nil { // what only a first Start needs
		return err
	}
	if _, err := hosttest.Descriptors(1); err != nil {
		return err
	}
	if err := ss[1].Start(); err != nil {
		return err
	}
	if err := ss[1].Send(background, []byte("started")); err != nil {
		return err
	}
	select {}
}

// A worker whose start is not known might be taken for another one with its pid: it is asked for, not
// watched.
func TestWorkerWithoutStart(t *testing.T) {
	guard(t)
	r := begin(t)
	s0, rcv0 := pipe(t, r)
	s1, rcv1 := pipe(t, r)
	w, err := r.Launch(command(t, "startless", ""), s0, s1)
	must(t, err)
	if m, err := rcv1.Recv(background); err != nil || string(m.Data) != "started" {
		t.Fatalf("got %q, %v", m.Data, err)
	}
	queries := r.Stats().Queries
	eventually(t, "it is asked for", func() bool { return r.Stats().Queries > queries+1 })
	stats := r.Stats()
	if info := stats.Ring.Slots; len(info) == 0 || info[0].PID != w.PID() || info[0].Start != 0 {
		t.Errorf("%+v", info)
	}
	if stats.Watched != 0 {
		t.Errorf("%d are watched", stats.Watched)
	}
	must(t, w.Kill())
	_, err = rcv1.Recv(background)
	wantIs(t, "end", err, ErrPeerDied)
	must(t, rcv0.Close())
	must(t, rcv1.Close())
}

// crowded may have no more processes or threads.
func crowded(string) error {
	r, err := newSteady()
	if err != nil {
		return err
	}
	// Go ends a program whose runtime cannot have the thread that it wants: let it have them before.
	var wait sync.WaitGroup
	for range 32 {
		wait.Go(func() { unix.Nanosleep(&unix.Timespec{Nsec: 20e6}, nil) })
	}
	wait.Wait()
	launch := func() (*Worker, *Receiver, error) {
		s, rcv, err := r.Pipe()
		if err != nil {
			return nil, nil, err
		}
		w, err := r.Launch(again("nothing", ""), s)
		return w, rcv, err
	}
	before := hosttest.Open()
	restore, err := hosttest.Limit(unix.RLIMIT_NPROC, 1)
	if err != nil {
		return err
	}
	for range 10 {
		_, rcv, err := launch()
		if !errors.Is(err, unix.EAGAIN) || !strings.Contains(err.Error(), "fork") {
			return fmt.Errorf("want EAGAIN of fork, got %w", err)
		}
		if err := errors.Join(rcv.Close(), r.goesOn()); err != nil {
			return err
		}
	}
	if err := hosttest.OpenLike(before); err != nil {
		return err
	}
	restore()
	_, rcv, err := launch()
	if err != nil {
		return err
	}
	if _, err := rcv.Recv(background); !errors.Is(err, ErrPeerDied) {
		return err
	}
	return errors.Join(rcv.Close(), r.goesOn(), r.Stop())
}

// Out of processes in Launch: its error is fork's, the pipe can be closed, and the router goes on.
func TestOutOfProcesses(t *testing.T) {
	play(t, "crowded", "", hosttest.Unprivileged()) // the limit does not bind root
}

// noSpace starts routers where there is no space for them.
func noSpace(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		return err
	}
	path := filepath.Join(dir, "x")
	refused := func(what string, want error, opts ...Option) error {
		before := hosttest.Open()
		r, err := New(opts...)
		if err != nil {
			return err
		}
		err = r.Start()
		if !errors.Is(err, shm.ErrNoSpace) || !errors.Is(err, want) {
			return fmt.Errorf("%s: %w", what, err)
		}
		fmt.Println(what+":", err)
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			return fmt.Errorf("%s: left behind: %v", what, left)
		}
		return hosttest.OpenLike(before)
	}
	if err := refused("full file system", unix.ENOSPC, WithPath(path)); err != nil {
		return err
	}
	restore, err := hosttest.Limit(unix.RLIMIT_FSIZE, 256<<10)
	if err != nil {
		return err
	}
	if err := errors.Join(refused("RLIMIT_FSIZE, memfd", unix.EFBIG), refused("RLIMIT_FSIZE, path", unix.EFBIG, WithPath(path))); err != nil {
		return err
	}
	restore()
	r, err := newSteady(WithPath(path), WithCapacity(256<<10), WithMaxPipes(64))
	if err != nil {
		return err
	}
	// Somebody else takes the rest of the file system: what the segment needs, it has.
	rest, err := os.Create(filepath.Join(dir, "rest"))
	if err != nil {
		return err
	}
	for err == nil {
		_, err = rest.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		return err
	}
	for range 5000 { // laps
		if err := r.goesOn(); err != nil {
			return err
		}
	}
	if err := r.Stop(); err != nil {
		return err
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("left behind: %w", err)
	}
	return nil
}

// A file system or a limit that does not hold the segment is an error of Start, which leaves nothing; one
// that fills up later is nothing to the router.
func TestNoSpace(t *testing.T) { play(t, "no space", t.TempDir(), hosttest.Apart(t, unix.CLONE_NEWNS)) }
