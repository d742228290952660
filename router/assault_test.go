package router

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
)

// What somebody can do to the file of a named segment while a router and its
// workers use it.

// assaulted is a running router on a path of its own, with workers that send.
func assaulted(t *testing.T) (r *Router, path string, h *honest) {
	t.Helper()
	if raceEnabled {
		t.Skip("the race detector makes atomic accesses in C code, from which a fault cannot be turned into a panic")
	}
	guard(t)
	hook := testHookStopped
	testHookStopped = nil // the segment may be damaged, or gone
	t.Cleanup(func() { testHookStopped = hook })
	dir, err := os.MkdirTemp(shm.DefaultDir(), "router-test-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	path = filepath.Join(dir, "segment")
	r, err = New(WithPath(path), WithCapacity(64<<10), WithMaxPipes(64))
	must(t, err)
	must(t, r.Start())
	t.Cleanup(func() { r.Stop() })
	return r, path, newHonest(t, r, 2)
}

// A file that was cut off ends the pipes with ErrBroken; workers get shm.ErrFault
// or see their router gone; nothing crashes, and Stop completes.
func TestFileIsCutOff(t *testing.T) {
	full := func(path string) int64 {
		st, err := os.Stat(path)
		must(t, err)
		return st.Size()
	}
	for name, cut := range map[string]func(path string) error{
		"to nothing":  func(path string) error { return os.Truncate(path, 0) },
		"to a page":   func(path string) error { return os.Truncate(path, 4096) },
		"in the data": func(path string) error { return os.Truncate(path, full(path)/2&^4095) },
		"before its directory": func(path string) error {
			return os.Truncate(path, scribbledData+64<<10)
		},
		"in mid-page": func(path string) error { return os.Truncate(path, scribbledTable+100) },
		"and grown again": func(path string) error { // zeroes
			size := full(path)
			return errors.Join(os.Truncate(path, 0), os.Truncate(path, size))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, path, h := assaulted(t)
			must(t, cut(path))
			h.isBroken(r)
			if err := within(t, "Stop", inBackground(r.Stop)); err != nil && !errors.Is(err, shm.ErrFault) {
				t.Errorf("Stop: %v", err)
			}
			within(t, "done", r.Done())
		})
	}
}

// isBroken waits until every pipe has ended, with ErrBroken or the worker's own
// end, and the router says what it met.
func (h *honest) isBroken(r *Router) {
	h.t.Helper()
	h.stop()
	h.end(r)
	eventually(h.t, "damage is reported", func() bool { s := r.Stats(); return s.Broken || s.Damages > 0 })
	if r.Stats().Broken {
		wantIs(h.t, "Pipe", second(r.Pipe()), ErrBroken)
	}
}

// The same at any moment of a send or a poll, again and again.
func TestFileIsCutOffUnderTraffic(t *testing.T) {
	random := ringtest.Random(t)
	for range 6 {
		t.Run("", func(t *testing.T) {
			r, path, h := assaulted(t)
			from := h.got.Load()
			some := int64(random.IntN(2000))
			size := int64(random.IntN(40)) << 12
			eventually(t, "some messages", func() bool { return h.got.Load() >= from+some })
			must(t, os.Truncate(path, size))
			if size > scribbledData {
				must(t, os.Truncate(path, 0))
			}
			h.isBroken(r)
			within(t, "Stop", inBackground(r.Stop))
			within(t, "done", r.Done())
		})
	}
}

// What happens to the name is nothing to those who have the file. Stop leaves
// alone what is not its own, and says so.
func TestFileIsRenamed(t *testing.T) {
	for _, row := range []struct {
		name string
		do   func(path string) error
		stop error
		left string // what is at the path afterwards
	}{
		{"grown", func(path string) error { return os.Truncate(path, 1<<24) }, nil, ""},
		{"unlinked", os.Remove, fs.ErrNotExist, ""},
		{"no rights", func(path string) error { return os.Chmod(path, 0) }, nil, ""},
		{"renamed", func(path string) error { return os.Rename(path, path+"-away") }, fs.ErrNotExist, ""},
		{"replaced", func(path string) error {
			return errors.Join(os.WriteFile(path+"-new", []byte("mine"), 0o600), os.Rename(path+"-new", path))
		}, shm.ErrReplaced, "mine"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, path, h := assaulted(t)
			must(t, row.do(path))
			before := h.got.Load()
			eventually(t, "workers go on", func() bool { return h.got.Load() > before+1000 })
			late := newHonest(t, r, 1) // by its descriptor
			token, err := late.unstarted(r).Token()
			must(t, err)
			if s, err := sender.Open(token); err == nil {
				must(t, s.Close())
			} else if row.stop == nil && !errors.Is(err, fs.ErrPermission) {
				t.Errorf("by its path: %v", err)
			}
			for _, h := range []*honest{h, late} {
				h.stop()
				for _, end := range h.ends {
					if err := within(t, "end", end); err != nil {
						t.Errorf("end: %v", err)
					}
				}
			}
			if s := r.Stats(); s.Broken || s.Damages > 0 {
				t.Errorf("%+v", s)
			}
			if err := within(t, "Stop", inBackground(r.Stop)); !errors.Is(err, row.stop) {
				t.Errorf("Stop: %v, want %v", err, row.stop)
			}
			within(t, "done", r.Done())
			if b, _ := os.ReadFile(path); string(b) != row.left {
				t.Errorf("at the path: %d bytes", len(b))
			}
		})
	}
}

// unstarted is the sender of a pipe that nobody starts.
func (h *honest) unstarted(r *Router) *sender.Sender {
	s, _ := pipe(h.t, r)
	return s
}

// A file that is cut off while its router starts is an error of Start, or of the pipes.
func TestFileIsCutOffAtTheStart(t *testing.T) {
	_, path, h := assaulted(t)
	h.stop()
	path += "2"
	r, err := New(WithPath(path), WithCapacity(64<<10), WithEventLoop(cuttingLoop{PostLoop(func(func()) {}), func() { must(t, os.Truncate(path, 0)) }}))
	must(t, err)
	if err = r.Start(); err == nil {
		err = r.Stop()
	}
	if err != nil && !errors.Is(err, shm.ErrFault) {
		t.Error(err)
	}
}

// cuttingLoop does something while the router starts.
type cuttingLoop struct {
	EventLoop
	act func()
}

func (l cuttingLoop) Pingee(onPing func()) (Pingee, error) {
	l.act()
	return l.EventLoop.Pingee(onPing)
}
