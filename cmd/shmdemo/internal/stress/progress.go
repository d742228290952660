package stress

import (
	"fmt"
	"io"
	"time"

	"github.com/shmrouter/shmrouter/shm"
)

// How often the display is renewed: one line in place on a terminal, else a
// line of its own each time.
const (
	liveEvery  = 200 * time.Millisecond
	plainEvery = 2 * time.Second
)

// display tells how the run goes until quit is closed.
func (r *Run) display(quit <-chan struct{}) {
	w, every := r.cfg.Progress, plainEvery
	if w == nil {
		return
	}
	if r.cfg.Live {
		every = liveEvery
		defer io.WriteString(w, "\r\x1b[K")
	}
	fmt.Fprintf(w, "shmdemo: seed %d, %d workers\n", r.cfg.Seed, r.cfg.Workers)
	t := time.NewTicker(every)
	defer t.Stop()
	var before uint64
	for at := shm.Now(); ; {
		select {
		case <-quit:
			return
		case <-t.C:
		}
		now, n := shm.Now(), r.book.arrived.Load()
		rate := float64(n-before) / time.Duration(now-at).Seconds()
		before, at = n, now
		line := r.line(now, n, rate)
		if r.cfg.Live {
			fmt.Fprintf(w, "\r%s\x1b[K", line)
		} else {
			fmt.Fprintln(w, line)
		}
	}
}

func (r *Run) line(now int64, n uint64, rate float64) string {
	a := r.book.account(nil)
	text := fmt.Sprintf("%4.1fs  %-12s %s messages, %s/s, %d killed, %d stopped", time.Duration(now-r.began).Seconds(), *r.now.Load(),
		Count(n), Count(uint64(rate)), r.killer.killed.Load(), r.stopper.stopped.Load())
	if bad := a.lost + a.torn + a.duplicated + a.reordered; bad > 0 || len(a.violations) > 0 {
		text += fmt.Sprintf(", %d BAD", max(bad, uint64(len(a.violations))))
	}
	return text
}
