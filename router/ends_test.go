package router

import (
	"bytes"
	"log/slog"
	"os/exec"
	"sync"
	"testing"
)

// The exit of a process says nothing about the pipe that has its closed pipe's index by then.
func TestExitOfAClosedPipesWorker(t *testing.T) {
	guard(t)
	r := begin(t, WithMaxPipes(1))
	s, rcv := pipe(t, r)
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	must(t, err)
	w, err := r.Launch(cmd, s)
	must(t, err)
	must(t, rcv.Close())
	next, nextRcv := pipe(t, r)
	must(t, in.Close())
	must(t, w.Wait()) // the monitor was told before
	must(t, next.Start())
	must(t, next.Send(background, []byte("x")))
	if m, err := nextRcv.Recv(background); err != nil || string(m.Data) != "x" {
		t.Errorf("%q, %v", m.Data, err)
	}
	must(t, next.Stop())
}

// Whose entry was overwritten may still send; nobody else gets its index.
func TestIndexOfADamagedEntry(t *testing.T) {
	for name, damaged := range map[string]func(uint64) uint64{
		"free":     func(uint64) uint64 { return 0 },
		"no state": func(w uint64) uint64 { return w | 7 },
	} {
		t.Run(name, func(t *testing.T) {
			guard(t)
			r := begin(t, WithMaxPipes(1))
			n := r.cur.Load()
			s, rcv := pipe(t, r)
			must(t, s.Start())
			off, _ := n.ring.User()
			entry := n.ring.Segment().Word64(off + 4096 + 32*int64(rcv.index))
			entry.Store(damaged(entry.Load()))
			_, err := rcv.Recv(background)
			wantIs(t, "Recv", err, ErrBroken)
			must(t, rcv.Close())
			_, _, err = r.Pipe()
			wantIs(t, "Pipe", err, ErrTooManyPipes)
			s.Stop() // whatever it makes of its entry
		})
	}
}

// gate is a log that stops at the first line with text until it is opened.
type gate struct {
	text          string
	once          sync.Once
	reached, open chan struct{}
}

func newGate(text string) *gate {
	return &gate{text: text, reached: make(chan struct{}), open: make(chan struct{})}
}

func (g *gate) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(g.text)) {
		g.once.Do(func() {
			close(g.reached)
			<-g.open
		})
	}
	return len(b), nil
}

// While damage hides how far the dead sent, its end is not told: the messages behind the damage would be nobody's, or
// the next pipe's with that index.
func TestEndWaitsForItsMark(t *testing.T) {
	guard(t)
	log := newGate("damage in the segment")
	r := begin(t, WithCapacity(64<<10), WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	ring := r.cur.Load().ring
	word := func(off int64) uint64 { return ring.Segment().Word64(off).Load() }
	put := func(off int64, w uint64) { ring.Segment().Word64(off).Store(w) }
	entry := func(pos uint64) int64 { return scribbledTable + int64(pos%1024)*16 }
	s, rcv := pipe(t, r)
	p := launch(t, r, s)
	must(t, p.Start())
	must(t, p.Send("x"))
	_, err := rcv.Recv(background)
	must(t, err)

	// The monitor steps over a record without a state, and is held there.
	pos, err := ring.Frontier()
	must(t, err)
	put(entry(pos), (pos/1024+1)<<2|1<<45)
	within(t, "damage", log.reached)
	for _, text := range []string{"a", "b", "c"} {
		must(t, p.Send(text))
	}
	a := r.cur.Load().cons.Position()
	put(entry(a), word(entry(a))+1<<2) // of the next lap
	put(8192, 0)
	if _, err := ring.Frontier(); err == nil {
		t.Fatal("the frontier can be seen")
	}
	must(t, p.w.Kill())
	within(t, "exit", p.w.Done())
	close(log.open)

	for _, text := range []string{"b", "c"} {
		if m, err := rcv.Recv(background); err != nil || string(m.Data) != text {
			t.Errorf("%q, %v instead of %q", m.Data, err, text)
		}
	}
	_, err = rcv.Recv(background)
	wantIs(t, "end", err, ErrPeerDied)
	if n := r.Stats().Malformed; n != 0 {
		t.Errorf("%d malformed", n)
	}
}
