package router

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
)

// launchFlood starts a worker that floods, and returns its acknowledgements.
func launchFlood(t testing.TB, r *Router, s *sender.Sender, size int) (*Worker, *bufio.Scanner) {
	t.Helper()
	cmd := command(t, "flood", fmt.Sprint(size))
	outR, finish := listen(t, cmd)
	w, err := r.Launch(cmd, s)
	finish()
	must(t, err)
	return w, bufio.NewScanner(outR)
}

// What was acknowledged is delivered, in order and untorn; then comes the end,
// with pid and status; and a sender that lives notices nothing.
func TestKillWhileSending(t *testing.T) {
	random := ringtest.Random(t)
	for _, size := range []int{8, 3000, 100_000} { // the last is cut into frames
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			guard(t)
			r := begin(t, WithCapacity(256<<10))
			witness, wrcv := pipe(t, r)
			must(t, witness.Start())
			for round := range 4 {
				s, rcv := pipe(t, r)
				delivered := 0
				ended := make(chan error, 1)
				rcv.Handle(func(m Message) {
					checkBody(t, delivered, m.Data)
					delivered++
				}, func(err error) { ended <- err })
				w, acks := launchFlood(t, r, s, size)
				acked := 0
				for range 1 + random.IntN(200) {
					if !acks.Scan() {
						t.Fatal("no acknowledgement")
					}
					acked++
				}
				must(t, w.Kill())
				for acks.Scan() && len(acks.Text()) == 8 {
					acked++
				}
				var died *PeerError
				if err := within(t, "end", ended); !errors.As(err, &died) {
					t.Fatalf("round %d: end: %v", round, err)
				}
				status, ok := died.State.Sys().(syscall.WaitStatus)
				if died.PID != w.PID() || !ok || status.Signal() != syscall.SIGKILL || died.Slot < 0 {
					t.Errorf("end: %v, %+v", died, died)
				}
				if delivered < acked {
					t.Errorf("%d delivered of %d acknowledged", delivered, acked)
				}
				must(t, rcv.Close())
				must(t, witness.Send(background, body(round, 8)))
				m, err := wrcv.Recv(background)
				must(t, err)
				checkBody(t, round, m.Data)
			}
			must(t, witness.Stop())
			must(t, wrcv.Close())
			if s := r.Stats(); s.Malformed != 0 || s.Damages != 0 {
				t.Errorf("%+v", s)
			}
			eventually(t, "no pipe lingers", func() bool { return r.Stats().Pipes == (PipeStats{}) })
		})
	}
}

func TestWorkerForgetsToStop(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	p := launch(t, r, s)
	must(t, p.Start())
	must(t, p.Send("x"))
	p.exit(7)
	if m, err := rcv.Recv(background); err != nil || string(m.Data) != "x" {
		t.Errorf("got %q, %v", m.Data, err)
	}
	_, err := rcv.Recv(background)
	var died *PeerError
	if !errors.As(err, &died) || died.State == nil || died.State.ExitCode() != 7 || died.PID != p.w.PID() {
		t.Errorf("end: %v", err)
	}
	_, again := rcv.Recv(background)
	if again != err {
		t.Errorf("second end: %v", again)
	}
	must(t, rcv.Close())
	var exit *exec.ExitError
	if err := p.w.Wait(); !errors.As(err, &exit) {
		t.Errorf("Wait: %v", err)
	}
}

func TestWorkerDiesBeforeItAttaches(t *testing.T) {
	guard(t)
	r := begin(t)
	s1, rcv1 := pipe(t, r)
	s2, rcv2 := pipe(t, r)
	w, err := r.Launch(command(t, "nothing", ""), s1, s2)
	must(t, err)
	for _, rcv := range []*Receiver{rcv1, rcv2} {
		_, err := rcv.Recv(background)
		var died *PeerError
		if !errors.As(err, &died) || died.Slot != -1 || died.State.ExitCode() != 3 || died.PID != w.PID() {
			t.Errorf("end: %v", err)
		}
		must(t, rcv.Close())
	}
	if got := r.Stats().Pipes; got != (PipeStats{}) {
		t.Errorf("pipes: %+v", got)
	}
}

// A child of a worker that holds its output open does not hold up its end.
func TestChildHoldsTheOutput(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	held, err := os.CreateTemp(t.TempDir(), "pid")
	must(t, err)
	defer held.Close()
	cmd := exec.Command("sh", "-c", "sleep 1000 & echo $! >&3")
	cmd.ExtraFiles = []*os.File{held}
	cmd.Stdout = new(strings.Builder)
	w, err := r.Launch(cmd, s)
	must(t, err)
	ended := make(chan error, 1)
	rcv.Handle(func(Message) {}, func(err error) { ended <- err })
	var died *PeerError
	if err := within(t, "end", ended); !errors.As(err, &died) || died.State == nil || died.State.ExitCode() != 0 {
		t.Errorf("end: %v", err)
	}
	wantIs(t, "Wait", w.Wait(), exec.ErrWaitDelay)
	var pid int
	text, err := os.ReadFile(held.Name())
	must(t, err)
	fmt.Sscan(string(text), &pid)
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	must(t, rcv.Close())
}

func TestLaunchFails(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	_, err := r.Launch(exec.Command("/no/such/program"), s)
	wantIs(t, "Launch", err, os.ErrNotExist)
	must(t, rcv.Close())
	s, rcv = pipe(t, r)
	p := launch(t, r, s)
	wantIs(t, "Launch again", second(0, 0, r.HandOver(p.w.current().cmd)), ErrStarted)
	must(t, rcv.Close())
}

func TestReportExit(t *testing.T) {
	guard(t)
	r := begin(t)
	for _, attaches := range []bool{true, false} {
		s, rcv := pipe(t, r)
		cmd := command(t, "puppet", "")
		p, finish := connect(t, cmd)
		must(t, r.HandOver(cmd, s))
		must(t, cmd.Start())
		for _, f := range cmd.ExtraFiles {
			f.Close()
		}
		finish()
		if attaches {
			must(t, p.Start())
		}
		p.exit(5)
		if err := cmd.Wait(); err == nil {
			t.Error("Wait: no error")
		}
		must(t, r.ReportExit(cmd))
		_, err := rcv.Recv(background)
		var died *PeerError
		if !errors.As(err, &died) || died.State == nil || died.State.ExitCode() != 5 || died.PID != cmd.Process.Pid {
			t.Errorf("end: %v", err)
		}
		must(t, rcv.Close())
		wantIs(t, "second ReportExit", r.ReportExit(cmd), ErrForeign)
	}
}

// Several pipes, of two routers, in one worker: all end with it.
func TestWorkerWithSeveralSenders(t *testing.T) {
	guard(t)
	a, b := begin(t), begin(t)
	var senders []*sender.Sender
	var receivers []*Receiver
	for range 3 {
		s, rcv := pipe(t, a)
		senders, receivers = append(senders, s), append(receivers, rcv)
	}
	sb, rb := pipe(t, b)
	cmd := command(t, "puppet", "")
	p, finish := connect(t, cmd)
	must(t, b.HandOver(cmd, sb))
	ofB := cmd.ExtraFiles[0]
	w, err := a.Launch(cmd, senders...)
	must(t, err)
	ofB.Close()
	finish()
	p.w = w
	must(t, p.Start())
	must(t, p.SendMany(10, 100))
	must(t, w.Kill())
	for _, rcv := range append(receivers, rb) {
		n := 0
		var last error
		for m, err := range rcv.Messages(background) {
			if last = err; err == nil {
				checkBody(t, n, m.Data)
				n++
			}
		}
		if n != 10 || !errors.Is(last, ErrPeerDied) {
			t.Errorf("%d messages, then %v", n, last)
		}
		must(t, rcv.Close())
	}
}

// Without pidfds the locks are asked for, a few at a time.
func TestDeathWithoutPidfd(t *testing.T) {
	guard(t)
	watchDeath = func(int, uint64, func()) (func(), error) { return nil, errors.ErrUnsupported }
	r := begin(t)
	t.Cleanup(func() { halt(t, r); watchDeath = shm.WatchDeath })
	var peers []*remote
	var receivers []*Receiver
	for range 3 {
		s, rcv := pipe(t, r)
		p := launch(t, r, s)
		must(t, p.Start())
		must(t, p.Send("x"))
		peers, receivers = append(peers, p), append(receivers, rcv)
	}
	for i, p := range peers {
		must(t, p.w.Kill())
		if m, err := receivers[i].Recv(background); err != nil || string(m.Data) != "x" {
			t.Errorf("got %q, %v", m.Data, err)
		}
		_, err := receivers[i].Recv(background)
		wantIs(t, "end", err, ErrPeerDied)
		must(t, receivers[i].Close())
	}
}

// A slot's next holder does not hide the death of the last.
func TestSlotIsTakenAgainAtOnce(t *testing.T) {
	guard(t)
	r := begin(t)
	for range 5 {
		s1, rcv1 := pipe(t, r)
		s2, rcv2 := pipe(t, r)
		p1, p2 := launch(t, r, s1), launch(t, r, s2)
		must(t, p1.Start())
		must(t, p1.w.Kill())
		within(t, "worker ends", p1.w.Done())
		must(t, p2.Start())
		_, err := rcv1.Recv(background)
		wantIs(t, "end", err, ErrPeerDied)
		must(t, p2.Send("alive"))
		if m, err := rcv2.Recv(background); err != nil || string(m.Data) != "alive" {
			t.Errorf("got %q, %v", m.Data, err)
		}
		must(t, p2.Stop())
		if _, err := rcv2.Recv(background); err != io.EOF {
			t.Errorf("end: %v", err)
		}
		must(t, rcv1.Close())
		must(t, rcv2.Close())
	}
}

// The end of a killed worker waits behind a living one's open claim, whatever
// stands behind that.
func TestEndWaitsForItsPlace(t *testing.T) {
	guard(t)
	stalls := make(chan ring.StallEvent, 16)
	r := begin(t, WithStallHook(func(e ring.StallEvent) { stalls <- e }))
	s1, rcv1 := pipe(t, r)
	s2, rcv2 := pipe(t, r)
	slow, killed := launch(t, r, s1), launch(t, r, s2)
	must(t, slow.Start())
	must(t, killed.Start())
	must(t, slow.Claim(1000))
	must(t, killed.SendMany(5, 8))
	must(t, killed.w.Kill())
	within(t, "worker ends", killed.w.Done())
	if e := within(t, "stall", stalls); e.PID != slow.w.PID() || e.Age < ring.StallAfter {
		t.Errorf("stall: %+v", e)
	}
	if s := r.Stats(); s.Copied != 0 || s.Ends != 0 {
		t.Errorf("went past an open claim: %+v", s)
	}
	must(t, slow.Commit())
	n := 0
	for _, err := range rcv2.Messages(background) {
		if err == nil {
			n++
		} else {
			wantIs(t, "end", err, ErrPeerDied)
		}
	}
	if n != 5 {
		t.Errorf("%d messages", n)
	}
	must(t, slow.Stop())
	must(t, rcv1.Close())
	must(t, rcv2.Close())
}

// A sender that stops while the ring is full cannot say so in the ring.
func TestEndWhenTheRingIsFull(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		stage := newStage()
		r := begin(t, WithEventLoop(stage.loop()), WithCapacity(64<<10), WithInbox(1))
		s, rcv := pipe(t, r)
		p := far(r, s)
		must(t, p.Start())
		n := 0
		for ; p.TrySend("x") == nil; n++ {
		}
		must(t, p.Stop())
		got := 0
		var end error = errors.New("none")
		rcv.Handle(func(Message) { got++ }, func(err error) { end = err })
		stage.until(t, "end", func() bool { return end == nil })
		if got != n {
			t.Errorf("%d of %d messages before the end", got, n)
		}
		must(t, rcv.Close())
	})
}

func TestWorkerByPath(t *testing.T) {
	guard(t)
	r := begin(t, WithPath(t.TempDir()+"/segment"))
	s, rcv := pipe(t, r)
	token, err := s.Token()
	must(t, err)
	cmd := command(t, "path", token)
	must(t, cmd.Start())
	n := 0
	for m, err := range rcv.Messages(background) {
		must(t, err)
		checkBody(t, n, m.Data)
		n++
	}
	if n != 100 {
		t.Errorf("%d messages", n)
	}
	must(t, cmd.Wait())
	must(t, rcv.Close())
}

// Stop ends under a flood of several workers, and so do they.
func TestStopUnderAFlood(t *testing.T) {
	guard(t)
	r := begin(t)
	var workers []*Worker
	var wg sync.WaitGroup
	for range 3 {
		s, rcv := pipe(t, r)
		rcv.Handle(func(Message) {}, nil)
		w, acks := launchFlood(t, r, s, 64)
		wg.Go(func() {
			for acks.Scan() {
			}
		})
		workers = append(workers, w)
	}
	eventually(t, "flood", func() bool { return r.Stats().Routed > 1000 })
	stopped := make(chan error, 1)
	go func() { stopped <- r.Stop() }()
	must(t, within(t, "Stop", stopped))
	for _, w := range workers {
		within(t, "worker ends by itself", w.Done())
		must(t, w.Wait())
	}
	wg.Wait()
}

// A cancelled large message was not delivered, and what is left of one whose
// sender was killed does no harm to the slot's next holder.
func TestLargeMessageIsCutShort(t *testing.T) {
	guard(t)
	stage := newStage()
	r := begin(t, WithEventLoop(stage.loop()), WithCapacity(64<<10))
	s0, _ := pipe(t, r)
	front := &local{s: s0}
	must(t, front.Start())
	s1, rcv1 := pipe(t, r)
	p := launch(t, r, s1)
	must(t, p.Start())
	must(t, front.Claim(100))                      // nothing behind it is copied
	p.tell(order{Op: "many", N: 1, Size: 1 << 20}) // waits for room after the first frames
	eventually(t, "the ring is full", func() bool { return r.Stats().Ring.Waiters })
	must(t, p.w.Kill())
	within(t, "worker ends", p.w.Done())
	must(t, front.Commit())
	must(t, front.Stop())
	s2, rcv2 := pipe(t, r)
	q := launch(t, r, s2)
	must(t, q.Start())
	var end error
	var got []int
	rcv1.Handle(func(Message) { t.Error("half a message was delivered") }, func(err error) { end = err })
	rcv2.Handle(func(m Message) { checkBody(t, 0, m.Data); got = append(got, len(m.Data)) }, nil)
	q.tell(order{Op: "many", N: 1, Size: 200_000})
	stage.until(t, "both", func() bool { return end != nil && len(got) == 1 })
	wantIs(t, "end", end, ErrPeerDied)
	if st := r.Stats(); st.Unfinished != 1 || st.Malformed != 0 {
		t.Errorf("%d unfinished, %d malformed", st.Unfinished, st.Malformed)
	}
	must(t, rcv1.Close())
	must(t, rcv2.Close())
}

// All frames of a large message are committed, but not yet copied, when its
// sender's death is noticed: it is delivered.
func TestLargeMessageSurvivesItsSender(t *testing.T) {
	guard(t)
	r := begin(t, WithCapacity(256<<10))
	for range 5 {
		s0, rcv0 := pipe(t, r)
		s1, rcv1 := pipe(t, r)
		front, p := &local{s: s0}, launch(t, r, s1)
		must(t, front.Start())
		must(t, p.Start())
		must(t, front.Claim(100))
		must(t, p.SendMany(1, 100_000)) // four frames
		must(t, p.w.Kill())
		within(t, "worker ends", p.w.Done())
		eventually(t, "the death is noticed", func() bool { return r.Stats().Queries > 0 })
		must(t, front.Commit())
		m, err := rcv1.Recv(background)
		must(t, err)
		checkBody(t, 0, m.Data)
		_, err = rcv1.Recv(background)
		var died *PeerError
		if !errors.As(err, &died) || died.State == nil || died.PID != p.w.PID() {
			t.Errorf("end: %v", err)
		}
		must(t, front.Stop())
		must(t, rcv0.Close())
		must(t, rcv1.Close())
	}
}

// A death is told soon: the pidfd brings the news, the lock confirms it.
func TestDeathIsToldSoon(t *testing.T) {
	guard(t)
	r := begin(t)
	best := time.Hour
	for range 5 {
		s, rcv := pipe(t, r)
		p := launch(t, r, s)
		must(t, p.Start())
		must(t, p.Send("x"))
		_, err := rcv.Recv(background)
		must(t, err)
		eventually(t, "the router watches", func() bool { return r.Stats().Watched > 0 })
		killed := time.Now()
		must(t, p.w.Kill())
		_, err = rcv.Recv(background)
		best = min(best, time.Since(killed))
		wantIs(t, "end", err, ErrPeerDied)
		must(t, rcv.Close())
	}
	if best > 90*time.Millisecond {
		t.Errorf("at best %v after the kill: that is the tick's work", best)
	}
	t.Logf("at best %v after the kill", best)
}
