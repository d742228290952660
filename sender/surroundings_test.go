package sender

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/shmrouter/shmrouter/internal/hosttest"
	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"golang.org/x/sys/unix"
)

// scarceRole has too few descriptors in every call that needs some. None of the failures may cost it what it
// was handed: with enough of them, the same call works.
func scarceRole() error {
	var ss []*Sender
	failed, err := hosttest.Starve(func() (func() error, error) {
		var err error
		ss, err = AllFromEnv()
		if _, there := os.LookupEnv(EnvName); there != (err != nil) {
			return nil, fmt.Errorf("variable is there: %t, after %w", there, err)
		}
		if errors.Is(err, ErrBadHandover) {
			return nil, fmt.Errorf("the hand-over is not to blame: %v", err)
		}
		return nil, err
	})
	if err != nil {
		return fmt.Errorf("FromEnv: %w", err)
	}
	fmt.Println("FromEnv failed", failed)
	s := ss[0]
	failed, err = hosttest.Starve(func() (func() error, error) {
		err := s.Start()
		if err != nil && s.State() != StateInitial {
			return nil, fmt.Errorf("it is %v after %w", s.State(), err)
		}
		return nil, err
	})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	fmt.Println("Start failed", failed)
	if err := ss[1].Start(); err != nil {
		return err
	}
	restore, err := hosttest.Descriptors(0)
	if err != nil {
		return err
	}
	for _, s := range ss {
		s.Context()
		if err := three(s); err != nil { // which stops it, too
			return err
		}
	}
	restore()
	return nil
}

// Out of descriptors in FromEnv and Start, with senders of two routers; and with none to spare everything
// else works.
func TestWorkerOutOfDescriptors(t *testing.T) {
	for _, kind := range []shm.Kind{shm.Memfd, shm.Named} {
		t.Run(kind.String(), func(t *testing.T) {
			a, b := newRouter(t, kind), newRouter(t, kind)
			cmd := command(t, "scarce")
			for _, r := range []*testRouter{a, b} {
				must(t, r.pipe().HandOver(cmd))
			}
			w := start(t, cmd)
			for _, prefix := range []string{"FromEnv", "Start"} {
				line := w.line()
				if !strings.HasPrefix(line, prefix+" failed") {
					t.Error(line)
				}
				t.Log(line)
			}
			wantThree(t, a.collectN(4), 0)
			wantThree(t, b.collectN(4), 0)
			w.wait()
			for _, r := range []*testRouter{a, b} {
				if e := r.dir.Load(0); e.State() != wire.PipeEnded {
					t.Errorf("entry is %+v", e)
				}
			}
		})
	}
}

// openRole has too few descriptors for Open.
func openRole() error {
	var s *Sender
	if _, err := hosttest.Starve(func() (func() error, error) {
		var err error
		s, err = Open(os.Args[1])
		return nil, err
	}); err != nil {
		return err
	}
	if err := s.Start(); err != nil {
		return err
	}
	return three(s)
}

func TestOpenOutOfDescriptors(t *testing.T) {
	r := newRouter(t, shm.Named)
	token, err := r.pipe().Token()
	must(t, err)
	w := start(t, command(t, "open", token))
	wantThree(t, r.collectN(4), 0)
	w.wait()
}

// vandalRole does something to all of its own descriptors but standard input, output and error, and the
// runtime's, from which it would not recover: os.Args[1] is what, os.Args[2] when. It numbers what it sends,
// and says after each that it is sent.
func vandalRole() error {
	what, when := os.Args[1], os.Args[2]
	if when == "before" {
		if err := vandalise(what); err != nil {
			return err
		}
	}
	s, err := FromEnv()
	if err != nil {
		fmt.Println(err, errors.Is(err, ErrBadHandover))
		return nil
	}
	if when == "between" {
		if err := vandalise(what); err != nil {
			return err
		}
	}
	if err := s.Start(); err != nil {
		fmt.Println(err, errors.Is(err, shm.ErrNoLocks))
		return nil
	}
	done := make(chan error, 1)
	for i := range 3000 {
		if when == "during" && i == 1000 {
			go func() { done <- vandalise(what) }()
		}
		if err := s.Send(context.Background(), fmt.Append(nil, i)); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
		fmt.Println(i)
	}
	if when == "during" {
		if err := <-done; err != nil {
			return err
		}
	}
	if when == "after" {
		if err := vandalise(what); err != nil {
			return err
		}
	}
	if err := s.Send(context.Background(), []byte("last")); err != nil {
		return err
	}
	fmt.Println("done")
	bufio.NewScanner(os.Stdin).Scan()
	return s.Stop()
}

func vandalise(what string) error {
	var victims []int
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		fd, _ := strconv.Atoi(e.Name())
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && fd > 2 && !strings.HasPrefix(target, "anon_inode:[event") && !strings.HasPrefix(target, "/proc/") {
			victims = append(victims, fd)
		}
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for _, fd := range victims {
		switch what {
		case "close":
			err = unix.Close(fd)
		case "overwrite":
			err = unix.Dup3(null, fd, unix.O_CLOEXEC)
		case "another":
			// The same file, another description: what was locked is not locked here.
			var other int
			if other, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
				continue // not a file, or somebody else's
			}
			err = errors.Join(unix.Dup3(other, fd, unix.O_CLOEXEC), unix.Close(other))
		case "limit":
			_, err = hosttest.Limit(unix.RLIMIT_NOFILE, 0)
		case "everything":
			if when := fd; when == victims[0] {
				err = unix.CloseRange(3, math.MaxInt32, 0) // the runtime's, too
			}
		}
		if err != nil && err != unix.EBADF {
			return fmt.Errorf("%s %d: %w", what, fd, err)
		}
	}
	return nil
}

// A worker that closes descriptors which are not its own, or puts others in their place, at any time: before
// it takes what it was handed, it is told; later, it sends on, its seat stays its own, and its death is seen.
func TestWorkerSpoilsItsDescriptors(t *testing.T) {
	for _, what := range []string{"close", "overwrite", "another", "limit"} {
		for _, when := range []string{"before", "between", "during", "after"} {
			t.Run(what+"/"+when, func(t *testing.T) {
				r := newRouter(t, shm.Memfd)
				cmd := command(t, "vandal", what, when)
				s := r.pipe()
				must(t, s.HandOver(cmd))
				in, err := cmd.StdinPipe()
				must(t, err)
				w := start(t, cmd)
				var got []message
				acknowledged, finished := 0, false
				refused := ""
				// Lines and messages have to be taken side by side: the ring and the pipe are both bounded.
				lines := make(chan string, 8000)
				go func() {
					defer close(lines)
					for w.lines.Scan() {
						lines <- w.lines.Text()
					}
				}()
				eventually(t, "the worker is done", func() bool {
					for {
						got = append(got, r.poll()...)
						select {
						case line, more := <-lines:
							switch _, err := strconv.Atoi(line); {
							case !more, line == "done":
								finished = more
								return true
							case err == nil:
								acknowledged++
							default:
								refused = line
							}
						default:
							return false
						}
					}
				})
				// Without privilege nothing leads back to a memfd whose descriptors are gone.
				mayFail := what != "limit" && os.Geteuid() != 0 && when == "between"
				switch {
				case when == "before" && (what == "close" || what == "overwrite"):
					if !strings.HasPrefix(refused, "sender: ") || !strings.HasSuffix(refused, " true") {
						t.Errorf("told %q", refused)
					}
					return
				case what == "limit" && (when == "before" || when == "between"):
					if !strings.Contains(refused, unix.EMFILE.Error()) {
						t.Errorf("told %q", refused)
					}
					return
				case mayFail && refused != "":
					if !strings.HasSuffix(refused, " true") {
						t.Errorf("told %q", refused)
					}
					return
				}
				if refused != "" || !finished {
					t.Fatalf("told %q, worker ended: %t: %s", refused, !finished, w.err.String())
				}
				eventually(t, "all arrives", func() bool { got = append(got, r.poll()...); return len(got) > 3000 })
				for i, m := range got {
					if want := fmt.Sprint(i); m.data != want && (i != 3000 || m.data != "last") {
						t.Fatalf("message %d is %q", i, m.data)
					}
				}
				if acknowledged != 3000 || len(got) != 3001 {
					t.Errorf("%d acknowledged, %d arrived", acknowledged, len(got))
				}
				e := r.dir.Load(s.token.Index)
				alive, err := r.consumer.SlotAlive(e.Slot())
				must(t, err)
				if !alive {
					t.Error("it looks dead")
				}
				if when == "after" {
					w.kill()
				} else {
					in.Close() // it stops in order
					eventually(t, "its end", func() bool { return r.dir.Load(s.token.Index).State() == wire.PipeEnded })
					r.collectN(1)
				}
				eventually(t, "its seat is free", func() bool {
					alive, err := r.consumer.SlotAlive(e.Slot())
					must(t, err)
					return !alive
				})
			})
		}
	}
}

// One that closes the runtime's own descriptors, too, may die of that: what it had sent arrives, its seat is
// free, and nobody else notices.
func TestWorkerClosesEverything(t *testing.T) {
	for _, when := range []string{"before", "between", "during", "after"} {
		t.Run(when, func(t *testing.T) {
			r := newRouter(t, shm.Memfd)
			cmd := command(t, "vandal", "everything", when)
			s := r.pipe()
			must(t, s.HandOver(cmd))
			_, err := cmd.StdinPipe()
			must(t, err)
			w := start(t, cmd)
			witness := r.started()
			lines := make(chan int, 1)
			go func() {
				n := 0
				for w.lines.Scan() {
					if _, err := strconv.Atoi(w.lines.Text()); err == nil {
						n++
					}
					if w.lines.Text() == "done" {
						w.cmd.Process.Kill() // it lives
					}
				}
				lines <- n
			}()
			acknowledged := -1
			next := 0
			take := func() {
				for _, m := range r.poll() {
					if m.pipe == s.token.Index && m.data != "last" {
						if m.data != fmt.Sprint(next) {
							t.Fatalf("message %d is %q", next, m.data)
						}
						next++
					}
				}
			}
			eventually(t, "the worker is gone", func() bool {
				take()
				select {
				case acknowledged = <-lines:
				default:
				}
				return acknowledged >= 0
			})
			w.cmd.Wait()
			w.done = true
			must(t, witness.TrySend([]byte("witness")))
			seen := false
			eventually(t, "the witness gets through", func() bool {
				for _, m := range r.poll() {
					if m.pipe == s.token.Index && m.data != "last" {
						next++
					}
					seen = seen || m.data == "witness"
				}
				return seen
			})
			if next < acknowledged {
				t.Errorf("%d acknowledged, %d arrived", acknowledged, next)
			}
			for slot := range ring.MaxSlots {
				if slot != witness.att.Slot() {
					eventually(t, "its seat is free", func() bool {
						alive, err := r.consumer.SlotAlive(slot)
						must(t, err)
						return !alive
					})
				}
			}
			must(t, witness.Stop())
			r.collectN(1)
			t.Logf("%d acknowledged, %d arrived: %.80s", acknowledged, next, w.err.String())
		})
	}
}
