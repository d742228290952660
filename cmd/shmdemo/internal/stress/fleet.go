package stress

import (
	"encoding/json"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// fleet is the workers as the main process sees them. Each seat has a goroutine
// that launches an incarnation, waits until it is gone, and launches the next.
type fleet struct {
	cfg    *Config
	noise  []byte
	host   mainSide
	book   *book
	meter  *meter
	record *recorder // nil: nobody writes down who comes and goes

	seats  []seat
	order  atomic.Uint64 // for everybody, also those still to come
	ending atomic.Bool   // whoever goes now is not replaced
	wg     sync.WaitGroup
}

// seat is one place in the fleet.
type seat struct {
	now  atomic.Pointer[member] // nil between two incarnations
	sent uint64                 // by incarnations that are gone; its goroutine's own
	done atomic.Bool            // nobody will sit here any more
}

// claimers is the number of workers that write through claims, the first ones: a quarter where
// half of the kills are aimed at claims.
func (cfg *Config) claimers() int { return max(1, int(float64(cfg.Workers)*cfg.InClaim/2)) }

// launchAll takes all seats.
func (f *fleet) launchAll() {
	for i := range f.seats {
		f.wg.Go(func() { f.keep(i) })
	}
}

// crowdWorkers are so many that each may wait for a processor for long.
const crowdWorkers = 64

// unsettled bounds the incarnations of a seat that are gone and not settled yet.
const unsettled = 8

// keep sees to it that somebody sits at seat i.
func (f *fleet) keep(i int) {
	s := &f.seats[i]
	defer s.done.Store(true)
	var settling sync.WaitGroup
	defer settling.Wait()
	room := make(chan struct{}, unsettled)
	for incarnation := 1; !f.ending.Load(); incarnation++ {
		quota, reserve, limited := f.quota(i)
		if limited {
			if s.sent >= quota {
				return
			}
			quota -= s.sent
		}
		m, err := f.launch(briefing{
			Seed: f.cfg.Seed, Sizes: f.cfg.Sizes, Seat: i, Incarnation: incarnation, Claims: i < f.cfg.claimers(),
			Quota: quota, Reserve: reserve, Path: f.cfg.Path, Pause: f.cfg.Pause, Parent: os.Getpid(),
			character: f.cfg.character(i, incarnation),
		})
		if err != nil {
			f.book.violation("worker %d.%d could not be launched: %v", i, incarnation, err)
			return
		}
		noteStarted(m.worker.PID())
		f.record.came(m)
		s.now.Store(m)
		m.order(f.order.Load()) // it may have changed before the Store
		exit := m.worker.Wait()
		noteWaited(m.worker.PID())
		s.now.Store(nil)
		f.meter.released(m)
		f.record.left(m)
		s.sent += m.diary.page.sent.Load()
		room <- struct{}{}
		settling.Go(func() {
			f.settle(m, exit)
			<-room
		})
		f.vacancy(i, incarnation)
	}
}

// quota is how many messages a seat may send in all, and how many of them it
// keeps for the pings after the last kill. With fewer messages than seats some
// have a quota of 0: nobody sits there.
func (f *fleet) quota(i int) (quota, reserve uint64, limited bool) {
	n := uint64(f.cfg.Workers)
	if f.cfg.Messages == 0 {
		return 0, 0, false
	}
	quota = f.cfg.Messages / n
	if uint64(i) < f.cfg.Messages%n {
		quota++
	}
	if i == 0 && quota >= 100*pings {
		reserve = pings
	}
	return quota, reserve, true
}

// vacancy leaves a seat empty for a while now and then: claims of its dead owner are
// then the consumer's to skip, not those of whoever takes its slot next.
func (f *fleet) vacancy(i, incarnation int) {
	r := mix(f.cfg.Seed ^ mix(uint64(i)<<40|uint64(incarnation)<<8|saltSeat))
	if below(r, 4) == 0 && !f.ending.Load() {
		time.Sleep(time.Duration(below(mix(r), uint64(30*time.Millisecond))))
	}
}

// launch starts one worker: this very program, told by its environment.
func (f *fleet) launch(b briefing) (m *member, err error) {
	m = &member{
		seat: b.Seat, incarnation: b.Incarnation, claims: b.Claims, ended: make(chan struct{}),
		lane: newLane(newPlan(b.Seed, b.Sizes, b.Seat, b.Incarnation, f.noise)),
	}
	if m.diary, err = newDiary(); err != nil {
		return nil, err
	}
	m.diary.page.order.Store(f.order.Load())
	if m.stderr, err = memoryFile("stderr"); err != nil {
		return nil, err
	}
	text, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = "shmdemo-worker"
	cmd.Env = append(os.Environ(), EnvWorker+"="+string(text))
	cmd.ExtraFiles = []*os.File{m.diary.file} // becomes diaryFD
	cmd.Stderr = m.stderr
	// A process group of its own keeps Ctrl-C away from it. If the main process
	// is killed while the worker is stopped, it has to go on, to see that and
	// end; the signal does nothing to one that runs.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGCONT}
	if err := f.host.admit(f.book, m, cmd); err != nil {
		return nil, err
	}
	return m, nil
}

// settle judges a member that is gone, once everything from it was delivered.
func (f *fleet) settle(m *member, exit error) {
	if m.far && m.diary.page.sent.Load() == 0 {
		m.endUnheard(exit) // it may not have attached, and who would know?
	}
	<-m.ended
	f.meter.buried(m)
	if err := m.pipe.Close(); err != nil {
		f.book.violation("worker %d.%d: closing its pipe: %v", m.seat, m.incarnation, err)
	}
	for _, complaint := range m.judgeEnd(exit, f.cfg.Workers >= crowdWorkers) {
		f.book.violation("worker %d.%d %s", m.seat, m.incarnation, complaint)
	}
	m.mu.Lock()
	m.gone = true
	f.book.settle(m)
	m.diary.close()
	m.mu.Unlock()
	m.stderr.Close()
}

// present returns everybody who is there now.
func (f *fleet) present() (all []*member) {
	for i := range f.seats {
		if m := f.seats[i].now.Load(); m != nil {
			all = append(all, m)
		}
	}
	return all
}

// command gives an order to all workers, present and to come.
func (f *fleet) command(o uint64) {
	f.order.Store(o)
	for _, m := range f.present() {
		m.order(o)
	}
}

// obeyed reports whether every seat has somebody who has carried out the order,
// or will have nobody any more.
func (f *fleet) obeyed(o uint64) bool {
	for i := range f.seats {
		s := &f.seats[i]
		m := s.now.Load()
		if m == nil && !s.done.Load() || m != nil && !m.did(o) {
			return false
		}
	}
	return true
}

// sentAll reports whether every seat has used up its quota.
func (f *fleet) sentAll() bool {
	for i := range f.seats {
		s := &f.seats[i]
		if s.done.Load() {
			continue
		}
		m := s.now.Load()
		if m == nil {
			return false
		}
		through := false
		m.note(func(p *diaryPage) { through = p.idle.Load() != 0 })
		if !through {
			return false
		}
	}
	return true
}

// dismiss has everybody stop in order, by way of the router, and replaces nobody
// from now on.
func (f *fleet) dismiss() {
	f.ending.Store(true)
	for !f.empty() { // somebody may just have been launched
		for _, m := range f.present() {
			if m.dismissed {
				continue // each Cancel wakes all workers for a look
			}
			m.dismissed = true
			if m.far {
				m.order(orderLeave)
			}
			m.pipe.Cancel()
		}
		time.Sleep(5 * time.Millisecond)
	}
	f.wg.Wait()
}

// empty reports whether all seats are given up, and whoever sat there is settled.
func (f *fleet) empty() bool {
	for i := range f.seats {
		if !f.seats[i].done.Load() {
			return false
		}
	}
	return true
}

// killAll is for a run that is given up: it waits for nothing but the kernel.
// Seats that were just being taken when it began are found by looking again.
func (f *fleet) killAll() {
	f.ending.Store(true)
	for empty := 0; empty < 10; empty++ {
		for _, m := range f.present() {
			empty = 0
			m.killed.Store(true)
			m.worker.Kill()
		}
		time.Sleep(5 * time.Millisecond)
	}
}
