package router

import (
	"errors"
	"io/fs"
	"runtime"

	"github.com/shmrouter/shmrouter/internal/label"
	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// openSegment makes the segment, or finds the one to go on with. A path shows
// it only when everything in it is ready.
func (n *run) openSegment() (resumed bool, err error) {
	o := n.opts
	if o.path == "" {
		total, reserve, err := ring.SegmentSize(n.ringOptions())
		if err != nil {
			return false, err
		}
		memfd := shm.NewMemfd
		if o.hugePages {
			memfd = shm.NewHugeMemfd
		}
		seg, err := memfd("shmrouter", total, reserve)
		if err != nil {
			return false, err
		}
		defer seg.Close() // the ring keeps a reference of its own
		return false, n.format(seg)
	}
	if o.resume {
		seg, err := shm.OpenNamed(o.path)
		if err == nil {
			defer seg.Close()
			return true, n.takeOver(seg)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	total, _, err := ring.SegmentSize(n.ringOptions())
	if err != nil {
		return false, err
	}
	seg, err := shm.CreateNamed(o.path, total, n.format)
	if err != nil {
		n.closeRing() // the path may have been taken after format was done
		return false, err
	}
	return false, seg.Close()
}

func (n *run) ringOptions() ring.Options {
	size, _ := wire.UserSize(n.opts.maxPipes)
	return ring.Options{Capacity: n.opts.capacity, UserSize: size}
}

func (n *run) format(seg *shm.Segment) (err error) {
	defer func() {
		if err != nil {
			n.closeRing()
		}
	}()
	if n.ring, err = ring.Format(seg, n.ringOptions()); err != nil {
		return err
	}
	_, entries := wire.UserSize(n.opts.maxPipes)
	c := wire.Config{Entries: entries, MaxMessage: uint64(n.opts.maxMessage), Resume: n.opts.resume}
	if c.Resume {
		c.MaxMessage = uint64(min(n.opts.maxMessage, n.ring.MaxFrame()))
	}
	off, size := n.ring.User()
	if n.dir, err = wire.Create(seg, off, size, c); err != nil {
		return err
	}
	if err := n.consume(); err != nil {
		return err
	}
	n.dir.SetState(wire.Running)
	return nil
}

func (n *run) consume() (err error) {
	opts := []ring.ConsumerOption{ring.WithOnStall(n.onStall), ring.WithOnSkip(n.onSkip)}
	if n.opts.resume {
		opts = append(opts, ring.WithManualRelease())
	}
	opts = append(opts, ring.WithWaiting(n.waiting()))
	n.cons, err = n.ring.Consume(opts...)
	return err
}

// waiting is how the monitor waits. On two processors one that spins beside a
// foreign loop is in its way, or in a worker's: see docs/decisions/0002-waiting.md.
// A goroutine loop is its own monitor.
func (n *run) waiting() ring.Waiting {
	_, goroutine := n.opts.loop.(*GoLoop)
	switch {
	case n.opts.waiting != nil:
		return *n.opts.waiting
	case n.opts.loop == nil || goroutine || min(runtime.GOMAXPROCS(0), runtime.NumCPU()) > 2:
		return ring.Adaptive
	}
	return ring.Thrift
}

func (n *run) closeRing() {
	if n.cons != nil {
		n.cons.Close()
	}
	if n.ring != nil {
		n.ring.Close()
	}
	n.cons, n.ring = nil, nil
}

func (n *run) onStall(e ring.StallEvent) {
	n.count.claimStalls.Add(1)
	n.log.Warn("a worker's unfinished claim holds up the router", "slot", e.Slot, "pid", e.PID, "age", e.Age, "position", e.Position)
	if n.opts.onStall != nil {
		go hook(n.opts.onStall, e) // not on the monitor, which has others to look after, and which a hook may stop
	}
}

func (n *run) onSkip(e ring.SkipEvent) {
	n.log.Info("skipped a dead worker's claim", "slot", e.Slot, "position", e.Position, "granules", e.Granules, "recovery", e.Recovery)
	if n.opts.onSkip != nil {
		go hook(n.opts.onSkip, e)
	}
}

func hook[E any](f func(E), e E) {
	label.Hook.Set()
	f(e)
}

// closeSegment counts what is left in the ring and lets go of it.
func (n *run) closeSegment() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	if !n.opts.resume {
		n.count.unrouted.Add(n.mon.countRest())
	}
	errs = append(errs, n.cons.Close())
	if !n.opts.resume {
		n.ring.Rouse() // nobody makes room any more
	}
	n.final, _ = n.ring.Stats()
	if testHookStopped != nil {
		testHookStopped(n.ring)
	}
	if n.opts.path != "" && !n.opts.resume {
		errs = append(errs, n.ring.Segment().Unlink())
	}
	n.unmapped = true
	errs = append(errs, n.ring.Close())
	return errors.Join(errs...)
}

// testHookStopped lets tests check every segment before it goes.
var testHookStopped func(*ring.Ring)

// withSegment calls fn with mu held while the segment is mapped.
func (n *run) withSegment(fn func() error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.unmapped {
		return ErrNotRunning
	}
	return n.ring.Segment().Guarded(fn)
}
