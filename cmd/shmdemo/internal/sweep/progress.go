package sweep

import (
	"fmt"
	"time"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/report"
)

// display tells how far the sweep has come until the function that it returns is called.
func (s *sweep) display() (quit func()) {
	if w := s.cfg.Progress; w != nil {
		fmt.Fprintf(w, "shmdemo: seed %d, %d operations, %d lanes\n", s.cfg.Seed, len(s.ops), s.cfg.Lanes)
	}
	return report.Progress(s.cfg.Progress, s.cfg.Live, 200*time.Millisecond, s.line)
}

func (s *sweep) line() string {
	what, total, done := s.now.Load(), s.total.Load(), s.done.Load()
	if what == nil || total == 0 {
		return "starting"
	}
	text := fmt.Sprintf("%5.0fs  %-9s  %s  %d of %d", time.Since(s.began).Seconds(), *what, report.Bar(float64(done)/float64(total)), done, total)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.violations); n > 0 {
		text += fmt.Sprintf(", %d VIOLATIONS", n)
	}
	return text
}
