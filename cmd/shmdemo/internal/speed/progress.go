package speed

import (
	"fmt"
	"time"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/report"
)

// display tells how far the run has come until the function that it returns is called. Rarely, because the measurements need
// the processors.
func (r *run) display() (quit func()) {
	return report.Progress(r.cfg.Progress, r.cfg.Live, 500*time.Millisecond, r.line)
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
	return fmt.Sprintf("%4.0fs  %s  %d pairs  %s", took.Seconds(), report.Bar(share), done, *what)
}
