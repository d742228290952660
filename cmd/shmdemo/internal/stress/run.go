package stress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// Config is what a run is asked to do.
type Config struct {
	Workers   int
	Duration  time.Duration // 0: until the messages are sent
	Messages  uint64        // 0: until the time is over
	Sizes     Sizes         // without Frame
	KillEvery time.Duration // 0: never
	Kills     int64         // after so many the time is over; 0: no such end
	InClaim   float64       // share of the kills that are aimed at open claims; 0: DefaultInClaim
	StopEvery time.Duration // 0: never
	Pause     time.Duration // of each worker after each message; 0: none
	Seed      uint64        // 0: a new one
	Capacity  int64
	Path      string        // named segment; empty: none
	Patience  time.Duration // without progress for so long the run has failed
	Host      *Host         // running, and not stopped by the run; nil: the run's own
	Soak      bool          // everything at once: see soak.go
	Timeline  bool          // tell how it went over time, too: Result.Timeline
	Progress  io.Writer     // where to tell how it goes; nil: nowhere
	Live      bool          // on one line of a terminal
}

// ErrConfig says that a run cannot begin as it is asked for.
var ErrConfig = errors.New("cannot run")

// Run is one run, in its phases: stress, draining, pings, press, dismissal.
type Run struct {
	cfg     Config
	host    *Host
	owned   bool    // the host is the run's own
	before  figures // of the host, when the run began
	fleet   *fleet
	book    *book
	meter   *meter
	killer  *killer
	stopper *stopper
	churn   churn
	record  *recorder // nil: no timeline is asked for

	began   int64  // shm.Now
	missing uint64 // acknowledged, and given up by a drain

	now     atomic.Pointer[string] // the phase
	sending atomic.Pointer[throughput]
	verdict sync.Once    // whoever gives it, the run or its watchdog
	doomed  chan *Result // the watchdog's
}

// Do carries out the run, once. It ends early, and in order, with ctx. Where the router hangs, so
// do goroutines of the run: it returns with a verdict all the same, and the program
// should then exit.
func (r *Run) Do(ctx context.Context) *Result {
	quit := make(chan struct{})
	var shown sync.WaitGroup
	defer func() {
		close(quit)
		shown.Wait() // or the display would write into what comes next
	}()
	if !r.cfg.Soak { // which enforces no bound that would need it, and has threads by the hundred
		go r.meter.lateness.watch(quit)
	}
	if r.record != nil {
		go r.record.watch(quit)
	}
	go r.watchdog(quit)
	shown.Go(func() { r.display(quit) })
	orderly := make(chan *Result, 1)
	go func() {
		r.stress(ctx)
		r.quiet()
		r.sending.Store(r.throughput(r.book.last.Load()))
		if !r.cfg.Soak { // other runs are under way: wakes are not at once
			r.testWakes()
		}
		r.phase("dismissing")
		r.fleet.dismiss()
		r.fleet.wg.Wait()
		r.stop()
		r.verdict.Do(func() { orderly <- r.result() })
	}()
	select {
	case res := <-orderly:
		return res
	case res := <-r.doomed:
		return res
	}
}

// DefaultInClaim is the share of kills that are aimed at open claims.
const DefaultInClaim = 0.5

// complete fills in what was left open.
func (cfg Config) complete() Config {
	if cfg.Seed == 0 {
		cfg.Seed = 1 + rand.Uint64N(1<<32)
	}
	if cfg.Capacity == 0 {
		cfg.Capacity = ring.DefaultCapacity
	}
	if cfg.InClaim == 0 {
		cfg.InClaim = DefaultInClaim
	}
	cfg.Sizes.Frame = int(min(cfg.Capacity/8, 16<<20))
	return cfg
}

// New prepares a run, and starts a router for it unless it was given one that runs.
// An error wraps ErrConfig.
func New(cfg Config) (*Run, error) {
	cfg = cfg.complete()
	r := &Run{cfg: cfg, host: cfg.Host, owned: cfg.Host == nil, doomed: make(chan *Result, 1)}
	if r.owned {
		var err error
		if r.host, err = NewHost(cfg); err == nil {
			err = r.host.Start()
		}
		if err != nil {
			return nil, err
		}
	}
	m := r.host.meter
	r.meter, r.book, r.before = m, newBook(m, cfg.Workers), r.host.main.figures()
	r.fleet = &fleet{cfg: &r.cfg, noise: newNoise(cfg.Seed), host: r.host.main, book: r.book, meter: m}
	r.fleet.seats = make([]seat, cfg.Workers)
	r.killer, r.stopper = newKiller(r.fleet), newStopper(r.fleet)
	var err error
	if r.killer.witness, err = newWitness(r.host.main, m); err != nil {
		return nil, fmt.Errorf("%w: no witness: %w", ErrConfig, err)
	}
	if cfg.Timeline && r.owned {
		if r.record, err = newRecorder(r); err != nil {
			return nil, fmt.Errorf("%w: no timeline: %w", ErrConfig, err)
		}
		r.fleet.record = r.record
	}
	r.began = shm.Now()
	r.phase("starting")
	r.book.last.Store(r.began)
	return r, nil
}

// stress lets the workers send, and kills and stops them, until the time is
// over, the messages are sent, or ctx ends.
func (r *Run) stress(ctx context.Context) {
	r.phase("sending")
	if r.cfg.Duration > 0 && !r.cfg.Soak {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.cfg.Duration)
		defer cancel()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.fleet.launchAll()
	var trouble sync.WaitGroup
	trouble.Go(func() { r.killer.run(ctx) })
	trouble.Go(func() { r.stopper.run(ctx) })
	if r.cfg.Soak {
		r.soak(ctx, &trouble)
	}
	begun := time.Now()
	for ctx.Err() == nil && !(r.cfg.Soak && time.Since(begun) >= r.cfg.Duration && r.enough()) && !(r.cfg.Messages != 0 && r.fleet.sentAll()) && !(r.cfg.Kills != 0 && r.killer.killed.Load() >= r.cfg.Kills) {
		time.Sleep(time.Millisecond)
	}
	cancel()
	trouble.Wait()
	r.killer.witness.close()
}

// throughput is what arrived while everybody was sending.
type throughput struct {
	messages, bytes uint64
	took            time.Duration
}

// throughput counts until end, nanoseconds on the clock of shm.Now: the last arrival, where all was sent.
func (r *Run) throughput(end int64) *throughput {
	a := r.book.account(nil)
	return &throughput{a.delivered, a.bytes, time.Duration(end - r.began)}
}

// stop ends the router, if it is the run's own, and looks whether it has counted anything
// that cannot be.
func (r *Run) stop() {
	var complaints []string
	if r.owned {
		r.phase("stopping the router")
		complaints = r.host.Stop()
	} else {
		r.phase("counting")
		r.awaitCounts()
	}
	for _, c := range append(complaints, r.host.main.figures().odd(r.before, r.churn.discards.Load())...) {
		r.book.violation("%s", c)
	}
}

// awaitCounts waits until the router, which runs on, has published its counts: it
// does so before it sleeps.
func (r *Run) awaitCounts() {
	for end := time.Now().Add(r.cfg.Patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if f := r.host.main.figures(); f.ring.Sleeping && f.queued == 0 {
			return
		}
	}
}
