package sweep

import (
	"fmt"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/tracer"
)

// lane is one of those that sweep at the same time: a tracer, and a neighbour.
type lane struct {
	tracer *tracer.Tracer
	friend *friend
	seed   uint64
}

// newWorld makes a fresh world for an operation.
func (l *lane) newWorld(o *operation, seed uint64, traced bool) (world, error) {
	if l.friend == nil {
		f, err := newFriend()
		if err != nil {
			return nil, err
		}
		l.friend = f
	}
	switch {
	case o.makes != 0:
		return asWorld(newMakerWorld(o, traced))
	case o.routed:
		return asWorld(newRoutedWorld(o, l.friend, seed, traced))
	}
	return asWorld(newRingWorld(o, l.friend, seed, traced))
}

// asWorld keeps a nil pointer from becoming a world.
func asWorld[W world](w W, err error) (world, error) {
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Mode is what is done to a victim at its point.
type mode int

const (
	record mode = iota // nothing: its instructions are recorded
	kill
	pause
)

// try is one victim's life and death.
type try struct {
	op        *operation
	mode      mode
	point     tracer.Point
	trace     tracer.Trace // recorded
	reached   bool
	recovered int
	findings  []string
}

// run lets a victim live in a fresh world, to its point or to the operation's end, kills it there, and judges.
// The error is one of the sweep's own.
func (l *lane) run(t *try) (err error) {
	w, err := l.newWorld(t.op, l.seed, true)
	if err != nil {
		l.renew()
		return fmt.Errorf("%s: making its world: %w", t.op.name, err)
	}
	defer func() {
		w.close()
		if len(t.findings) > 0 || err != nil {
			l.renew()
		}
	}()
	r, err := w.cast(bySubject)
	if err != nil {
		return err
	}
	v, err := l.tracer.Start(r.cmd)
	if err != nil {
		return fmt.Errorf("%s: starting a victim: %w", t.op.name, err)
	}
	defer v.Kill()
	r.started(v.PID)
	if err := v.ToBegin(); err != nil {
		return fmt.Errorf("%s: %w: %s", t.op.name, err, r.said())
	}
	if err := w.begins(); err != nil {
		return fmt.Errorf("%s: %w", t.op.name, err)
	}
	naps := 0
	onBlocked := func() error {
		naps++
		return w.unblock(naps)
	}
	switch t.mode {
	case record:
		t.trace, err = v.Record(onBlocked)
		r.whole = err == nil
	default:
		t.reached, err = v.RunTo(t.point, onBlocked)
		r.whole = err == nil && !t.reached
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", t.op.name, err, r.said())
	}
	if t.mode == pause && t.reached {
		if err := w.others([]*role{r}); err != nil {
			return fmt.Errorf("%s: while the victim stands: %w", t.op.name, err)
		}
		if len(w.verdict().complaints) == 0 {
			if err := w.goesOn(); err != nil {
				return fmt.Errorf("%s: before the victim goes on: %w", t.op.name, err)
			}
			if err := v.ToEnd(onBlocked); err != nil {
				return fmt.Errorf("%s: going on: %w: %s", t.op.name, err, r.said())
			}
			r.whole = true
		}
	}
	if _, err := v.Kill(); err != nil {
		return fmt.Errorf("%s: %w", t.op.name, err)
	}
	if err := w.aftermath([]*role{r}); err != nil {
		return fmt.Errorf("%s: after the death: %w", t.op.name, err)
	}
	t.recovered = w.recoveries()
	t.findings = w.verdict().complaints
	return nil
}

// renew parts with a neighbour that may be stuck, or in the midst of something.
func (l *lane) renew() {
	if l.friend != nil {
		l.friend.dismiss()
		l.friend = nil
	}
}
