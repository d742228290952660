package soak

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/stress"
)

// arena is one router, and the runs on it.
type arena struct {
	name     string
	cfg      stress.Config
	crowd    int  // workers in an epoch of the crowd; 0: as ever
	restarts bool // the router is stopped between two epochs
	killed   bool // the main process is another one, which is killed and resumed
	host     *stress.Host
	total    Arena

	mu  sync.Mutex
	now *stress.Run // under way
}

// crowd is how many workers there are now and then: nearly as many as a ring has slots.
const crowd = 200

// newArenas makes the arenas of a soak.
func (s *Soak) newArenas() (err error) {
	base := stress.Config{Soak: true, Patience: s.cfg.Patience, KillEvery: 60 * time.Millisecond, StopEvery: min(700*time.Millisecond, s.cfg.epoch()/4)}
	memory, small, named := base, base, base
	memory.Workers, memory.Capacity = 6, 4<<20
	small.Workers, small.Capacity = 4, 64<<10
	named.Workers, named.Capacity, named.Path = 4, 1<<20, filepath.Join(s.dir, "segment")
	named.Sizes = stress.Sizes{Given: true, Min: 32, Max: 1 << 17} // one frame, and every message says its number
	s.arenas = []*arena{
		{name: "memory", cfg: memory, crowd: crowd},
		{name: "small", cfg: small, restarts: true},
		{name: "named", cfg: named, restarts: true, killed: true},
	}
	for _, a := range s.arenas {
		a.total = newArena(a.name)
		if a.killed {
			continue // each epoch begins elsewhere
		}
		if a.host, err = stress.NewHost(a.cfg); err == nil && !a.restarts {
			err = a.host.Start()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// run carries out one run. The result says what was wrong.
func (a *arena) run(ctx context.Context, length time.Duration, seed uint64, crowded bool) (violations []string) {
	cfg := a.cfg
	cfg.Seed, cfg.Host, cfg.Duration = seed, a.host, length
	if crowded && a.crowd > 0 {
		cfg.Workers, cfg.KillEvery = a.crowd, cfg.KillEvery/2
	}
	if a.killed {
		a.host = stress.NewKilledHost(cfg, far[seed>>32%uint64(len(far))])
		cfg.Host = a.host
	}
	if a.restarts {
		if err := a.host.Start(); err != nil {
			return []string{err.Error()}
		}
	}
	r, err := stress.New(cfg)
	if err != nil {
		return []string{err.Error()}
	}
	a.set(r)
	res := r.Do(ctx)
	a.set(nil)
	a.total.add(res, r.Extra())
	violations = res.Violations
	if a.restarts && res.OK {
		violations = append(violations, a.host.Stop()...)
	}
	return violations
}

func (a *arena) set(r *stress.Run) {
	a.mu.Lock()
	a.now = r
	a.mu.Unlock()
}

// under returns the run under way, or nil.
func (a *arena) under() *stress.Run {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now
}

func (a *arena) complain(epoch int, violations []string) (all []string) {
	for _, v := range violations {
		all = append(all, fmt.Sprintf("epoch %d, %s: %s", epoch, a.name, v))
	}
	return all
}

// far are positions at which the ring of the named segment begins, in granules: the end of the first lap, and
// places at which one of the counters in the words begins again.
var far = []uint64{
	0,
	1<<14 - 3,
	1<<28 - 5,
	1<<32 - 7,
	(1<<30-1)<<14 - 3,
	1<<45 + 12345,
}
