package speed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shmrouter/shmrouter/bench"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/router"
)

// Config says what is measured.
type Config struct {
	Duration time.Duration // no pair begins later, but in the first round
	Pairs    int           // of each question at most, 0 for no limit
	Each     time.Duration // of a run; a pair is two of them
	Free     bool          // the kernel places all processes
	Rows     []string      // only these

	Progress io.Writer // may be nil
	Live     bool      // Progress is a terminal
}

// question is one cell of the table: a row against one rival.
type question struct {
	row   row
	rival bench.Transport
	bout  *bench.Bout // from the first pair on
}

// run is a table in the making.
type run struct {
	cfg       Config
	pinned    bool
	notes     []string
	questions []*question

	crews  map[int]*bench.Crew // by number of senders
	walks  map[ring.Waiting]*bench.Walk
	funnel *bench.Funnel

	began time.Time
	now   atomic.Pointer[string]
	done  atomic.Int64 // pairs
	mu    sync.Mutex
}

// Run measures until the time is over or ctx ends, which is no failure. What goes wrong is in the Result.
func Run(ctx context.Context, cfg Config) *Result {
	r := &run{cfg: cfg, crews: map[int]*bench.Crew{}, walks: map[ring.Waiting]*bench.Walk{}, began: time.Now()}
	r.look()
	quit := r.display()
	err := r.measure(ctx)
	err = errors.Join(err, r.close())
	quit()
	return r.result(err, ctx.Err() != nil)
}

// look finds out what this machine permits.
func (r *run) look() {
	cannot := bench.CanPin()
	_, second := bench.TwoCPUs()
	alone := second < 0 || runtime.GOMAXPROCS(0) < 2
	r.pinned = !r.cfg.Free && cannot == nil && !alone
	note := func(format string, args ...any) { r.notes = append(r.notes, fmt.Sprintf(format, args...)) }
	if alone {
		note("There is only one processor: both sides take turns on it, nothing spins, and there is no floor.")
	}
	if cannot != nil && !alone {
		note("Processes cannot be pinned (%v): the kernel places them, and there is no floor.", cannot)
	}
	if q := bench.Quota(); q > 0 && q < 3 {
		note("There is a quota of %.3g processors: who has used it up waits for the next period, and that is in the figures.", q)
	}
	for _, row := range rows {
		if len(r.cfg.Rows) > 0 && !slices.Contains(r.cfg.Rows, row.name) {
			continue
		}
		if row.spins() && alone {
			note("Left out, since two that spin take two processors: %s.", row.title)
			continue
		}
		for _, rival := range row.rivals {
			r.questions = append(r.questions, &question{row: row, rival: rival})
		}
	}
}

// measure goes round and round. On a machine that is too busy for one round in the time, a quarter more is given to it.
func (r *run) measure(ctx context.Context) error {
	for round := 0; r.cfg.Pairs == 0 || round < r.cfg.Pairs; round++ {
		limit := r.cfg.Duration
		if round == 0 {
			limit += limit / 4
		}
		for i, q := range r.questions {
			switch {
			case ctx.Err() != nil:
				return nil
			case time.Since(r.began) >= limit:
				if round == 0 {
					r.notes = append(r.notes, fmt.Sprintf("The time was over before %d of %d questions were asked.", len(r.questions)-i, len(r.questions)))
				}
				return nil
			}
			title := fmt.Sprintf("%s, beside %s", q.row.title, rivalName(q.rival, q.row.walk))
			r.now.Store(&title)
			if err := r.ask(q); err != nil {
				return fmt.Errorf("%s: %w", title, err)
			}
			r.done.Add(1)
		}
		if len(r.questions) == 0 {
			return nil
		}
	}
	return nil
}

// verified is how many messages of a question are checked byte by byte, before the first pair.
const verified = 500

func (r *run) ask(q *question) (err error) {
	if q.bout == nil {
		bout, err := r.newBout(q)
		if err != nil {
			return err
		}
		if err := bout.Verify(verified); err != nil {
			return err
		}
		r.mu.Lock()
		q.bout = bout
		r.mu.Unlock()
	}
	return q.bout.Pair()
}

func (r *run) newBout(q *question) (*bench.Bout, error) {
	crew, err := r.crew(q.row.senders)
	if err != nil {
		return nil, err
	}
	ask, each := q.row.ask, q.row.each(r.cfg.Each)
	if !q.row.walk {
		ask.Ours, ask.Theirs = bench.Ring, q.rival
		return crew.NewBout(ask, each)
	}
	walk, err := r.walk(q.row)
	if err != nil {
		return nil, err
	}
	if r.funnel == nil {
		if r.funnel, err = bench.StartFunnel(q.row.senders); err != nil {
			return nil, err
		}
	}
	o := bench.Order{Size: ask.Size, Rate: ask.Rate}
	if ask.Rate > 0 {
		return bench.NewBoutOf(crew.Floor, bench.Side{Run: walk.Paced, Order: o}, bench.Side{Run: r.funnel.Paced, Order: o}, bench.MedianLatency, each)
	}
	ours, theirs := bench.Side{Run: bench.Unpaced(walk.Run), Order: o}, bench.Side{Run: bench.Unpaced(r.funnel.Run), Order: o}
	return bench.NewBoutOf(crew.Floor, ours, theirs, bench.PerMessage, each)
}

func (r *run) crew(senders int) (c *bench.Crew, err error) {
	if c = r.crews[senders]; c == nil {
		if c, err = bench.StartCrew(bench.CrewOptions{Senders: senders, Pinned: r.pinned}); err != nil {
			return nil, err
		}
		r.crews[senders] = c
	}
	return c, nil
}

func (r *run) walk(row row) (w *bench.Walk, err error) {
	if w = r.walks[row.waiting]; w == nil {
		if w, err = bench.StartWalk(row.senders, router.WithWaiting(row.waiting)); err != nil {
			return nil, err
		}
		r.walks[row.waiting] = w
	}
	return w, nil
}

// close ends all processes.
func (r *run) close() (err error) {
	for _, c := range r.crews {
		c.Close()
	}
	if r.funnel != nil {
		err = r.funnel.Close()
	}
	for _, w := range r.walks {
		err = errors.Join(err, w.Close())
	}
	return err
}
