package sweep

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// How often the display is renewed: in place on a terminal, else by a line of its own.
const (
	liveEvery  = 200 * time.Millisecond
	plainEvery = 10 * time.Second
	barWidth   = 30
)

// display tells how far the sweep has come until the function that it returns is called.
func (s *sweep) display() (quit func()) {
	w, every := s.cfg.Progress, plainEvery
	if w == nil {
		return func() {}
	}
	if s.cfg.Live {
		every = liveEvery
	}
	fmt.Fprintf(w, "shmdemo: seed %d, %d operations, %d lanes\n", s.cfg.Seed, len(s.ops), s.cfg.Lanes)
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-ended:
				if s.cfg.Live {
					io.WriteString(w, "\r\x1b[K")
				}
				return
			case <-t.C:
			}
			if s.cfg.Live {
				fmt.Fprintf(w, "\r%s\x1b[K", s.line())
			} else {
				fmt.Fprintln(w, s.line())
			}
		}
	})
	return func() {
		close(ended)
		wg.Wait()
	}
}

func (s *sweep) line() string {
	what, total, done := s.now.Load(), s.total.Load(), s.done.Load()
	if what == nil || total == 0 {
		return "starting"
	}
	full := int(done * barWidth / total)
	text := fmt.Sprintf("%5.0fs  %-9s  %s%s  %d of %d", time.Since(s.began).Seconds(), *what,
		strings.Repeat("█", full), strings.Repeat("░", barWidth-full), done, total)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.violations); n > 0 {
		text += fmt.Sprintf(", %d VIOLATIONS", n)
	}
	return text
}
