package stress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/shm"
)

// Config is what a run is asked to do.
type Config struct {
	Workers   int
	Duration  time.Duration // 0: until the messages are sent
	Messages  uint64        // 0: until the time is over
	Sizes     Sizes         // without Frame
	KillEvery time.Duration // 0: never
	StopEvery time.Duration // 0: never
	Seed      uint64        // 0: a new one
	Capacity  int64
	Path      string        // named segment; empty: none
	Patience  time.Duration // without progress for so long the run has failed
	Progress  io.Writer     // where to tell how it goes; nil: nowhere
	Live      bool          // on one line of a terminal
}

// ErrConfig says that a run cannot begin as it is asked for.
var ErrConfig = errors.New("cannot run")

// Run is one run, in its phases: stress, draining, pings, press, dismissal.
type Run struct {
	cfg     Config
	router  *router.Router
	fleet   *fleet
	book    *book
	meter   *meter
	killer  *killer
	stopper *stopper

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
	go r.meter.lateness.watch(quit)
	go r.watchdog(quit)
	shown.Go(func() { r.display(quit) })
	orderly := make(chan *Result, 1)
	go func() {
		r.stress(ctx)
		r.quiet()
		r.sending.Store(r.throughput())
		r.testWakes()
		r.phase("dismissing")
		r.fleet.dismiss()
		r.fleet.wg.Wait()
		r.phase("stopping the router")
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

// New starts a router for a run. An error wraps ErrConfig.
func New(cfg Config) (*Run, error) {
	if cfg.Seed == 0 {
		cfg.Seed = 1 + rand.Uint64N(1<<32)
	}
	if cfg.Capacity == 0 {
		cfg.Capacity = ring.DefaultCapacity
	}
	m := newMeter()
	r := &Run{cfg: cfg, meter: m, book: newBook(m), doomed: make(chan *Result, 1)}
	r.cfg.Sizes.Frame = int(min(cfg.Capacity/8, 16<<20))
	opts := []router.Option{
		router.WithCapacity(cfg.Capacity), router.WithMaxMessage(max(r.cfg.Sizes.Longest(), 1)),
		router.WithSkipHook(m.skip), router.WithStallHook(m.stall),
	}
	if cfg.Path != "" {
		opts = append(opts, router.WithPath(cfg.Path))
	}
	var err error
	if r.router, err = router.New(opts...); err == nil {
		err = r.router.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	r.fleet = &fleet{cfg: &r.cfg, noise: newNoise(cfg.Seed), router: r.router, book: r.book, meter: m}
	r.fleet.seats = make([]seat, cfg.Workers)
	r.killer, r.stopper = newKiller(r.fleet), newStopper(r.fleet)
	r.phase("starting")
	r.began = shm.Now()
	r.book.last.Store(r.began)
	return r, nil
}

// stress lets the workers send, and kills and stops them, until the time is
// over, the messages are sent, or ctx ends.
func (r *Run) stress(ctx context.Context) {
	r.phase("sending")
	if r.cfg.Duration > 0 {
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
	for ctx.Err() == nil && !(r.cfg.Messages != 0 && r.fleet.sentAll()) {
		time.Sleep(time.Millisecond)
	}
	cancel()
	trouble.Wait()
}

// throughput is what arrived while everybody was sending.
type throughput struct {
	messages, bytes uint64
	took            time.Duration
}

// throughput counts until now.
func (r *Run) throughput() *throughput {
	a := r.book.account(nil)
	return &throughput{a.delivered, a.bytes, time.Duration(r.book.last.Load() - r.began)}
}

// stop ends the router and looks whether it has counted anything that cannot be.
func (r *Run) stop() {
	err := r.router.Stop()
	if err != nil {
		r.book.violation("stopping the router: %v", err)
	}
	s := r.router.Stats()
	for _, odd := range []struct {
		what  string
		count uint64
	}{
		{"messages for closed pipes", s.Discarded},
		{"frames that no sender makes", s.Malformed},
		{"messages that were sent and not routed", s.Unrouted},
		{"places where the segment was damaged", s.Damages},
		{"panics of handlers", s.Panics},
		{"claims dropped by living workers", s.Ring.Dropped},
	} {
		if odd.count != 0 {
			r.book.violation("the router counted %d %s", odd.count, odd.what)
		}
	}
	if r.cfg.Path == "" {
		return
	}
	if _, err := os.Lstat(r.cfg.Path); !errors.Is(err, fs.ErrNotExist) {
		r.book.violation("the router left its segment's file behind")
		os.Remove(r.cfg.Path)
	}
}
