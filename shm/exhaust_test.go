package shm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/hosttest"
)

// Every call that opens something, with too few descriptors, in a process of its own: the error says
// which call it was, nothing is left of it, and with enough of them it works.
func TestOutOfDescriptors(t *testing.T) {
	w := startWorker(t, "starved", t.TempDir(), nil)
	for range starvedCalls(t.TempDir()) {
		t.Log(w.expect("ok"))
	}
	w.finish()
}

type starvedCall struct {
	name string
	try  func() (func() error, error)
}

func starvedCalls(dir string) []starvedCall {
	path := filepath.Join(dir, "x")
	var s *Segment // made by the first, for those behind it
	return []starvedCall{
		{"NewMemfd", func() (func() error, error) {
			made, err := NewMemfd("starved", page, page)
			s = made
			return nil, err
		}},
		{"File", func() (func() error, error) { return closerOf(s.File()) }},
		{"OpenLocks", func() (func() error, error) { return closerOf(s.OpenLocks()) }},
		{"FromFile", func() (func() error, error) {
			f := os.NewFile(uintptr(s.fd), "borrowed")
			borrowed = append(borrowed, f) // or the collector would close the number, which is the segment's
			return closerOf(FromFile(f))
		}},
		{"CreateNamed", func() (func() error, error) {
			made, err := CreateNamed(path, page, func(s *Segment) error {
				l, err := s.OpenLocks()
				if err != nil {
					return err
				}
				return l.Close()
			})
			if err == nil {
				return func() error { return errors.Join(made.Unlink(), made.Close()) }, nil
			}
			if left := must(filepath.Glob(filepath.Join(dir, "*"))); len(left) > 0 {
				err = fmt.Errorf("left behind: %v", left)
			}
			return nil, err
		}},
		{"createNamed, hidden", func() (func() error, error) {
			made, err := createNamed(path, page, nil, openHidden)
			if err != nil {
				return nil, err
			}
			return made.Close, nil
		}},
		{"OpenNamed", func() (func() error, error) { return closerOf(OpenNamed(path)) }},
		{"NewEvent", func() (func() error, error) { return closerOf(NewEvent()) }},
		{"Dup", func() (func() error, error) { return closerOf(kept.Dup()) }},
		{"WatchDeath", func() (func() error, error) {
			stop, err := WatchDeath(os.Getppid(), parentStart, func() {})
			return func() error { stop(); return nil }, err
		}},
		{"ProcessStart", func() (func() error, error) {
			_, err := ProcessStart(os.Getppid())
			return nil, err
		}},
	}
}

// What the calls need that was there before.
var (
	borrowed    []*os.File
	kept        *Event
	parentStart uint64
)

func closerOf[T io.Closer](v T, err error) (func() error, error) {
	if err != nil {
		return nil, err
	}
	return v.Close, nil
}

func roleStarved() {
	kept, parentStart = must(NewEvent()), must(ProcessStart(os.Getppid()))
	for i, call := range starvedCalls(os.Getenv(argEnv)) {
		if i == 0 { // what is left of the first is what the others work with
			restore := must(hosttest.Descriptors(0))
			_, err := call.try()
			restore()
			if !errors.Is(err, unix.EMFILE) {
				say("error: %s: %v", call.name, err)
			}
			must(call.try())
			say("ok %s", call.name)
			continue
		}
		n, err := hosttest.Starve(call.try)
		if err != nil {
			say("error: %s: %v", call.name, err)
			os.Exit(1)
		}
		say("ok %s failed %d times", call.name, n)
	}
}

// A party that has its locks goes on without a descriptor to spare: it locks, asks and unlocks.
func TestLocksWithoutDescriptorsToSpare(t *testing.T) {
	w := startWorker(t, "spent", "", nil)
	w.expect("ok")
	w.finish()
}

func roleSpent() {
	s := must(NewMemfd("spent", page, page))
	a, b := must(s.OpenLocks()), must(s.OpenLocks())
	must(hosttest.Descriptors(0))
	must(a.TryLock(1))
	if held := must(b.Held(1)); !held {
		say("error: not seen")
	}
	if taken := must(b.TryLock(1)); taken {
		say("error: taken twice")
	}
	check(a.Unlock(1))
	if taken := must(b.TryLock(1)); !taken {
		say("error: not free")
	}
	check(b.Close())
	check(a.Close())
	check(s.Close())
	say("ok")
}

// RLIMIT_FSIZE bounds segments as it bounds files. The kernel adds a signal to its refusal, which
// has to do no harm.
func TestFileSizeLimit(t *testing.T) {
	w := startWorker(t, "small-files", t.TempDir(), nil)
	for range 3 {
		t.Log(w.expect("ok"))
	}
	w.finish()
}

func roleSmallFiles() {
	dir := os.Getenv(argEnv)
	restore := must(hosttest.Limit(unix.RLIMIT_FSIZE, uint64(4*page)))
	before := hosttest.Open()
	path := filepath.Join(dir, "x")
	for name, create := range map[string]func(size int64) (*Segment, error){
		"memfd":   func(size int64) (*Segment, error) { return NewMemfd("small", size, page) },
		"unnamed": func(size int64) (*Segment, error) { return createNamed(path, size, nil, openUnnamed) },
		"hidden":  func(size int64) (*Segment, error) { return createNamed(path, size, nil, openHidden) },
	} {
		_, err := create(5 * page)
		if !errors.Is(err, unix.EFBIG) || !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "ftruncate") {
			say("error: %s: %v", name, err)
		}
		if left := must(os.ReadDir(dir)); len(left) > 0 {
			say("error: left behind: %v", left)
		}
		check(hosttest.OpenLike(before))
		s := must(create(4 * page)) // as large as allowed
		if s.Path() != "" {
			check(s.Unlink())
		}
		check(s.Close())
		say("ok %v", err)
	}
	restore()
	check(must(NewMemfd("large", 5*page, page)).Close())
}

// RLIMIT_AS: a segment that cannot be mapped is an error.
func TestAddressSpaceLimit(t *testing.T) {
	if raceEnabled {
		played.Store("narrow", true)
		t.Skip("the race detector's own mappings are larger than any limit")
	}
	w := startWorker(t, "narrow", t.TempDir(), nil)
	t.Log(w.expect("memfd"))
	t.Log(w.expect("named"))
	w.expect("alive")
	w.finish()
}

func roleNarrow() {
	var size, room int64 = 1 << 30, 256 << 20
	text := must(os.ReadFile("/proc/self/statm"))
	var pages int64
	fmt.Sscan(string(text), &pages)
	before := hosttest.Open()
	restore := must(hosttest.Limit(unix.RLIMIT_AS, uint64(pages*page+room)))
	path := filepath.Join(os.Getenv(argEnv), "x")
	_, memfd := NewMemfd("narrow", size, page)
	// A sparse file, so as not to fill the disk: opening it is what maps.
	f := must(os.Create(path))
	check(f.Truncate(size))
	check(f.Close())
	_, named := OpenNamed(path)
	check(hosttest.OpenLike(before))
	s := must(NewMemfd("fits", page, page))
	check(s.Close())
	restore()
	for name, err := range map[string]error{"memfd": memfd, "named": named} {
		if !errors.Is(err, unix.ENOMEM) || !strings.Contains(err.Error(), "mmap") {
			say("error: %s: %v", name, err)
			os.Exit(1)
		}
	}
	say("memfd %v", memfd)
	say("named %v", named)
	check(must(NewMemfd("narrow", size, page)).Close())
	say("alive")
}

// The same file system that is full for a file: tested as an ordinary user, too.
func TestFullFileSystemApart(t *testing.T) {
	w := startWorker(t, "full-disk", t.TempDir(), hosttest.Apart(t, unix.CLONE_NEWNS))
	w.expect("ok")
	w.finish()
}

func TestStarveNotices(t *testing.T) {
	w := startWorker(t, "careless", "", nil)
	require.Contains(t, w.expect("leak"), "left open")
	require.Contains(t, w.expect("mute"), "which call?")
	require.Contains(t, w.expect("other"), "not EMFILE")
	w.finish()
}

// roleCareless shows that the helper notices what it is for.
func roleCareless() {
	hosttest.Patience = 20 * time.Millisecond
	_, err := hosttest.Starve(func() (func() error, error) {
		for range 2 {
			if _, err := unix.Open("/dev/null", unix.O_RDONLY, 0); err != nil {
				return nil, os.NewSyscallError("open", err) // and the first stays
			}
		}
		return nil, nil
	})
	say("leak %v", err)
	_, err = hosttest.Starve(func() (func() error, error) { return nil, unix.EMFILE })
	say("mute %v", err)
	_, err = hosttest.Starve(func() (func() error, error) { return nil, unix.EACCES })
	say("other %v", err)
}
