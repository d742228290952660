package speed

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// How often the display is renewed: in place on a terminal, else by a line of its own. Rarely, because the measurements need
// the processors.
const (
	liveEvery  = 500 * time.Millisecond
	plainEvery = 10 * time.Second
	barWidth   = 30
)

// display tells how far the run has come until the function that it returns is called.
func (r *run) display() (quit func()) {
	w, every := r.cfg.Progress, plainEvery
	if w == nil {
		return func() {}
	}
	if r.cfg.Live {
		every = liveEvery
	}
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-ended:
				if r.cfg.Live {
					io.WriteString(w, "\r\x1b[K")
				}
				return
			case <-t.C:
			}
			if r.cfg.Live {
				fmt.Fprintf(w, "\r%s\x1b[K", r.line())
			} else {
				fmt.Fprintln(w, r.line())
			}
		}
	})
	return func() {
		close(ended)
		wg.Wait()
	}
}

func (r *run) line() string {
	what := r.now.Load()
	if what == nil {
		return "starting"
	}
	took, done := time.Since(r.began), r.done.Load()
	share := 1.0
	if r.cfg.Duration > 0 {
		share = min(1, took.Seconds()/r.cfg.Duration.Seconds())
	}
	if all := int64(r.cfg.Pairs * len(r.questions)); all > 0 {
		share = max(share, float64(done)/float64(all))
	}
	if first := int64(len(r.questions)); done < first { // each question gets a pair
		share = min(share, float64(done)/float64(first))
	}
	full := int(share * barWidth)
	return fmt.Sprintf("%4.0fs  %s%s  %d pairs  %s", took.Seconds(), strings.Repeat("█", full), strings.Repeat("░", barWidth-full), done, *what)
}
