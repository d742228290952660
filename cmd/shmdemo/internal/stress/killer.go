package stress

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/shmrouter/shmrouter/shm"
)

// killer kills workers, at any moment, or inside a claim: it lures one that
// writes through claims, which then calls from inside its next claim and waits
// there. Its choices come from the seed; what they hit depends on the machine.
type killer struct {
	f       *fleet
	rnd     *rand.Rand
	every   time.Duration
	killed  atomic.Int64
	inClaim atomic.Int64 // of these, when it had called from inside a claim
	witness *witness     // nil: none
}

func newKiller(f *fleet) *killer {
	return &killer{f: f, rnd: rand.New(rand.NewPCG(f.cfg.Seed, saltKill)), every: f.cfg.KillEvery}
}

// run kills until ctx ends.
func (k *killer) run(ctx context.Context) {
	if k.every <= 0 {
		return
	}
	t := time.NewTicker(k.every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		inClaim, spare := k.rnd.Float64() < k.f.cfg.InClaim, k.rnd.IntN(4) != 0
		m := pick(k.f, k.rnd, inClaim)
		switch {
		case m == nil || spare && m.isStopped.Load(): // or few would be stopped for long
		case inClaim:
			k.kill(m, m.lure(ctx))
			m.unlure()
		default:
			k.kill(m, false)
		}
	}
}

func (k *killer) kill(m *member, inClaim bool) {
	c := k.witness.open(m)
	if m.killed.Swap(true) {
		return
	}
	m.killedAt.Store(shm.Now())
	if m.worker.Kill() != nil {
		m.killedAt.Store(0)
		return // its end has come before
	}
	k.witness.follow(c)
	k.killed.Add(1)
	if inClaim {
		k.inClaim.Add(1)
	}
	k.f.record.killed(m, inClaim)
}

// pick returns a worker, nil if there is none at the chosen seat.
func pick(f *fleet, rnd *rand.Rand, claims bool) *member {
	n := len(f.seats)
	if claims {
		n = f.cfg.claimers()
	}
	return f.seats[rnd.IntN(n)].now.Load()
}

// lureTime is how long it is waited for a worker to call. One that is in a queue for
// room, or stopped, or has just been launched, may not come.
const lureTime = 20 * time.Millisecond

// lure has a worker call from inside its next claim, and waits until it does.
func (m *member) lure(ctx context.Context) (called bool) {
	if m == nil {
		return false
	}
	m.note(func(p *diaryPage) { p.lure.Store(1) })
	for end := time.Now().Add(lureTime); !called && time.Now().Before(end) && ctx.Err() == nil; {
		m.note(func(p *diaryPage) { called = p.hold.Load() != 0 })
		time.Sleep(30 * time.Microsecond)
	}
	return called
}

func (m *member) unlure() {
	if m != nil {
		m.note(func(p *diaryPage) { p.lure.Store(0) })
	}
}

// stopper stops workers for a while and lets them go on, some of them inside a
// claim, where everybody has to wait for them.
type stopper struct {
	f       *fleet
	rnd     *rand.Rand
	every   time.Duration
	stopped atomic.Int64
}

// stopMost is the longest stop. Some are longer than it takes to be reported as a stall.
const stopMost = 200 * time.Millisecond

func newStopper(f *fleet) *stopper {
	return &stopper{f: f, rnd: rand.New(rand.NewPCG(f.cfg.Seed, saltStop)), every: f.cfg.StopEvery}
}

// run stops workers until ctx ends; all of them go on then.
func (s *stopper) run(ctx context.Context) {
	if s.every <= 0 {
		return
	}
	t := time.NewTicker(s.every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		inClaim, long := s.rnd.IntN(3) == 0, time.Duration(1+s.rnd.Int64N(int64(stopMost)))
		m := pick(s.f, s.rnd, inClaim)
		if inClaim {
			m.lure(ctx)
		}
		s.stop(ctx, m, long)
		m.unlure()
	}
}

func (s *stopper) stop(ctx context.Context, m *member, long time.Duration) {
	if m == nil {
		return
	}
	s.f.meter.stopping(m)
	defer s.f.meter.released(m)
	if m.worker.Signal(syscall.SIGSTOP) != nil {
		return // it has just been killed
	}
	s.stopped.Add(1)
	from := shm.Now()
	select {
	case <-ctx.Done():
	case <-time.After(long):
	case <-m.worker.Done():
	}
	m.worker.Signal(syscall.SIGCONT)
	s.f.record.stopped(m, from, shm.Now())
}
