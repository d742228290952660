package sweep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/tracer"
)

// Config says what is swept.
type Config struct {
	Operations []string // by name; none: all
	Sample     int      // points of each operation, at most, 0: every one
	NoPause    bool     // only kill
	Pairs      int      // tries with two victims
	Lanes      int      // at the same time
	Seed       uint64
	Patience   time.Duration // how long the survivors have to get on
	GiveUp     int           // after so many points with violations, 0: never
	Progress   io.Writer     // nil: silence
	Live       bool          // it is a terminal
}

// Exported errors of the tracer: there is no sweep here.
var (
	ErrNotPermitted = tracer.ErrNotPermitted
	ErrUnsupported  = tracer.ErrUnsupported
)

// patience is how long the survivors have to get on. Nothing comes near it unless it is stuck.
var patience = 10 * time.Second

// sweep is one run.
type sweep struct {
	cfg    Config
	ops    []*account
	random *rand.Rand
	began  time.Time
	now    atomic.Pointer[string] // what it is doing
	total  atomic.Int64           // tries
	done   atomic.Int64

	mu         sync.Mutex
	violations []Violation
	bad        int // points with violations
	pairs      Pairs
	fatal      error // the sweep cannot go on
}

// account is what is known about one operation.
type account struct {
	op     *operation
	traces []tracer.Trace
	points []tracer.Point // in all of the recordings
	rare   []tracer.Point // only in some

	Counts     // guarded by mu of sweep
	violations int
	unstopped  int // of the rare ones: no victim came there to be stopped
}

// records is how often an operation is recorded. What is not the same each time depends on more than the
// operation: on what the machine does meanwhile, as where a sleep with a time limit ends by itself.
const records = 3

// Run sweeps. The error says why it could not; a violation is no error.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if cfg.Patience > 0 {
		patience = cfg.Patience
	}
	s := &sweep{cfg: cfg, began: time.Now(), random: rand.New(rand.NewPCG(cfg.Seed, 1))}
	for _, o := range operations {
		if len(cfg.Operations) == 0 || slices.Contains(cfg.Operations, o.name) {
			s.ops = append(s.ops, &account{op: o})
		}
	}
	quit := s.display()
	defer quit()
	lanes, err := s.open()
	if err != nil {
		return nil, err
	}
	lanes.do(ctx, "recording", s.recording())
	lanes.do(ctx, "sweeping", s.sweeping())
	lanes.do(ctx, "pairs", s.pairing())
	lanes.close()
	if s.fatal != nil {
		return nil, s.fatal
	}
	return s.result(ctx.Err() == nil), nil
}

// enough tells whether to give up.
func (s *sweep) enough() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fatal != nil || s.cfg.GiveUp > 0 && s.bad >= s.cfg.GiveUp
}

// recording records each operation. The longest come first, so that the lanes end together.
func (s *sweep) recording() (jobs []job) {
	long := []string{"sender-start", "attach", "takeover", "create"}
	order := slices.Clone(s.ops)
	slices.SortStableFunc(order, func(a, b *account) int {
		rank := func(a *account) int { return (slices.Index(long, a.op.name) + len(long) + 1) % (len(long) + 1) }
		return rank(a) - rank(b)
	})
	for _, a := range order {
		times := records
		if s.cfg.Sample > 0 {
			times = 2
			if slices.Contains(long, a.op.name) {
				times = 1
			}
		}
		for range times {
			jobs = append(jobs, func(l *lane) {
				s.attempt(l, a, &try{mode: record, parts: []part{{op: a.op}}}, func(t *try) {
					a.traces = append(a.traces, t.trace)
				})
			})
		}
	}
	return jobs
}

// sweeping makes a job of each point, or of a sample.
func (s *sweep) sweeping() (jobs []job) {
	for _, a := range s.ops {
		common := tracer.Common(a.traces...)
		a.points = common.Points
		a.Points = len(common.Points) + len(common.Dropped)
		killed, stopped := a.points, a.points
		if s.cfg.Sample > 0 {
			killed = s.some(a.points, s.cfg.Sample)
			stopped = s.some(killed, s.cfg.Sample/3)
		} else {
			a.rare = common.Dropped
		}
		a.Sampled = len(killed) + len(a.rare)
		jobs = append(jobs, s.each(a, kill, killed)...)
		if !s.cfg.NoPause {
			jobs = append(jobs, s.each(a, pause, stopped)...)
		}
	}
	return jobs
}

// some draws n points, spread evenly, or all if there are no more.
func (s *sweep) some(points []tracer.Point, n int) (drawn []tracer.Point) {
	if n >= len(points) {
		return points
	}
	for i := range n {
		drawn = append(drawn, points[(i*len(points)+s.random.IntN(len(points)))/n])
	}
	return drawn
}

// each makes jobs of an operation's points, and of the rare ones too.
func (s *sweep) each(a *account, m mode, points []tracer.Point) (jobs []job) {
	for i, p := range slices.Concat(points, a.rare) {
		jobs = append(jobs, func(l *lane) {
			if m == kill {
				s.mu.Lock()
				a.Tried++
				s.mu.Unlock()
			}
			s.attempt(l, a, &try{mode: m, rare: i >= len(points), parts: []part{{a.op, p}}}, func(t *try) {
				if m == kill {
					a.Killed++
				} else {
					a.Stopped++
				}
			})
		})
	}
	return jobs
}

// pairing makes jobs of two victims each, at points by chance.
func (s *sweep) pairing() (jobs []job) {
	var firsts, seconds []*account
	for _, a := range s.ops {
		if len(a.points) == 0 {
			continue
		}
		if a.op.pairs&asFirst != 0 {
			firsts = append(firsts, a)
		}
		if a.op.pairs&asSecond != 0 {
			seconds = append(seconds, a)
		}
	}
	if len(firsts) == 0 || len(seconds) == 0 {
		return nil
	}
	for i := range s.cfg.Pairs {
		a, b := firsts[s.random.IntN(len(firsts))], seconds[s.random.IntN(len(seconds))]
		m := pairKill
		if i%2 == 1 && !s.cfg.NoPause {
			m = pairPause
		}
		t := &try{mode: m, parts: []part{{a.op, a.points[s.random.IntN(len(a.points))]}, {b.op, b.points[s.random.IntN(len(b.points))]}}}
		jobs = append(jobs, func(l *lane) { s.attempt(l, a, t, s.paired) })
	}
	return jobs
}

// paired counts a try with two victims, with mu held.
func (s *sweep) paired(t *try) {
	s.pairs.Tried++
	if t.reached {
		s.pairs.Reached++
	} else {
		s.pairs.Missed++
	}
}

// How often a try is made again: because the victim does not come to its point, as where that depends on whether
// somebody was asleep at that moment, or because the tracer has failed.
const (
	misses   = 12 // three of each length of wait
	failures = 8
)

// attempt carries a try out until each victim has come to its point. good is called with mu held.
func (s *sweep) attempt(l *lane, a *account, t *try, good func(*try)) {
	var failed error
	for missed, errs := 0, 0; missed < misses && errs < failures; {
		err := l.run(t, func(t *try) { s.judged(a, t, good) })
		switch {
		case errors.Is(err, ErrNotPermitted):
			s.mu.Lock()
			s.fatal = ErrNotPermitted // for whichever operation that was: it says all there is to say
			s.mu.Unlock()
			return
		case err != nil:
			failed = err
			errs++
		case t.reached || t.mode >= pairKill:
			return
		default:
			missed++
		}
		again := *t // the old one may still be judged
		t = &again
		// Single steps are slow: what was recorded may be what a victim does that had to wait for long.
		t.dawdle = missed % 4
		t.parts = slices.Clone(t.parts)
		for i := range t.parts {
			// The last pass of a loop may come earlier now, where its length depends on what is read or on the
			// time: the text in /proc/self/stat, for one, gets longer as a process gets older.
			if p := &t.parts[i].point; p.Last && p.Pass > 2 && missed%2 == 0 {
				p.Pass--
			}
		}
	}
	if failed == nil && t.rare {
		s.mu.Lock()
		defer s.mu.Unlock()
		if t.mode == kill {
			a.Dropped++
		} else {
			a.unstopped++
		}
		return
	}
	if failed == nil {
		failed = errors.New("no victim came to it")
	}
	s.violate(a, t, "the sweep itself: "+failed.Error())
}

// judged takes a try's result.
func (s *sweep) judged(a *account, t *try, good func(*try)) {
	s.violate(a, t, t.findings...)
	s.mu.Lock()
	defer s.mu.Unlock()
	a.Recovered += t.recovered
	if t.reached || t.mode >= pairKill {
		good(t)
	}
}

func (s *sweep) violate(a *account, t *try, findings ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, what := range findings {
		a.violations++
		v := Violation{Operation: a.op.name, Point: t.where(), What: what}
		s.violations = append(s.violations, v)
		if s.cfg.Progress != nil && !s.cfg.Live {
			fmt.Fprintf(s.cfg.Progress, "VIOLATION: %v\n", v)
		}
	}
	if len(findings) > 0 && t.mode != record {
		s.bad++
	}
}

// where names the points of a try, and what was done there.
func (t *try) where() (text string) {
	switch t.mode {
	case record:
		return "to its end"
	case kill:
		text = "killed at "
	case pause:
		text = "stopped at "
	case pairKill:
		return fmt.Sprintf("killed at %v; and %s killed at %v", t.parts[0].point, t.parts[1].op.name, t.parts[1].point)
	case pairPause:
		return fmt.Sprintf("killed at %v, while %s stands at %v", t.parts[0].point, t.parts[1].op.name, t.parts[1].point)
	}
	return text + t.parts[0].point.String()
}
