package sweep

import (
	"fmt"
	"strings"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/tracer"
)

// mode is what is done to victims at their points.
type mode int

const (
	record mode = iota // nothing: the instructions are recorded
	kill
	pause
	pairKill  // both of a pair are killed
	pairPause // the first is killed while the second stands, which then goes on
)

// part is a victim's in a try: its operation, and the point that it is brought to.
type part struct {
	op    *operation
	point tracer.Point
}

// try is one world, with the life and death of one victim, or of two.
type try struct {
	mode  mode
	parts []part
	rare  bool // not every victim comes to its point

	dawdle int // so many sleeps of the victims end by themselves, before the survivors do anything

	trace     tracer.Trace // recorded
	reached   bool         // each has come to its point
	recovered int
	findings  []string
}

// cast is a try that is carried out.
type cast struct {
	*try
	lane    *lane
	world   world
	roles   []*role
	victims []*tracer.Victim
	naps    []int
}

// run carries a try out in a fresh world, and has it told when it is judged, which may be later. The error is
// one of the sweep's own; nothing is told then.
func (l *lane) run(t *try, tell func(*try)) (err error) {
	t.reached, t.findings, t.recovered = true, nil, 0
	w, err := l.newWorld(t.parts[0].op)
	if err != nil {
		l.renew()
		return fmt.Errorf("making its world: %w", err)
	}
	c := &cast{try: t, lane: l, world: w, naps: make([]int, len(t.parts))}
	err = c.play()
	for _, v := range c.victims {
		v.Kill()
	}
	if err != nil {
		if said := strings.TrimSpace(c.said()); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		w.close()
		l.renew()
		return err
	}
	if len(w.verdict().complaints) > 0 {
		l.renew()
	}
	finish := func() {
		t.recovered = w.recoveries()
		w.close()
		t.findings = w.verdict().complaints
		tell(t)
	}
	rest := w.rest()
	if rest == nil {
		finish()
		return nil
	}
	l.lingering <- struct{}{}
	l.pending.Go(func() {
		rest()
		finish()
		<-l.lingering
	})
	return nil
}

// play brings the victims to their points, and does what is to be done.
func (c *cast) play() error {
	for i, p := range c.parts {
		if err := c.bring(i, p); err != nil {
			return fmt.Errorf("%s, bringing a victim to its point: %w", p.op.name, err)
		}
	}
	if c.mode == record {
		if err := c.world.through(); err != nil {
			return err
		}
	}
	if err := c.act(); err != nil {
		return err
	}
	c.compare()
	if err := c.world.aftermath(c.roles); err != nil {
		return fmt.Errorf("after the death: %w", err)
	}
	return nil
}

// compare complains of an operation that was refused with nobody in its way, or was not although it had to be.
func (c *cast) compare() {
	if c.mode != record && c.mode != kill {
		return
	}
	r := c.roles[0]
	switch result := r.diary.result.Load(); {
	case result == refused && !r.op.refused:
		c.world.verdict().complain("the call was refused: %s", r.diary.text())
	case result == success && r.op.refused:
		c.world.verdict().complain("the call has succeeded, though it could not")
	}
}

// bring starts a victim and lets it run to its point, or records it.
func (c *cast) bring(i int, p part) error {
	r, err := c.world.cast(p.op, bySubject+uint64(i))
	if err != nil {
		return err
	}
	c.roles = append(c.roles, r)
	v, err := c.lane.tracer.Start(r.cmd)
	if err != nil {
		return err
	}
	r.started(v.PID)
	c.victims = append(c.victims, v)
	if err := v.ToBegin(); err != nil {
		return err
	}
	if i == 0 {
		if err := c.world.begins(); err != nil {
			return err
		}
	}
	if c.mode == record {
		c.trace, err = v.Record(c.onBlocked(i))
		r.whole = err == nil
		return err
	}
	reached, err := v.RunTo(p.point, c.onBlocked(i))
	if err != nil {
		return err
	}
	r.whole = !reached
	c.reached = c.reached && reached
	if reached && p.point.Kind == tracer.InSyscall && c.mode != kill {
		return v.Stop()
	}
	return nil
}

// onBlocked has the survivors let victim i go on.
func (c *cast) onBlocked(i int) func() error {
	return func() error {
		if c.naps[i]++; c.naps[i] <= c.dawdle {
			return nil
		}
		return c.world.unblock(c.naps[i] - c.dawdle)
	}
}

// act kills the victims, after they have stood and gone on as the mode says.
func (c *cast) act() error {
	switch c.mode {
	case pause:
		if c.reached {
			if err := c.stand(0); err != nil {
				return err
			}
		}
	case pairPause:
		if err := c.kill(0); err != nil {
			return err
		}
		if !c.roles[1].whole {
			if err := c.stand(1); err != nil {
				return err
			}
		}
		return c.kill(1)
	}
	for i := range c.victims {
		if err := c.kill(i); err != nil {
			return err
		}
	}
	return nil
}

// stand lets the others go on as far as they can while victim i stands, and then lets it go on.
func (c *cast) stand(i int) error {
	if err := c.world.others(c.roles[i : i+1]); err != nil {
		return fmt.Errorf("while the victim stands: %w", err)
	}
	if len(c.world.verdict().complaints) > 0 {
		return nil // it may never end
	}
	if err := c.world.goesOn(); err != nil {
		return fmt.Errorf("before the victim goes on: %w", err)
	}
	if err := c.victims[i].ToEnd(c.onBlocked(i)); err != nil {
		if len(c.world.verdict().complaints) > 0 {
			return nil
		}
		return fmt.Errorf("the victim goes on: %w", err)
	}
	c.roles[i].whole = true
	return c.world.through()
}

func (c *cast) kill(i int) error {
	if _, err := c.victims[i].Kill(); err != nil {
		return err
	}
	return c.world.died(c.roles[i])
}

// said is what the victims wrote to stderr.
func (c *cast) said() (text string) {
	for _, r := range c.roles {
		text += r.said()
	}
	return text
}
