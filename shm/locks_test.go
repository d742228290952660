package shm

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func openLocks(t *testing.T, s *Segment) *Locks {
	t.Helper()
	l, err := s.OpenLocks()
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// One table for all kinds: the heap's locks mean what the kernel's do. Two parties, a and b, in one
// process.
func TestLocksTable(t *testing.T) {
	type step struct {
		who  byte
		call string // lock, unlock, held, close
		at   int64
		want any // bool, or error
	}
	const far = math.MaxInt64 - 1
	tests := []struct {
		name  string
		steps []step
	}{
		{"free", []step{{'a', "held", 0, false}, {'a', "unlock", 0, nil}}},
		{"exclusive", []step{{'a', "lock", 1, true}, {'b', "lock", 1, false}, {'b', "held", 1, true}, {'a', "unlock", 1, nil}, {'b', "held", 1, false}, {'b', "lock", 1, true}}},
		{"again", []step{{'a', "lock", 1, true}, {'a', "lock", 1, true}, {'a', "unlock", 1, nil}, {'b', "lock", 1, true}}},
		{"own is not held by another", []step{{'a', "lock", 1, true}, {'a', "held", 1, false}}},
		{"neighbours", []step{{'a', "lock", 1, true}, {'b', "lock", 0, true}, {'b', "lock", 2, true}, {'a', "held", 0, true}, {'a', "held", 2, true}}},
		{"unlock in the middle", []step{{'a', "lock", 1, true}, {'a', "lock", 2, true}, {'a', "lock", 3, true}, {'a', "unlock", 2, nil},
			{'b', "held", 1, true}, {'b', "held", 2, false}, {'b', "held", 3, true}}},
		{"unlock of another's", []step{{'a', "lock", 1, true}, {'b', "unlock", 1, nil}, {'b', "held", 1, true}}},
		{"close frees", []step{{'a', "lock", 1, true}, {'a', "lock", far, true}, {'a', "close", 0, nil}, {'b', "lock", 1, true}, {'b', "lock", far, true}}},
		{"close frees nobody else's", []step{{'a', "lock", 1, true}, {'b', "lock", 2, true}, {'b', "close", 0, nil}, {'a', "held", 2, false}, {'a', "lock", 1, true}}},
		{"beyond the end", []step{{'a', "lock", 1 << 40, true}, {'b', "held", 1 << 40, true}, {'b', "held", 1<<40 + 1, false}, {'a', "lock", far, true}, {'b', "lock", far, false}}},
		{"negative", []step{{'a', "lock", -1, unix.EINVAL}, {'a', "unlock", -1, unix.EINVAL}, {'a', "held", -1, unix.EINVAL}}},
		{"closed", []step{{'a', "close", 0, nil}, {'a', "lock", 1, os.ErrClosed}, {'a', "unlock", 1, os.ErrClosed}, {'a', "held", 1, os.ErrClosed}, {'a', "close", 0, os.ErrClosed}}},
	}
	forKinds(t, allKinds, func(t *testing.T, kind Kind) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				s := newSegment(t, kind)
				parties := map[byte]*Locks{'a': openLocks(t, s), 'b': openLocks(t, s)}
				for i, step := range test.steps {
					l := parties[step.who]
					var got bool
					var err error
					switch step.call {
					case "lock":
						got, err = l.TryLock(step.at)
					case "held":
						got, err = l.Held(step.at)
					case "unlock":
						err = l.Unlock(step.at)
					case "close":
						err = l.Close()
					}
					what := fmt.Sprintf("step %d: %c %s %d", i, step.who, step.call, step.at)
					switch want := step.want.(type) {
					case nil:
						require.NoError(t, err, what)
					case error:
						require.ErrorIs(t, err, want, what)
					case bool:
						require.NoError(t, err, what)
						require.Equal(t, want, got, what)
					}
				}
			})
		}
	})
}

func TestLocksOutliveTheSegment(t *testing.T) {
	forKinds(t, allKinds, func(t *testing.T, kind Kind) {
		s := newSegment(t, kind)
		a, b := openLocks(t, s), openLocks(t, s)
		require.NoError(t, s.Close())
		ok, err := a.TryLock(1)
		require.NoError(t, err)
		require.True(t, ok)
		held, err := b.Held(1)
		require.NoError(t, err)
		require.True(t, held)
	})
}

// Many goroutines of many parties fight for one byte, which only one has at a time.
func TestLocksExclude(t *testing.T) {
	forKinds(t, allKinds, func(t *testing.T, kind Kind) {
		s := newSegment(t, kind)
		var inside, entered atomic.Int32
		var group sync.WaitGroup
		for range 4 {
			l := openLocks(t, s)
			group.Go(func() {
				for mine := 0; mine < 50; {
					ok, err := l.TryLock(9)
					if err != nil {
						t.Error(err)
						return
					}
					if !ok {
						continue
					}
					if inside.Add(1) != 1 {
						t.Error("two inside")
					}
					mine++
					entered.Add(1)
					inside.Add(-1)
					l.Unlock(9)
				}
			})
		}
		group.Wait()
		require.Equal(t, int32(200), entered.Load())
	})
}

// The kernel frees a killed process's byte, while it is still a zombie.
func TestKillFreesTheLock(t *testing.T) {
	forKinds(t, fileKinds, func(t *testing.T, kind Kind) {
		s := newSegment(t, kind)
		l := openLocks(t, s)
		arg, files := handOver(t, s)
		w := startWorker(t, "holder", arg, nil, files...)
		w.expect("holding")
		ok, err := l.TryLock(7)
		require.NoError(t, err)
		require.False(t, ok)

		require.NoError(t, w.cmd.Process.Signal(syscall.SIGSTOP))
		held, err := l.Held(7)
		require.NoError(t, err)
		require.True(t, held, "a stopped process is alive")

		w.signalKill()
		eventually(t, func() bool { held, err := l.Held(7); require.NoError(t, err); return !held }, "still held by the dead")
		ok, err = l.TryLock(7)
		require.NoError(t, err)
		require.True(t, ok)
	})
}

// roleHolder holds byte 7 until it is told to let go, or killed.
func roleHolder() {
	s := inherited()
	l := must(s.OpenLocks())
	if !must(l.TryLock(7)) {
		say("error: byte 7 is held by another")
	}
	say("holding")
	hear()
}

// A child that inherited the data description lives on when its parent is killed, and keeps none of
// the parent's locks.
func TestInheritedDescriptorDoesNotKeepTheLock(t *testing.T) {
	forKinds(t, fileKinds, func(t *testing.T, kind Kind) {
		s := newSegment(t, kind)
		l := openLocks(t, s)
		f, err := s.File()
		require.NoError(t, err)
		defer f.Close()
		w := startWorker(t, "launcher", "", nil, f)
		w.expect("grandchild")
		held, err := l.Held(8)
		require.NoError(t, err)
		require.True(t, held)

		w.signalKill()
		eventually(t, func() bool { held, err := l.Held(8); require.NoError(t, err); return !held }, "the grandchild keeps the lock")
		w.tell("are you there") // by the descriptors that it shares with its parent
		w.expect("alive")
	})
}

// roleLauncher locks byte 8 and starts a child that inherits the data description; as that child,
// it just lives.
func roleLauncher() {
	s := inherited()
	if os.Getenv("SHM_TEST_GRANDCHILD") != "" {
		say("grandchild")
		for {
			hear()
			say("alive %v", s.Size())
		}
	}
	l := must(s.OpenLocks())
	must(l.TryLock(8))
	p := must(os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Env:   append(os.Environ(), "SHM_TEST_GRANDCHILD=1"),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr, must(s.File())},
	}))
	must(p.Wait())
}

// A process closes descriptors that are not its own, all of them: it is seen alive, and can still
// ask. (All but those that the runtime's poller cannot live without.)
func TestStrayCloseOfEverything(t *testing.T) {
	forKinds(t, fileKinds, func(t *testing.T, kind Kind) {
		s := newSegment(t, kind)
		l := openLocks(t, s)
		ok, err := l.TryLock(0)
		require.NoError(t, err)
		require.True(t, ok)
		arg, files := handOver(t, s)
		w := startWorker(t, "closer", arg, nil, files...)
		w.expect("closed")
		held, err := l.Held(7)
		require.NoError(t, err)
		require.True(t, held, "alive without a descriptor")

		answer := w.expect("asked")
		if kind == Memfd && os.Geteuid() != 0 {
			require.Contains(t, answer, ErrNoLocks.Error()+": somebody closed", "nothing leads back without privilege")
		} else {
			require.Equal(t, "true <nil>", answer)
		}
		w.tell("leave")
		w.expect("left")
		held, err = l.Held(7)
		require.NoError(t, err)
		require.False(t, held, "leaving frees it")
		w.finish()
	})
}

func roleCloser() {
	s := inherited()
	l := must(s.OpenLocks())
	must(l.TryLock(7))
	var victims []int
	for _, e := range must(os.ReadDir("/proc/self/fd")) {
		var fd int
		fmt.Sscan(e.Name(), &fd)
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if fd > 2 && err == nil && !strings.HasPrefix(target, "anon_inode:") {
			unix.Close(fd)
		}
	}
	for range 20 { // the numbers are somebody else's now
		victims = append(victims, must(unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)))
	}
	say("closed")
	held, err := l.Held(0)
	say("asked %v %v", held, err)
	hear()
	check(l.Close())
	check(s.Close())
	for _, fd := range victims {
		if !isOpen(fd) {
			say("error: closed somebody else's descriptor")
		}
	}
	say("left")
}

// The same within one process, step by step: what was locked stays so, what is new goes through a
// new description.
func TestStrayCloseOfTheLocksDescriptor(t *testing.T) {
	for name, reuse := range map[string]func(s *Segment) string{
		"number free":                     func(s *Segment) string { return "" },
		"number reused":                   func(s *Segment) string { return "/dev/null" },
		"number reused for the same file": func(s *Segment) string { return procFD(s.fd) },
	} {
		t.Run(name, func(t *testing.T) {
			forKinds(t, fileKinds, func(t *testing.T, kind Kind) {
				s := newSegment(t, kind)
				a, b := openLocks(t, s), openLocks(t, s)
				lock := func(l *Locks, at int64, want bool) {
					t.Helper()
					ok, err := l.TryLock(at)
					require.NoError(t, err)
					require.Equal(t, want, ok)
				}
				held := func(l *Locks, at int64, want bool) {
					t.Helper()
					ok, err := l.Held(at)
					require.NoError(t, err)
					require.Equal(t, want, ok)
				}
				lock(a, 1, true)
				lock(a, 2, true)
				fd := a.backend.(*fileLocks).opened[0].fd
				require.NoError(t, unix.Close(fd))
				if path := reuse(s); path != "" {
					openAs(t, fd, path)
					defer func() { require.NoError(t, unix.Close(fd), "not ours to close") }()
				}
				held(b, 1, true)
				held(a, 1, false) // its own
				lock(a, 1, true)  // still
				held(a, 5, false)
				lock(b, 5, true)
				held(a, 5, true)
				lock(a, 3, true)
				held(b, 3, true)

				require.NoError(t, a.Unlock(3))
				held(b, 3, false)
				requireOnly(t, a.Unlock(1), ErrNoLocks) // 1 and 2 go together
				held(b, 1, true)
				require.NoError(t, a.Unlock(2))
				held(b, 1, false)
				held(b, 2, false)
				lock(a, 4, true)
				require.NoError(t, a.Close())
				held(b, 4, false)
			})
		})
	}
}

// What keeps the lock in spite of a stray close must itself keep nothing: it cannot be touched, and no forked child gets it.
func TestLocksMapping(t *testing.T) {
	forKinds(t, fileKinds, func(t *testing.T, kind Kind) {
		l := openLocks(t, newSegment(t, kind))
		d := l.backend.(*fileLocks).opened[0]
		mode, flags := mapping(t, addressOf(d.page))
		require.Equal(t, "---s", mode)
		require.Contains(t, flags, "dc", "not given to forked children")
		fdFlags, err := unix.FcntlInt(uintptr(d.fd), unix.F_GETFD, 0)
		require.NoError(t, err)
		require.Equal(t, unix.FD_CLOEXEC, fdFlags)
	})
}

// Close unlocks by itself: the description may live on for a moment in a child between fork and exec, here in a duplicate.
func TestCloseFreesWhatAChildStillHas(t *testing.T) {
	forKinds(t, fileKinds, func(t *testing.T, kind Kind) {
		s := newSegment(t, kind)
		a, b := openLocks(t, s), openLocks(t, s)
		_, err := a.TryLock(1)
		require.NoError(t, err)
		child, err := unix.FcntlInt(uintptr(a.backend.(*fileLocks).opened[0].fd), unix.F_DUPFD_CLOEXEC, 3)
		require.NoError(t, err)
		defer unix.Close(child)
		require.NoError(t, a.Close())
		held, err := b.Held(1)
		require.NoError(t, err)
		require.False(t, held)
	})
}

func TestHeldDoesNotAllocate(t *testing.T) {
	for _, kind := range allKinds {
		l := openLocks(t, newSegment(t, kind))
		require.Zero(t, testing.AllocsPerRun(100, func() { l.Held(1) }), kind)
	}
}

func TestNoLocksWithoutProc(t *testing.T) {
	needRoot(t, "hide /proc in a mount namespace", "no-proc")
	w := startWorker(t, "no-proc", t.TempDir(), &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS})
	require.Contains(t, w.expect("memfd"), "/proc is not mounted")
	w.expect("named")
	w.finish()
}

func roleNoProc() {
	check(unix.Mount("tmpfs", "/proc", "tmpfs", 0, ""))
	s := must(NewMemfd("no-proc", page, page))
	_, err := s.OpenLocks()
	if !errors.Is(err, ErrNoLocks) || !errors.Is(err, os.ErrNotExist) {
		say("error: %v", err)
	}
	say("memfd %v", err)
	// With a path, all is well, also while it is not yet published.
	named := must(CreateNamed(os.Getenv(argEnv)+"/x", page, func(s *Segment) error {
		_, err := must(s.OpenLocks()).TryLock(1)
		return err
	}))
	if held, err := must(named.OpenLocks()).Held(1); err != nil || !held {
		say("error: named: %v %v", held, err)
	}
	if left := must(os.ReadDir(os.Getenv(argEnv))); len(left) != 1 {
		say("error: left behind: %v", left)
	}
	say("named")
}

// File systems that say yes and do nothing cannot be had for a test: here are two descriptions that
// know nothing of each other.
func TestProbeFindsLocksThatDoNotLock(t *testing.T) {
	party := func() lockBackend { return &heapLocks{table: &heapLockTable{holder: map[int64]*heapLocks{}}} }
	requireIs := func(err error, causes ...error) {
		t.Helper()
		for _, cause := range causes {
			require.ErrorIs(t, err, cause)
		}
	}
	requireIs(probeLocks(party(), party()), ErrNoLocks, errors.ErrUnsupported)
	requireIs(probeLocks(party(), refusing{}), ErrNoLocks, unix.ENOLCK)
	table := &heapLockTable{holder: map[int64]*heapLocks{}}
	require.NoError(t, probeLocks(&heapLocks{table}, &heapLocks{table}))
	require.Empty(t, table.holder)
}

type refusing struct{}

func (refusing) lock(int64) (bool, error) { return false, unix.ENOLCK }
func (refusing) unlock(int64) error       { return unix.ENOLCK }
func (refusing) held(int64) (bool, error) { return false, unix.ENOLCK }
func (refusing) close() error             { return nil }
