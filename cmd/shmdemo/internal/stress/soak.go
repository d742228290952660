package stress

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"github.com/shmrouter/shmrouter/ring"
)

// What a soak does besides: workers come in bursts and fall silent, stop by themselves, and
// run programs; pipes come and go; the figures are read all the time; and
// everybody has to get on, not just somebody.

// soak adds to the trouble of the stress.
func (r *Run) soak(ctx context.Context, wg *sync.WaitGroup) {
	switch h := r.host.main.(type) {
	case *here:
		wg.Go(func() { r.churn.run(ctx, r, h) })
	case *elsewhere:
		h.mu.Lock()
		h.trouble = func(text string) { r.book.violation("%s", text) }
		h.mu.Unlock()
		wg.Go(func() { h.kill(ctx, r) })
	}
	wg.Go(func() { r.readFigures(ctx) })
	wg.Go(func() { r.seeProgress(ctx) })
}

// enough reports whether so much has happened that a run was worth it: on a busy machine its
// time may be over before.
func (r *Run) enough() bool {
	if r.killer.killed.Load() < 2 || r.book.arrived.Load() < 100 {
		return false
	}
	switch h := r.host.main.(type) {
	case *here:
		return r.churn.pipes.Load() >= 8
	case *elsewhere:
		return h.killed.Load()+h.stopped.Load() > 0
	}
	return true
}

// readFigures reads what the router tells of itself, and looks whether it can be.
func (r *Run) readFigures(ctx context.Context) {
	var before figures
	for ctx.Err() == nil {
		f := r.host.main.figures()
		switch s := f.ring; {
		case s.Capacity == 0: // nobody is there to ask
		case s.Used < 0 || s.Used > s.Capacity:
			r.book.violation("stats: %d of %d bytes used", s.Used, s.Capacity)
			return
		case int64(s.Head-before.ring.Head) < 0 || f.skippedDead < before.skippedDead:
			r.book.violation("stats: head %d after %d, %d claims skipped after %d", s.Head, before.ring.Head, f.skippedDead, before.skippedDead)
			return
		default:
			before = f
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// overdue reports whether a worker that has been waiting while so many granules went through the ring should have
// sent. Whoever has waited long takes the turn when it is free, which is at most once for each quarter of the ring,
// and no order is kept among them: so of n workers one gets it with a chance of 1 in n each time. In 16 times as many
// quarters as there are workers nobody goes without, however little of the processors each of them gets.
func overdue(granules uint64, workers int, capacity int64) bool {
	return granules*ring.Granule >= 16*uint64(workers)*uint64(capacity/4)
}

// seeProgress complains about each worker that does not get on although it is neither stopped nor killed, for as
// long as patience and for as much traffic as makes it overdue. One that waits for good in a crowd, where that is a
// lot, is seen when everybody is to pause.
func (r *Run) seeProgress(ctx context.Context) {
	type state struct {
		acked uint64
		since time.Time
		head  uint64
		told  bool
	}
	states := map[*member]*state{}
	var head uint64
	for ctx.Err() == nil {
		if s := r.host.main.figures().ring; s.Capacity != 0 { // else nobody is there to ask
			head = s.Head
		}
		next := map[*member]*state{}
		for _, m := range r.fleet.present() {
			var acked uint64
			m.note(func(p *diaryPage) { acked = p.acked.Load() })
			s := states[m]
			if s == nil || acked != s.acked || m.isStopped.Load() || m.killed.Load() {
				s = &state{acked: acked, since: time.Now(), head: head}
			}
			if next[m] = s; !s.told && time.Since(s.since) >= r.cfg.Patience && overdue(head-s.head, r.cfg.Workers, r.cfg.Capacity) {
				s.told = true
				r.book.violation("worker %d.%d has sent nothing for %v, while %d bytes went through the ring, behind message %d, %s%s",
					m.seat, m.incarnation, r.cfg.Patience, (head-s.head)*ring.Granule, acked, m.state(), r.ringState())
			}
		}
		states = next
		select {
		case <-ctx.Done():
		case <-time.After(r.cfg.Patience / 20):
		}
	}
}

// character is what a worker of a soak is like, by seat and incarnation.
type character struct {
	Bursts bool   // sends many at once, then nothing for a while
	Forks  bool   // runs programs meanwhile
	Life   uint64 // messages after which it stops by itself; 0: never
}

func (cfg *Config) character(seat, incarnation int) (c character) {
	if !cfg.Soak {
		return c
	}
	r := mix(cfg.Seed ^ mix(uint64(seat)<<40|uint64(incarnation)<<8|saltCharacter))
	c.Bursts = true
	c.Forks = seat%64 == 1
	if below(r, 3) == 0 {
		c.Life = 100 + below(mix(r), 5000)
	}
	return c
}

// burst falls silent now and then: mostly for a moment, sometimes for so long that
// the router falls asleep for good.
func (w *worker) burst() {
	if !w.Bursts || w.n < w.silent {
		return
	}
	r := w.plan.random(w.n, saltBurst)
	d := time.Duration(below(r, uint64(20*time.Millisecond)))
	if below(mix(r), 32) == 0 {
		d *= 15
	}
	w.silent = w.n + 1 + below(mix(mix(r)), 1000)
	w.begin(doesSleep)
	w.sleep(d)
	w.begin(doesNothing)
}

// envNap is in EnvWorker of a program that does nothing for a while.
const envNap = "nap "

// runPrograms has programs run, some of which outlive a worker that is killed.
func (w *worker) runPrograms() {
	for k := uint64(0); w.ctx.Err() == nil; k++ {
		r := w.plan.random(k, saltFork)
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{EnvWorker + "=" + envNap + strconv.FormatUint(below(r, 60), 10)}
		if cmd.Start() == nil {
			cmd.Wait()
		}
		w.sleep(time.Duration(below(mix(r), uint64(500*time.Millisecond))))
	}
}

// nap is that program.
func nap(ms string) int {
	n, err := strconv.Atoi(ms)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	time.Sleep(time.Duration(n) * time.Millisecond)
	return 0
}

// Extra is what a soak counts besides.
type Extra struct {
	LocalPipes  uint64 `json:"local_pipes"` // opened and closed in the main process
	MainKilled  int64  `json:"main_killed"`
	MainStopped int64  `json:"main_stopped"` // in order
	Redelivered int64  `json:"redelivered"`  // of messages, marked as they should be
}

// Add adds another run's.
func (x *Extra) Add(o Extra) {
	x.LocalPipes += o.LocalPipes
	x.MainKilled += o.MainKilled
	x.MainStopped += o.MainStopped
	x.Redelivered += o.Redelivered
}

// Extra returns the run's, once it is over.
func (r *Run) Extra() Extra {
	x := Extra{LocalPipes: r.churn.pipes.Load()}
	if e, ok := r.host.main.(*elsewhere); ok {
		x.MainKilled, x.MainStopped, x.Redelivered = e.killed.Swap(0), e.stopped.Swap(0), e.redelivered.Swap(0)
	}
	return x
}

// Progress returns how many messages have arrived and how many workers were killed up
// to now.
func (r *Run) Progress() (arrived uint64, killed int64) {
	return r.book.arrived.Load(), r.killer.killed.Load()
}
