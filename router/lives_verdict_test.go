package router

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// afterDeath looks at what a dead life has left.
func (r *round) afterDeath(life uint32) {
	path := filepath.Join(r.dir, "segment")
	if _, err := os.Stat(path); err != nil {
		if r.log.count.Load() > 0 {
			r.t.Errorf("life %d: %v", life, err)
		}
		return // it died before there was one
	}
	rg, err := ring.OpenPath(path)
	must(r.t, err)
	defer rg.Close()
	if err := rg.Check(); err != nil {
		r.t.Errorf("life %d left %v", life, err)
	}
	if err := r.oracle.dead(life); err != nil {
		r.t.Errorf("life %d: %v", life, err)
	}
	for _, w := range r.workers {
		if w.diary.stage.Load() == stageFailed {
			r.t.Errorf("worker %d failed", w.serial)
		}
	}
}

// finish ends the workers, routes what is left in a last life, in this process,
// and judges the whole.
func (r *round) finish() {
	t := r.t
	r.life++
	for _, w := range r.workers {
		w.diary.order.Store(1)
	}
	// Some stop while no router is there.
	router, err := livesRouter(&plan{Dir: r.dir, Inbox: 2, Turn: 100})
	must(t, err)
	must(t, startPatiently(router))
	defer halt(t, router)
	log := &lifeLog{book: r.log, life: r.life}
	log.add(note{kind: lineStart, at: shm.Now()}, 0)
	rcvs, err := router.Receivers()
	must(t, err)
	ended := make(chan uint64, len(rcvs))
	for _, rcv := range rcvs {
		log.add(note{kind: lineListed, id: rcv.ID()}, 0)
	}
	log.add(note{kind: lineReady}, 0)
	open := map[uint64]*Receiver{}
	for _, rcv := range rcvs {
		id := rcv.ID()
		open[id] = rcv
		rcv.Handle(func(m Message) { log.message(id, m).flags.Or(flagDone) }, func(err error) { log.end(id, err); ended <- id })
	}
	eventually(t, "all processes have ended", func() bool { return len(sessionProcesses(r.session)) == 0 })
	for _, w := range r.workers {
		if w.cmd == nil {
			continue
		}
		if err := within(t, "worker exits", w.exited); err != nil && !r.killed[w.serial] {
			t.Errorf("worker %d: %v", w.serial, err)
		}
	}
	// Now every pipe that a sender ever attached to has ended.
	for {
		attached := router.Stats().Pipes.Attached + router.Stats().Pipes.Ended
		for len(ended) > 0 {
			rcv := open[<-ended]
			delete(open, rcv.ID())
			must(t, rcv.Close())
		}
		if attached == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for _, rcv := range open {
		must(t, rcv.Close())
	}
	eventually(t, "no pipe is left", func() bool { return router.Stats().Pipes == (PipeStats{}) })
	if s := router.Stats(); s.Malformed != 0 || s.Damages != 0 || s.Ring.Used != 0 {
		t.Errorf("left: %+v", s)
	}
	must(t, router.Stop())
	r.oracle.readLog(r.life)
	r.oracle.final(r.killed)
	r.judge("the end, life %d", r.life)
	must(t, os.Remove(filepath.Join(r.dir, "segment")))
	entries, err := os.ReadDir(r.dir)
	must(t, err)
	for _, e := range entries {
		if e.Name() != "log" && !strings.HasPrefix(e.Name(), "diary") {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}
