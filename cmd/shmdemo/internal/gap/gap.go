// Package gap shows what a death does to those who live: workers send, again and again one of them dies inside a claim,
// and the consumer notes when how many messages arrived, before, meanwhile and afterwards.
//
// A worker that is to die makes a claim, notes the time and kills itself with SIGKILL: so all kills can be laid over each other at
// that instant, and each of them meets a claim that nobody ends. gap.go is a run, worker.go the processes that send, consumer.go what
// arrives and whether that is right, result.go and curve.go condense it, plot.go draws it.
package gap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/shmrouter/shmrouter/bench"
	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/report"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// Config says what to do.
type Config struct {
	Kills    int
	Workers  int
	Capacity int64
	Rate     float64 // messages a second of all workers together, 0: as many as possible
	Seed     uint64  // of who dies
	Free     bool    // let the kernel place all processes
	Progress io.Writer
	Live     bool
}

const (
	before   = 20 * time.Millisecond // the kill
	after    = 40 * time.Millisecond
	bin      = 500 * time.Microsecond
	patience = 10 * time.Second // for anything that has to happen
)

// run is a run under way.
type run struct {
	cfg     Config
	ring    *ring.Ring
	seats   []seat // in the ring's user area
	workers []*worker
	places  places
	c       *consumer
	done    atomic.Int64 // kills
}

// Run kills until it has enough, or ctx ends.
func Run(ctx context.Context, cfg Config) *Result {
	res := newResult(cfg)
	r := &run{cfg: cfg, places: choosePlaces(cfg.Free)}
	res.Pinned = r.places.pinned
	err := r.begin()
	if err == nil {
		quit := report.Progress(cfg.Progress, cfg.Live, 500*time.Millisecond, r.line)
		err = r.kills(ctx, res)
		quit()
		err = errors.Join(err, r.end(res))
	} else if r.c != nil {
		err = errors.Join(err, r.c.close(res))
	}
	for _, w := range r.workers {
		w.close()
	}
	if r.ring != nil {
		r.ring.Close()
	}
	res.finish(err, ctx.Err() != nil)
	return res
}

func (r *run) line() string {
	return fmt.Sprintf("%s  %d of %d kills", report.Bar(float64(r.done.Load())/float64(r.cfg.Kills)), r.done.Load(), r.cfg.Kills)
}

func (r *run) begin() (err error) {
	if r.ring, err = ring.New(ring.Options{Capacity: r.cfg.Capacity, UserSize: int64(r.cfg.Workers) * seatSize}); err != nil {
		return err
	}
	for i := range r.cfg.Workers {
		r.seats = append(r.seats, seatAt(r.ring, i))
	}
	if r.c, err = startConsumer(r.ring, r.seats, r.places.consumer); err != nil {
		return err
	}
	for i := range r.cfg.Workers {
		w, err := startWorker(r.ring, i, 1, r.places.workers, r.cfg.Rate/float64(r.cfg.Workers))
		if err != nil {
			return err
		}
		r.workers = append(r.workers, w)
	}
	return r.allSend()
}

// allSend waits until a message of every worker's present life has arrived.
func (r *run) allSend() error {
	for i, w := range r.workers {
		if err := r.c.until(func() bool { return r.c.lives[i].Load() == w.life || r.intact() != nil }); err != nil {
			return fmt.Errorf("worker %d does not send: %w", i, err)
		}
	}
	return r.intact()
}

func (r *run) kills(ctx context.Context, res *Result) error {
	rnd := rand.New(rand.NewPCG(r.cfg.Seed, 0))
	for i := 0; i < r.cfg.Kills && ctx.Err() == nil; i++ {
		one, err := r.kill(rnd.IntN(len(r.workers)))
		if err != nil {
			return fmt.Errorf("kill %d: %w", i+1, err)
		}
		res.add(one)
		r.done.Add(1)
	}
	return nil
}

// kill is one death, and what arrived around it.
func (r *run) kill(i int) (death, error) {
	if _, err := r.c.recording(r.intact); err != nil { // what was before is of no interest
		return death{}, err
	}
	time.Sleep(before + before/2)
	w := r.workers[i]
	r.seats[i].die.Store(1)
	if err := w.awaitKilled(); err != nil {
		return death{}, err
	}
	at := r.seats[i].died.Load()
	behind := func() bool { return r.c.skipped.Load() > at && r.c.last.Load() > r.c.skipped.Load() }
	if err := r.c.until(func() bool { return behind() || r.intact() != nil }); err != nil {
		return death{}, fmt.Errorf("nothing arrives from behind the claim: %w", err)
	}
	time.Sleep(time.Duration(at+int64(after)-shm.Now()) + bin)
	arrivals, err := r.c.recording(r.intact)
	if err != nil {
		return death{}, err
	}
	if w, err = startWorker(r.ring, i, w.life+1, r.places.workers, r.cfg.Rate/float64(r.cfg.Workers)); err != nil {
		return death{}, err
	}
	r.workers[i] = w
	if err := r.allSend(); err != nil {
		return death{}, err
	}
	return condense(arrivals, at, r.c.skipped.Load()), nil
}

// intact says which worker has ended that was not told to.
func (r *run) intact() error {
	for i, w := range r.workers {
		select {
		case err := <-w.ended:
			w.ended <- err
			if r.seats[i].died.Load() < w.started {
				return fmt.Errorf("worker %d has ended by itself: %v", i, err)
			}
		default:
		}
	}
	return nil
}

// end lets the workers finish, and asks for the rest of what they have sent.
func (r *run) end(res *Result) error {
	for i := range r.seats {
		r.seats[i].stop.Store(1)
	}
	for _, w := range r.workers {
		if err := w.await(); err != nil {
			return errors.Join(err, r.c.close(res))
		}
	}
	all, err := r.ring.Frontier()
	if err == nil {
		err = r.c.until(func() bool { return r.ring.Head() >= all })
	}
	err = errors.Join(err, r.c.close(res))
	stats, statsErr := r.ring.Stats()
	res.Messages, res.Skipped = stats.Consumer.Messages, stats.Consumer.SkippedDead+stats.Swept
	if err = errors.Join(err, statsErr); err != nil {
		return err
	}
	if res.Skipped != uint64(res.Kills) {
		return fmt.Errorf("%d died in a claim, and %d claims of the dead were skipped", res.Kills, res.Skipped)
	}
	return nil
}

// places are the processors that consumer and workers stay on, -1 for any.
type places struct {
	consumer, workers int
	pinned            bool
}

func choosePlaces(free bool) places {
	workers, consumer := bench.TwoCPUs()
	if free || consumer < 0 || bench.CanPin() != nil {
		return places{-1, -1, false}
	}
	return places{consumer, workers, true}
}
