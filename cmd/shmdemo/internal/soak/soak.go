package soak

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/stress"
)

// Config is what a soak is asked to do.
type Config struct {
	Duration time.Duration
	Epochs   int           // at least so many, even if it takes longer
	Seed     uint64        // 0: a new one
	Dir      string        // for the named segment; the soak makes a directory there, and removes it
	Patience time.Duration // without progress for so long, of all or of one, it has failed
	Progress io.Writer     // where to tell how it goes; nil: nowhere
	Live     bool          // on one line of a terminal
	Crowded  bool          // every epoch has the crowd
}

// Soak is one soak.
type Soak struct {
	cfg    Config
	dir    string
	arenas []*arena
	began  time.Time

	mu         sync.Mutex // for what the display reads
	epoch      int
	crowded    bool
	violations []string

	orphans orphans
	rests   []Sample
	windows []Window
}

// New prepares a soak. An error wraps stress.ErrConfig, or is that of the directory.
func New(cfg Config) (*Soak, error) {
	if cfg.Seed == 0 {
		cfg.Seed = 1 + rand.Uint64N(1<<32)
	}
	s := &Soak{cfg: cfg}
	if err := adopt(); err != nil {
		return nil, fmt.Errorf("%w: adopting orphans: %w", stress.ErrConfig, err)
	}
	var err error
	if s.dir, err = os.MkdirTemp(cfg.Dir, "shmdemo-soak-"); err != nil {
		return nil, fmt.Errorf("%w: %w", stress.ErrConfig, err)
	}
	if err = s.newArenas(); err != nil {
		os.RemoveAll(s.dir)
		return nil, err
	}
	return s, nil
}

// An epoch's length: so that there are some twelve, within bounds.
const (
	Epochs     = 12
	EpochLeast = 700 * time.Millisecond
	EpochMost  = time.Minute
)

// When there is the crowd.
const (
	crowdFrom  = 15 * time.Second // a shorter soak has none
	crowdEvery = 6                // epochs
)

func (cfg Config) epoch() time.Duration { return min(max(cfg.Duration/Epochs, EpochLeast), EpochMost) }

// Do carries out the soak, once. It ends early, and in order, with ctx, and after the first epoch in
// which something was wrong: what is broken would only be broken again.
func (s *Soak) Do(ctx context.Context) *Result {
	s.began = time.Now()
	quit := make(chan struct{})
	var shown sync.WaitGroup
	shown.Go(func() { s.display(quit) })
	for k := 0; ctx.Err() == nil && len(s.violations) == 0 && (k < s.cfg.Epochs || time.Since(s.began) < s.cfg.Duration); k++ {
		s.work(ctx, k)
		if len(s.violations) == 0 {
			s.rests = append(s.rests, s.rested())
		}
	}
	sound := len(s.violations) == 0
	if sound { // or a router may hang
		for _, a := range s.arenas {
			if !a.restarts {
				s.complain(a.complain(s.epoch, a.host.Stop()))
			}
		}
	}
	res := s.result()
	if left := entries(s.dir); sound && left > 0 {
		res.violate(fmt.Sprintf("%d files are left in the directory", left))
	}
	os.RemoveAll(s.dir)
	close(quit)
	shown.Wait()
	return res
}

// work is one epoch up to the rest.
func (s *Soak) work(ctx context.Context, k int) {
	crowded := s.cfg.Crowded || s.cfg.Duration >= crowdFrom && k%crowdEvery == 1
	s.mu.Lock()
	s.epoch, s.crowded = k, crowded
	s.mu.Unlock()
	length := s.cfg.epoch()
	w := Window{Epoch: k, Crowd: crowded}
	stop := make(chan struct{})
	var sampling, runs sync.WaitGroup
	sampling.Go(func() { s.watch(&w, length, stop) })
	for i, a := range s.arenas {
		runs.Go(func() {
			s.complain(a.complain(k, a.run(ctx, length, s.cfg.Seed+uint64(k)<<32+uint64(i)<<24, crowded)))
		})
	}
	runs.Wait()
	close(stop)
	sampling.Wait()
	s.windows = append(s.windows, w)
}

// watch takes samples once everybody has begun, until the workers are to end.
func (s *Soak) watch(w *Window, length time.Duration, stop <-chan struct{}) {
	every := min(max(length/20, 30*time.Millisecond), 500*time.Millisecond)
	t := time.NewTicker(every)
	defer t.Stop()
	for begun := time.Now(); ; {
		select {
		case <-stop:
			return
		case <-t.C:
		}
		v := s.sample() // in any case: it waits for orphans
		if at := time.Since(begun); length/4 < at && at < length {
			w.add(v)
		}
	}
}

func (s *Soak) complain(violations []string) {
	s.mu.Lock()
	s.violations = append(s.violations, violations...)
	s.mu.Unlock()
}

// Abandon gives the soak up without a verdict: when it returns no worker is left, and
// no file.
func (s *Soak) Abandon() {
	for _, a := range s.arenas {
		if r := a.under(); r != nil {
			r.Abandon()
		}
	}
	os.RemoveAll(s.dir)
}

// display tells how it goes until quit is closed.
func (s *Soak) display(quit <-chan struct{}) {
	w, every := s.cfg.Progress, 10*time.Second
	if w == nil {
		return
	}
	if s.cfg.Live {
		every = 250 * time.Millisecond
		defer io.WriteString(w, "\r\x1b[K")
	}
	fmt.Fprintf(w, "shmdemo: soak of %v, seed %d\n", s.cfg.Duration, s.cfg.Seed)
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-quit:
			return
		case <-t.C:
		}
		if line := s.line(); s.cfg.Live {
			fmt.Fprintf(w, "\r%s\x1b[K", line)
		} else {
			fmt.Fprintln(w, line)
		}
	}
}

func (s *Soak) line() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := time.Since(s.began)
	text := fmt.Sprintf("%3.0f%% %v  epoch %d", min(100, 100*at.Seconds()/s.cfg.Duration.Seconds()), at.Round(time.Second), s.epoch)
	if s.crowded {
		text += " (crowd)"
	}
	for _, a := range s.arenas {
		n, killed := a.total.progress()
		if r := a.under(); r != nil {
			now, k := r.Progress()
			n, killed = n+now, killed+k
		}
		text += fmt.Sprintf("  %s %.4gM, %d killed", a.name, float64(n)/1e6, killed)
	}
	if len(s.violations) > 0 {
		text += fmt.Sprintf(", %d BAD", len(s.violations))
	}
	return text
}
