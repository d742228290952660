package sweep

import (
	"context"
	"sync"
	"sync/atomic"
)

// job is something that a lane does.
type job func(l *lane)

// crew are the lanes, each with its goroutine, which ends with the sweep.
type crew struct {
	s    *sweep
	jobs []chan func(*lane)
	wg   sync.WaitGroup
}

func (s *sweep) open() (*crew, error) {
	c := &crew{s: s}
	opened := make(chan error, s.cfg.Lanes)
	for i := range s.cfg.Lanes {
		jobs := make(chan func(*lane))
		c.jobs = append(c.jobs, jobs)
		c.wg.Go(func() {
			l, err := newLane(i, mix(s.cfg.Seed+uint64(i)))
			opened <- err
			if err != nil {
				return
			}
			for j := range jobs {
				j(l)
			}
			l.close()
		})
	}
	var failed error // of one lane: the others hardly have other reasons
	for range s.cfg.Lanes {
		if err := <-opened; err != nil {
			failed = err
		}
	}
	if failed != nil {
		c.close()
		return nil, failed
	}
	return c, nil
}

func (c *crew) close() {
	for _, jobs := range c.jobs {
		close(jobs)
	}
	c.wg.Wait()
}

// do has the lanes do all the jobs, each the next one that is left.
func (c *crew) do(ctx context.Context, what string, jobs []job) {
	c.s.now.Store(&what)
	c.s.total.Store(int64(len(jobs)))
	c.s.done.Store(0)
	var next atomic.Int64
	var wg sync.WaitGroup
	for _, jobsOf := range c.jobs {
		wg.Add(1)
		jobsOf <- func(l *lane) {
			defer wg.Done()
			for ctx.Err() == nil && !c.s.enough() {
				i := next.Add(1) - 1
				if i >= int64(len(jobs)) {
					break
				}
				jobs[i](l)
				c.s.done.Add(1)
			}
			l.pending.Wait()
		}
	}
	wg.Wait()
}
