package router

import (
	"errors"
	"fmt"
	"time"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// trouble deals with an error of Poll or Wait. Damage is stepped over; what is
// beyond that ends every pipe. Either way the monitor lives, and Stop works.
func (m *monitor) trouble(err error) {
	n := m.n
	switch {
	case errors.Is(err, ring.ErrCorrupt):
		n.count.damages.Add(1)
		m.resynced = true
		skipped, resyncErr := m.cons.Resync()
		if resyncErr != nil {
			m.giveUp(resyncErr)
		}
		// Somebody may go on spoiling it: neither the log nor a processor is
		// theirs.
		more, ok := n.damageLog.allow()
		if ok {
			n.log.Error("damage in the segment", "error", err, "skipped granules", skipped, "unreported", more)
			return
		}
		m.pause()
	case errors.Is(err, shm.ErrFault):
		m.giveUp(err)
	default:
		// The kernel would not say who is alive. That may pass.
		if more, ok := n.hinderLog.allow(); ok {
			n.log.Error("monitor is hindered", "error", err, "unreported", more)
		}
		m.pause()
	}
}

// pause keeps the monitor from spinning on what does not get better.
func (m *monitor) pause() {
	select {
	case <-time.After(10 * time.Millisecond):
	case <-m.n.stopping:
	}
}

func (m *monitor) giveUp(err error) {
	n := m.n
	n.log.Error("segment is damaged beyond repair", "error", err)
	n.broken.Store(true)
	end := fmt.Errorf("%w: %w", ErrBroken, err)
	n.pipes.each(func(rcv *Receiver) { m.queueEnd(rcv, end) })
}
