package stress

import (
	"fmt"
	"os"
	"time"
)

// watchdog ends a run in which nothing happens any more: it gives the verdict with
// what is known, and kills the workers. What hangs is left hanging.
func (r *Run) watchdog(quit <-chan struct{}) {
	t := time.NewTicker(r.cfg.Patience / 100)
	defer t.Stop()
	last, since := r.progress(), time.Now()
	for {
		select {
		case <-quit:
			return
		case <-t.C:
		}
		if p := r.progress(); p != last {
			last, since = p, time.Now()
			continue
		}
		if quiet := time.Since(since); quiet >= r.cfg.Patience {
			r.verdict.Do(func() {
				r.book.violation("no progress for %v %s%s", quiet.Round(time.Millisecond), r.where(), r.ringState())
				r.clear()
				r.doomed <- r.result()
			})
			return
		}
	}
}

func (r *Run) progress() uint64 { return r.book.arrived.Load() + r.book.steps.Load() }

// ringState describes the ring, unless the router is too stuck to say.
func (r *Run) ringState() string {
	text := make(chan string, 1)
	go func() {
		s := r.host.main.figures()
		text <- fmt.Sprintf("; head %d, used %d of %d bytes, consumer asleep %v, waiting for room %v, between monitor and loop %d",
			s.ring.Head, s.ring.Used, s.ring.Capacity, s.ring.Sleeping, s.ring.Waiters, s.queued)
	}()
	select {
	case s := <-text:
		return s
	case <-time.After(time.Second):
		return "; the router does not answer"
	}
}

// Abandon gives the run up: there will be no verdict. When it returns no worker is
// left, and no file, and the program can exit.
func (r *Run) Abandon() {
	r.verdict.Do(func() {})
	r.clear()
}

// clear kills the workers and removes the segment's file.
func (r *Run) clear() {
	r.fleet.killAll()
	if r.cfg.Path != "" {
		os.Remove(r.cfg.Path)
	}
}
