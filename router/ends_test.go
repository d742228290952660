package router

import (
	"bytes"
	"log/slog"
	"os/exec"
	"sync"
	"sync/atomic"
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

// damage is somebody who writes to a ring of 64 KiB.
type damage struct {
	t testing.TB
	n *run
}

func damageOf(t testing.TB, r *Router) damage { return damage{t, r.cur.Load()} }

func (d damage) header(pos uint64) *atomic.Uint64 {
	return d.n.ring.Segment().Word64(scribbledTable + int64(pos%1024)*16)
}

// front makes what comes next a record without a state, which the monitor steps over.
func (d damage) front() {
	d.t.Helper()
	pos, err := d.n.ring.Frontier()
	must(d.t, err)
	d.header(pos).Store((pos/1024+1)<<2 | 1<<45)
}

// hide spoils the first record that was not polled, and head, so that nobody sees how far claims go until the
// monitor has stepped over the record.
func (d damage) hide() {
	d.t.Helper()
	d.header(d.n.cons.Position()).Add(1 << 2) // of the next lap
	d.n.ring.Segment().Word64(8192).Store(0)
	if _, err := d.n.ring.Frontier(); err == nil {
		d.t.Fatal("the frontier can be seen")
	}
}

// While damage hides how far the dead sent, its end is not told: the messages behind the damage would be nobody's, or
// the next pipe's with that index.
func TestEndWaitsForItsMark(t *testing.T) {
	guard(t)
	log := newGate("damage in the segment")
	r := begin(t, WithCapacity(64<<10), WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	s, rcv := pipe(t, r)
	p := launch(t, r, s)
	must(t, p.Start())
	must(t, p.Send("x"))
	_, err := rcv.Recv(background)
	must(t, err)

	damage := damageOf(t, r)
	damage.front()
	within(t, "damage", log.reached)
	for _, text := range []string{"a", "b", "c"} {
		must(t, p.Send(text))
	}
	damage.hide()
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
