package router

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/hosttest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
)

// The main process dies while workers wait for room and for release, and nobody
// has its place: each wait ends, in time, with ErrRouterGone, however many of them
// there are; and what is sent again goes through when the next router has resumed,
// whether it was waiting at that moment or not. Nothing that was refused arrives.
func TestSeatIsFree(t *testing.T) {
	guard(t)
	const crowd, rounds = 20, 3
	dir, err := os.MkdirTemp(shm.DefaultDir(), "shmrouter-lives")
	must(t, err)
	defer os.RemoveAll(dir)
	log, closeLog, err := openBook[logbook](filepath.Join(dir, "log"))
	must(t, err)
	defer closeLog()
	o := newOracle(dir, log)

	var writers []*writer // one for each that waits, since they number what they send
	for round := range rounds {
		life := uint32(round + 1)
		l := startLife(t, filepath.Base(dir), plan{Dir: dir, Life: life, At: "block", N: 1, Inbox: 1, Turn: 1})
		for round == 0 && len(writers) < crowd {
			fmt.Fprintln(l.in, "token", len(writers)+1)
			for f := []string{""}; f[0] != "token"; {
				line, ok := <-l.lines
				if !ok {
					t.Fatal("the router is gone")
				}
				if f = strings.Fields(line); f[0] == "token" {
					writers = append(writers, newWriter(t, dir, o, uint32(len(writers)+1), f[2]))
				}
			}
		}
		// All of them flood the ring until they wait. It may be one alone that has
		// filled it.
		failed := make(chan time.Time, crowd+1)
		var done sync.WaitGroup
		waited := writers[0].s.Stats().Waits
		for _, w := range writers {
			done.Go(func() {
				for err := error(nil); err == nil; {
					if err = w.sendWaiting(); err != nil && !errors.Is(err, sender.ErrRouterGone) {
						t.Errorf("send: %v", err)
					}
				}
				failed <- time.Now()
			})
		}
		eventually(t, "all wait", func() bool {
			n := 0
			for _, w := range writers {
				if w.s.Stats().Waits > 0 {
					n++
				}
			}
			return n == crowd && writers[0].s.Stats().Waits > waited && log.count.Load() > 0
		})
		drains := writers[slices.IndexFunc(writers, func(w *writer) bool { return w.s.Stats().Messages > 0 })]
		done.Go(func() {
			if err := drains.s.Drain(background); !errors.Is(err, sender.ErrRouterGone) || !errors.Is(err, ring.ErrNoConsumer) {
				t.Errorf("drain: %v", err)
			}
			failed <- time.Now()
		})
		killed := time.Now()
		must(t, l.cmd.Process.Kill())
		if err := l.killed(); err != nil {
			t.Error(err)
		}
		l.out.Close()
		passed, stop := hosttest.OwnTime(func() bool { return true })
		var last time.Time
		for range crowd + 1 {
			last = within(t, "a wait ends", failed)
		}
		if took := passed(); took > promisedNotice {
			t.Errorf("the last one learned of the death after %v of this process's own time", took)
		}
		stop()
		done.Wait()
		t.Logf("%d waits ended within %v", crowd+1, last.Sub(killed))
		must(t, o.dead(life))
		// There is still no room, and nobody to make any.
		if err := writers[0].s.TrySend(nil); err != sender.ErrFull {
			t.Errorf("try: %v", err)
		}
	}

	// The next one resumes while all try again and again.
	var done sync.WaitGroup
	for _, w := range writers {
		done.Go(func() {
			for range 50 {
				for end := time.Now().Add(patience); ; {
					err := w.sendWaiting()
					if err == nil {
						break
					}
					if !errors.Is(err, sender.ErrRouterGone) || time.Now().After(end) {
						t.Errorf("send: %v", err)
						return
					}
				}
			}
		})
	}
	const lastLife = rounds + 1
	router, err := livesRouter(&plan{Dir: dir, Inbox: 1, Turn: 10})
	must(t, err)
	must(t, startPatiently(router))
	defer halt(t, router)
	notes := &lifeLog{book: log, life: lastLife}
	notes.add(note{kind: lineStart, at: shm.Now()}, 0)
	rcvs, err := router.Receivers()
	must(t, err)
	ended := make(chan error, crowd)
	for _, rcv := range rcvs {
		rcv.Handle(func(m Message) { notes.message(rcv.ID(), m).flags.Or(flagDone) },
			func(err error) { notes.end(rcv.ID(), err); ended <- err })
	}
	done.Wait()
	for _, w := range writers {
		w.diary.attached.Store(true)
		w.diary.stage.Store(stageStopped)
		must(t, w.s.Stop())
	}
	for range writers {
		must(t, within(t, "end", ended))
	}
	must(t, router.Stop())
	o.readLog(lastLife)
	o.final(nil)
	if len(o.wrong) > 0 {
		t.Error(strings.Join(o.wrong, "\n"))
	}
	for _, w := range writers {
		w.closeDiary()
	}
}

// sendWaiting sends one, and waits for room.
func (w *writer) sendWaiting() error {
	return w.note(func(letter []byte) error { return w.s.Send(background, letter) })
}
