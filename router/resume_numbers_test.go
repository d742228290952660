package router

import (
	"io"
	"sync/atomic"
	"testing"

	"github.com/shmrouter/shmrouter/ring"
)

// Numbers go on in the next life, however many there were: the ring has 16 bits of
// each, and the directory the rest.
func TestResumeGoesOnCounting(t *testing.T) {
	guard(t)
	r := begin(t, WithPath(t.TempDir()+"/segment"), WithResume())
	s, rcv := pipe(t, r)
	must(t, s.Start())
	seq := uint64(0)
	for _, n := range []int{40_000, 70_000, 1, 0, 40_000} {
		handled := make(chan uint64, n)
		last := seq
		rcv.Handle(func(m Message) {
			if m.Seq != last+1 || m.Redelivered {
				t.Errorf("number %d behind %d, redelivered %v", m.Seq, last, m.Redelivered)
			}
			last = m.Seq
			handled <- m.Seq
		}, nil)
		for range n {
			must(t, s.Send(background, nil))
		}
		for range n {
			seq = within(t, "message", handled)
		}
		eventually(t, "released", func() bool { return allReleased(t, r) })
		must(t, r.Stop())
		rcv = resume(t, r, rcv)[0]
	}
	must(t, s.Stop())
	must(t, rcv.Close())
}

// allReleased reports whether head has come to the frontier. Stats.Ring.Used does
// not tell: it ends at the hint, which lags.
func allReleased(t testing.TB, r *Router) bool {
	t.Helper()
	pos, err := r.cur.Load().ring.Frontier()
	must(t, err)
	return r.Stats().Ring.Head == pos
}

// A router that dies while it releases has noted numbers at most a Poll ahead of
// head, also where it comes to release much at a time: the next one could not tell
// 32768 ahead from behind.
func TestResumeNotesNumbersPollByPoll(t *testing.T) {
	guard(t)
	const n = 40_000
	var armed atomic.Bool
	var onRelease func(releaseStep)
	testHookRelease = func(step releaseStep) {
		if armed.Load() {
			onRelease(step)
		}
	}
	t.Cleanup(func() { testHookRelease = nil })
	r := begin(t, WithPath(t.TempDir()+"/segment"), WithResume(), WithQueue(n))
	s1, front := pipe(t, r)
	s2, rcv := pipe(t, r)
	must(t, s1.Start())
	must(t, s2.Start())
	must(t, s1.Send(background, nil))
	for range n {
		must(t, s2.Send(background, nil))
	}
	for range n {
		_, err := rcv.Recv(background)
		must(t, err)
	}
	var released, most uint64
	onRelease = func(step releaseStep) {
		switch noted := r.cur.Load().dir.Load(rcv.index).Released; step {
		case releaseNoted:
			most = max(most, noted-released)
		case releaseDone:
			released = noted
		}
	}
	armed.Store(true)
	_, err := front.Recv(background)
	must(t, err)
	armed.Store(false)
	if released != n || most > batchItems {
		t.Errorf("released up to number %d, noted up to %d ahead", released, most)
	}
	must(t, s1.Stop())
	must(t, s2.Stop())
	must(t, front.Close())
	must(t, rcv.Close())
}

// A worker dies while no router is there, and another takes its slot, and lives.
func TestResumeLearnsOfDeathsBehindALaterHolder(t *testing.T) {
	guard(t)
	path := t.TempDir() + "/segment"
	r := begin(t, WithPath(path), WithResume())
	s1, rcv1 := pipe(t, r)
	s2, rcv2 := pipe(t, r)
	killed, later := launch(t, r, s1), launch(t, r, s2)
	must(t, killed.Start())
	must(t, r.Stop())
	must(t, killed.w.Kill())
	within(t, "worker ends", killed.w.Done())
	slotIsFree(t, path)
	must(t, later.Start())
	rcvs := resume(t, r, rcv1, rcv2)
	if slots := r.Stats().Ring.Slots; len(slots) != 1 || slots[0].Instance != 2 {
		t.Errorf("slots: %+v", slots)
	}
	_, err := rcvs[0].Recv(background)
	wantIs(t, "end", err, ErrPeerDied)
	must(t, later.Send("alive"))
	m, err := rcvs[1].Recv(background)
	must(t, err)
	if string(m.Data) != "alive" {
		t.Errorf("got %q", m.Data)
	}
	must(t, later.Stop())
	must(t, rcvs[0].Close())
	must(t, rcvs[1].Close())
}

// slotIsFree waits for the first slot to be, where no router is.
func slotIsFree(t testing.TB, path string) {
	t.Helper()
	rg, err := ring.OpenPath(path)
	must(t, err)
	defer rg.Close()
	c, err := rg.Consume()
	must(t, err)
	defer c.Close()
	eventually(t, "the slot is free", func() bool {
		alive, err := c.SlotAlive(0)
		must(t, err)
		return !alive
	})
}

// An end that was told, of a pipe that is not closed yet, is told again, also while
// the worker lives on with another sender.
func TestResumeTellsAnEndAgain(t *testing.T) {
	guard(t)
	r := begin(t, WithPath(t.TempDir()+"/segment"), WithResume())
	s1, rcv1 := pipe(t, r)
	s2, rcv2 := pipe(t, r)
	must(t, s1.Start())
	must(t, s2.Start())
	must(t, s1.Stop())
	if _, err := rcv1.Recv(background); err != io.EOF {
		t.Errorf("end: %v", err)
	}
	eventually(t, "released", func() bool { return allReleased(t, r) })
	must(t, r.Stop())
	rcvs := resume(t, r, rcv1, rcv2)
	if _, err := rcvs[0].Recv(background); err != io.EOF {
		t.Errorf("end: %v", err)
	}
	must(t, s2.Stop())
	if _, err := rcvs[1].Recv(background); err != io.EOF {
		t.Errorf("end: %v", err)
	}
	must(t, rcvs[0].Close())
	must(t, rcvs[1].Close())
}
