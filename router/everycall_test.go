package router

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
)

// A main process is killed in its nth handler call, and at each step of its nth
// release, for every n of a small run. What the next one delivers first is known
// before: what lies in the ring, in that order, pipe by pipe.
func TestKilledAtEveryCall(t *testing.T) {
	guard(t)
	const calls = 16
	random := ringtest.Random(t)
	dir, err := os.MkdirTemp(shm.DefaultDir(), "shmrouter-lives")
	must(t, err)
	defer os.RemoveAll(dir)
	log, closeLog, err := openBook[logbook](filepath.Join(dir, "log"))
	must(t, err)
	defer closeLog()
	o := newOracle(dir, log)
	var writers []*writer
	life := uint32(0)
	run := func(p plan) {
		life++
		p.Dir, p.Life, p.Inbox, p.Turn = dir, life, 4, 100
		l := startLife(t, filepath.Base(dir), p)
		defer l.out.Close()
		from := log.count.Load()
		alive := true
		step := func(line string, ok bool) {
			if f := strings.Fields(line); ok && f[0] == "token" {
				writers = append(writers, newWriter(t, dir, o, uint32(len(writers)+1), f[2]))
			}
			alive = ok
		}
		end := time.After(patience)
		for alive && len(writers) < 2 {
			if len(writers) == 0 {
				fmt.Fprintln(l.in, "token 1")
				fmt.Fprintln(l.in, "token 2")
			}
			line, ok := <-l.lines
			step(line, ok)
			if ok && len(writers) == 0 {
				line, ok = <-l.lines
				step(line, ok)
			}
		}
		for alive {
			// Message after message, so that there are many Polls.
			must(t, writers[random.IntN(2)].send())
			select {
			case line, ok := <-l.lines:
				step(line, ok)
			case <-time.After(time.Duration(random.IntN(100)) * time.Microsecond):
			case <-end:
				t.Fatalf("life %d does not come to its end at %s %d", life, p.At, p.N)
			}
		}
		must(t, l.killed())
		delivered := 0
		for i := from; i < log.count.Load(); i++ {
			if log.lines[i].kind == lineMessage {
				delivered++
			}
		}
		if p.At == "handler" && delivered != int(p.N) {
			t.Errorf("life %d was killed in handler call %d, and has noted %d", life, p.N, delivered)
		}
		must(t, o.dead(life))
		rg, err := ring.OpenPath(filepath.Join(dir, "segment"))
		must(t, err)
		defer rg.Close()
		must(t, rg.Check())
		left := 0
		for _, p := range o.pipes {
			left += len(p.left)
		}
		if p.At == "handler" && left == 0 {
			t.Errorf("life %d: the message of the handler that it died in was released", life)
		}
		if len(o.wrong) > 0 {
			t.Fatal(strings.Join(o.wrong, "\n"))
		}
	}
	for n := range int64(calls) {
		run(plan{At: "handler", N: n + 1})
		for step := range releaseSteps {
			run(plan{At: "release", N: n + 1, Spin: time.Duration(step)})
		}
	}
	t.Logf("%d lives, %d messages delivered, %d of them twice", life, o.messages, o.again)
	for _, w := range writers {
		must(t, w.s.Stop())
		w.closeDiary()
	}
	must(t, os.Remove(filepath.Join(dir, "segment")))
}

// writer is a worker in the test's own process: it is no child of any router.
type writer struct {
	s          *sender.Sender
	diary      *diary
	closeDiary func()
	serial     uint32
}

func newWriter(t testing.TB, dir string, o *oracle, serial uint32, token string) *writer {
	t.Helper()
	s, err := sender.Open(token)
	must(t, err)
	must(t, s.Start())
	d, closeDiary, err := openBook[diary](diaryPath(dir, serial))
	must(t, err)
	o.books[serial] = d
	return &writer{s, d, closeDiary, serial}
}

// send is TrySend, since nobody may be there to make room: then nothing is sent.
func (w *writer) send() error {
	if err := w.note(w.s.TrySend); err != sender.ErrFull {
		return err
	}
	return nil
}

// note sends the next letter, and notes intent and fate.
func (w *writer) note(send func([]byte) error) error {
	number := w.diary.used.Load() + 1
	w.diary.used.Store(number)
	w.diary.fate[number].Store(fateIntent)
	err := send(makeLetter(40, w.serial, number))
	if err == nil {
		w.diary.fate[number].Store(fateAcked)
	} else {
		w.diary.fate[number].Store(fateFailed)
	}
	return err
}
