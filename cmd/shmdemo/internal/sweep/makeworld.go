package sweep

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// makerWorld is a directory, or a piece of memory, in which the victim makes a segment or opens one.
type makerWorld struct {
	op      *operation
	traced  bool
	dir     string
	path    string
	segment *shm.Segment
	file    *os.File
	role    *role
	ours    bool // it was a survivor who created it
	book    book
}

func newMakerWorld(o *operation, traced bool) (w *makerWorld, err error) {
	w = &makerWorld{op: o, traced: traced}
	defer func() {
		if err != nil {
			w.close()
			w = nil
		}
	}()
	if o.makes == makesMemory {
		total, reserve, err := ring.SegmentSize(ring.Options{Capacity: ring.MinCapacity})
		if err != nil {
			return w, err
		}
		if w.segment, err = shm.NewMemfd("shmdemo-sweep", total, reserve); err != nil {
			return w, err
		}
		w.file, err = w.segment.File()
		return w, err
	}
	if w.dir, err = os.MkdirTemp(shm.DefaultDir(), "shmdemo-sweep-"); err != nil {
		return w, err
	}
	w.path = filepath.Join(w.dir, "ring")
	if o.makes == opensPath {
		w.use(ring.Create(w.path, ring.Options{Capacity: ring.MinCapacity}))
	}
	return w, nil
}

func (w *makerWorld) cast(o *operation, sender uint64) (r *role, err error) {
	w.role, err = newRole(o, sender, false, w.traced, w.path, w.file)
	return w.role, err
}

func (w *makerWorld) begins() error     { return nil }
func (w *makerWorld) unblock(int) error { return nil }
func (w *makerWorld) rest() func()      { return nil }
func (w *makerWorld) goesOn() error     { return nil }
func (w *makerWorld) through() error    { return nil }
func (w *makerWorld) died(*role) error  { return nil }
func (w *makerWorld) verdict() *book    { return &w.book }
func (w *makerWorld) recoveries() int   { return 0 }

// others looks for what the victim has made, and uses it, or makes one itself.
func (w *makerWorld) others([]*role) error {
	w.look("while the victim stands", false)
	return nil
}

func (w *makerWorld) aftermath(all []*role) error {
	r := all[0]
	outcome := r.diary.result.Load()
	switch {
	case outcome == failure, r.whole && outcome == pending:
		w.book.complain("the call failed: %s", r.diary.text())
	case outcome == success && w.ours:
		w.book.complain("two have created the same file")
	case outcome == refused && !w.ours:
		w.book.complain("the call failed: %s", r.diary.text())
	}
	w.look("after the death", outcome == success)
	return nil
}

// look uses the segment if there is one. must says that there has to be.
func (w *makerWorld) look(when string, must bool) {
	if w.segment != nil {
		r, err := ring.Open(w.segment)
		if errors.Is(err, ring.ErrUnfinished) && !must {
			return
		}
		w.use(r, err)
		return
	}
	files, err := os.ReadDir(w.dir)
	if err != nil {
		w.book.complain("%s: %v", when, err)
		return
	}
	for _, f := range files {
		if f.Name() != filepath.Base(w.path) {
			w.book.complain("%s: there is a file %s", when, f.Name())
		}
	}
	r, err := ring.OpenPath(w.path)
	if errors.Is(err, fs.ErrNotExist) && !must {
		r, err = ring.Create(w.path, ring.Options{Capacity: ring.MinCapacity})
		w.ours = err == nil
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", when, err)
	}
	w.use(r, err)
}

// use sends messages through a ring and closes it.
func (w *makerWorld) use(r *ring.Ring, err error) {
	if err == nil {
		defer r.Close()
		err = w.exchange(r)
	}
	if err != nil {
		w.book.complain("the segment cannot be used: %v", err)
	}
}

func (w *makerWorld) exchange(r *ring.Ring) error {
	if r.Capacity() != ring.MinCapacity {
		return fmt.Errorf("it has a capacity of %d bytes", r.Capacity())
	}
	a, err := r.Attach()
	if err != nil {
		return err
	}
	defer a.Close()
	c, err := r.Consume()
	if err != nil {
		return err
	}
	defer c.Close()
	p, n := a.NewProducer(), w.book.from[byMain].last
	for i := range uint64(3) {
		if err := p.TrySend(message(byMain, n+i+1, frameSize), 0); err != nil {
			return err
		}
	}
	_, err = c.Poll(manyTakes, func(f ring.Frame) ring.Action {
		w.book.deliver(f.Data)
		return ring.Continue
	})
	w.book.judgeWhole(byMain, n+3)
	return errors.Join(err, r.Check())
}

func (w *makerWorld) close() {
	if w.role != nil {
		w.role.close()
	}
	if w.file != nil {
		w.file.Close()
	}
	if w.segment != nil {
		w.segment.Close()
	}
	if w.dir != "" {
		os.RemoveAll(w.dir)
	}
}
