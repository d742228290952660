package router

import (
	"os/exec"
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
