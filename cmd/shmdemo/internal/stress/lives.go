package stress

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/shmrouter/shmrouter/shm"
)

// Time between two deaths of the main process, and until the next life, at most.
const (
	lifeMost = 1500 * time.Millisecond
	gapMost  = 60 * time.Millisecond
)

// kill ends lives and begins others until ctx ends: one in four in order.
func (e *elsewhere) kill(ctx context.Context, r *Run) {
	rnd := rand.New(rand.NewPCG(r.cfg.Seed, saltMain))
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(rnd.Int64N(int64(lifeMost)))):
		}
		l := e.present()
		if l == nil {
			r.book.violation("the main process is gone by itself")
			return
		}
		e.meter.stops.Add(1) // nobody receives: what is measured meanwhile is put apart
		if rnd.IntN(4) == 0 {
			if err := e.end(); err != nil {
				r.book.violation("the main process, asked to stop: %v", err)
			}
			e.stopped.Add(1)
		} else {
			l.cmd.Process.Kill()
			<-l.over
			e.killed.Add(1)
		}
		time.Sleep(time.Duration(rnd.Int64N(int64(gapMost))))
		err := e.begin()
		e.meter.stopEnd.Store(shm.Now())
		e.meter.stops.Add(-1)
		if err != nil {
			r.book.violation("resuming: %v", err)
			return
		}
	}
}
