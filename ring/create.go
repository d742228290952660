package ring

import (
	"errors"
	"fmt"
	"os"

	"github.com/shmrouter/shmrouter/shm"
)

// New makes a ring in a sealed memory file that has no path: processes get at
// it by inheriting its descriptor (Ring.File, OpenFile). It lives as long as
// somebody has it open or mapped. Errors: those about Options, and the
// kernel's (no memory, no descriptors).
func New(o Options) (*Ring, error) {
	total, reserve, err := SegmentSize(o)
	if err != nil {
		return nil, err
	}
	memfd := shm.NewMemfd
	if o.HugePages {
		memfd = shm.NewHugeMemfd
	}
	seg, err := memfd("shmrouter", total, reserve)
	if err != nil {
		return nil, err
	}
	defer seg.Close() // the Ring keeps a reference of its own
	return Format(seg, o)
}

// NewHeap makes a ring in memory of this process, for tests and for the race
// detector, which does not see mapped memory. Errors are those about
// Options.
func NewHeap(o Options) (*Ring, error) {
	total, _, err := SegmentSize(o)
	if err != nil {
		return nil, err
	}
	seg, err := shm.NewHeap(total)
	if err != nil {
		return nil, err
	}
	defer seg.Close()
	return Format(seg, o)
}

// Create makes a ring in a file, for processes that are not related. The path
// appears when the ring is complete; a file or link that is there already is
// an error (fs.ErrExist) and is left alone. Who creates it removes it
// (Segment().Unlink).
func Create(path string, o Options) (*Ring, error) {
	total, _, err := SegmentSize(o)
	if err != nil {
		return nil, err
	}
	var r *Ring
	seg, err := shm.CreateNamed(path, total, func(seg *shm.Segment) error {
		var err error
		r, err = Format(seg, o)
		return err
	})
	if err != nil {
		if r != nil {
			r.Close()
		}
		return nil, err
	}
	return r, seg.Close()
}

// OpenPath opens the ring in a file made by Create. Errors: those of
// shm.OpenNamed and of Open.
func OpenPath(path string) (*Ring, error) {
	seg, err := shm.OpenNamed(path)
	if err != nil {
		return nil, truncated(err)
	}
	defer seg.Close()
	return Open(seg)
}

// OpenFile opens the ring behind an inherited descriptor. The caller keeps f.
// Errors: those of shm.FromFile and of Open.
func OpenFile(f *os.File) (*Ring, error) {
	seg, err := shm.FromFile(f)
	if err != nil {
		return nil, truncated(err)
	}
	defer seg.Close()
	return Open(seg)
}

// truncated marks a size that no segment has, which shm refuses before
// the ring is looked at.
func truncated(err error) error {
	if errors.Is(err, shm.ErrSize) {
		return fmt.Errorf("%w: %w", ErrTruncated, err)
	}
	return err
}

// File returns a descriptor of the segment to hand to another process, in
// exec.Cmd.ExtraFiles for one. The caller closes it. Rings on heap memory have
// none (shm.ErrNoFile).
func (r *Ring) File() (*os.File, error) { return r.seg.File() }
