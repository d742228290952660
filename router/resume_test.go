package router

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/sender"
)

// A router is killed again and again while a worker sends, and another goes on:
// nothing is lost, what comes twice is marked, and order holds within each life.
func TestResumeAfterKill(t *testing.T) {
	guard(t)
	path := t.TempDir() + "/segment"
	first, out := launchRouter(t, path)
	if !out.Scan() {
		t.Fatal("no token")
	}
	s, err := sender.Open(out.Text())
	must(t, err)
	must(t, s.Start())
	l := &local{s: s}
	must(t, l.SendMany(1000, 100))
	handled := 0
	for range 300 {
		if !out.Scan() {
			t.Fatal("first router is gone")
		}
		handled++
	}
	must(t, first.Process.Kill())
	for out.Scan() {
		handled++
	}
	first.Wait()
	must(t, l.SendMany(1000, 100)) // nobody is there

	stage := newStage()
	r := begin(t, WithPath(path), WithResume(), WithEventLoop(stage.loop()))
	rcvs, err := r.Receivers()
	must(t, err)
	if len(rcvs) != 1 || rcvs[0].ID() != s.ID() {
		t.Fatalf("receivers: %v", rcvs)
	}
	must(t, l.SendMany(1000, 100)) // and after the take-over
	var seqs []uint64
	marked := 0
	rcvs[0].Handle(func(m Message) {
		checkBody(t, int(m.Seq-1)%1000, m.Data)
		if m.Redelivered {
			marked++
		}
		seqs = append(seqs, m.Seq)
	}, nil)
	stage.until(t, "all", func() bool { return len(seqs) > 0 && seqs[len(seqs)-1] == 3000 })
	for i, seq := range seqs[1:] {
		if seq != seqs[i]+1 {
			t.Fatalf("number %d behind %d", seq, seqs[i])
		}
	}
	if int(seqs[0]) > handled+1 || seqs[0] > 2001 {
		t.Errorf("first number %d, but only %d were handled", seqs[0], handled)
	}
	if want := 2000 - int(seqs[0]) + 1; marked != want {
		t.Errorf("%d marked as redelivered, want %d", marked, want)
	}
	if life := r.Stats().EarlierLives; life != 1 {
		t.Errorf("life %d", life)
	}
	must(t, l.Stop())
	must(t, rcvs[0].Close())
	t.Logf("%d handled by the first, from number %d on by the second", handled, seqs[0])
}

// launchRouter starts a main process that will be killed.
func launchRouter(t *testing.T, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := command(t, "router", path)
	outR, finish := listen(t, cmd)
	err := cmd.Start()
	finish()
	must(t, err)
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, bufio.NewScanner(outR)
}

// What the monitor holds back because the inbox is full is not given up either.
func TestResumeGivesUpNothingHeldBack(t *testing.T) {
	guard(t)
	stage := newStage()
	r := begin(t, WithPath(t.TempDir()+"/segment"), WithResume(), WithEventLoop(stage.loop()), WithInbox(1))
	s, _ := pipe(t, r)
	l := &local{s: s}
	must(t, l.Start())
	for n := range 2 { // the loop never runs: the first is in the inbox, the second has no place there
		must(t, l.TrySend("held back"))
		eventually(t, "copied", func() bool { return r.Stats().Copied == uint64(n)+1 })
	}
	must(t, r.Stop())
	within(t, "done", r.Done())
	if got := r.Stats().Unrouted; got != 0 {
		t.Errorf("%d given up", got)
	}
	must(t, l.Stop())
}

// resume begins the next life of a router that has stopped, and returns its receivers: those of the pipes before.
func resume(t testing.TB, r *Router, before ...*Receiver) []*Receiver {
	t.Helper()
	must(t, r.Start())
	rcvs, err := r.Receivers()
	must(t, err)
	same := func(a, b *Receiver) bool { return a != b && a.ID() == b.ID() }
	if !slices.EqualFunc(rcvs, before, same) {
		t.Fatalf("receivers: %v, before %v", rcvs, before)
	}
	return rcvs
}

func TestResumeInProcess(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		path := t.TempDir() + "/segment"
		stage := newStage()
		r := begin(t, WithPath(path), WithResume(), WithEventLoop(stage.loop()))
		s, old := pipe(t, r)
		p := far(r, s)
		must(t, p.Start())
		must(t, p.SendMany(10, 8))
		got := 0
		old.Handle(func(m Message) {
			if got++; got == 4 {
				must(t, r.Stop()) // this one and those behind it come again
			}
		}, nil)
		stage.until(t, "stopped", func() bool { return got == 4 })
		within(t, "done", r.Done())
		if n := r.Stats().Unrouted; n != 0 {
			t.Errorf("%d given up", n)
		}
		must(t, p.Send("while nobody is there"))

		rcvs := resume(t, r, old)
		s2, rcv2 := pipe(t, r)
		if s2.ID() == s.ID() {
			t.Error("an id is used again")
		}
		must(t, p.Send("now"))
		must(t, p.Stop())
		var seqs []uint64
		ended := false
		rcvs[0].Handle(func(m Message) {
			if m.Redelivered != (m.Seq <= 11) {
				t.Errorf("number %d: redelivered %v", m.Seq, m.Redelivered)
			}
			seqs = append(seqs, m.Seq)
		}, func(err error) { ended = err == nil })
		stage.until(t, "end", func() bool { return ended })
		if n := len(seqs); n == 0 || seqs[n-1] != 12 || seqs[0] > 4 || n != int(12-seqs[0]+1) {
			t.Errorf("numbers: %v", seqs)
		}
		must(t, rcvs[0].Close())
		must(t, rcv2.Close())
		must(t, r.Stop())
		if _, err := os.Stat(path); err != nil {
			t.Errorf("the segment is gone: %v", err)
		}
	})
}

// Space is given back when a handler has returned, not before.
func TestResumeReleasesWhatWasHandled(t *testing.T) {
	guard(t)
	stage := newStage()
	r := begin(t, WithPath(t.TempDir()+"/segment"), WithResume(), WithEventLoop(stage.loop()))
	s, rcv := pipe(t, r)
	l := &local{s: s}
	must(t, l.Start())
	must(t, l.Send("x"))
	stage.until(t, "held", func() bool { return r.Stats().Routed == 1 })
	if head := r.Stats().Ring.Head; head != 0 {
		t.Errorf("released to %d while held", head)
	}
	inside := uint64(1)
	rcv.Handle(func(Message) { inside = r.Stats().Ring.Head }, nil)
	stage.until(t, "handled", func() bool { return inside == 0 })
	if head := r.Stats().Ring.Head; head != 1 {
		t.Errorf("head %d after the handler", head)
	}
	// Taken, discarded, and panicked over is handled, too.
	rcv.Handle(func(Message) { panic("x") }, nil)
	must(t, l.Send("x"))
	stage.until(t, "head moves", func() bool { return r.Stats().Ring.Head == 2 })
	rcv.Handle(nil, nil)
	must(t, l.Send("x"))
	stage.until(t, "held", func() bool { return r.Stats().Routed == 3 })
	for range rcv.Messages(background) {
		if head := r.Stats().Ring.Head; head != 2 {
			t.Errorf("head %d in the loop's body", head)
		}
		break
	}
	if head := r.Stats().Ring.Head; head != 3 {
		t.Errorf("head %d behind the loop", head)
	}
	must(t, l.Send("x"))
	stage.until(t, "held", func() bool { return r.Stats().Routed == 4 })
	func() {
		defer func() { recover() }()
		for range rcv.Messages(background) {
			panic("x")
		}
	}()
	if head := r.Stats().Ring.Head; head != 4 {
		t.Errorf("head %d behind a loop that panicked", head)
	}
	must(t, l.Send("x"))
	stage.until(t, "held", func() bool { return r.Stats().Routed == 5 })
	must(t, rcv.Close())
	if head := r.Stats().Ring.Head; head != 5 {
		t.Errorf("head %d after Close", head)
	}
	must(t, l.Stop())
}

// A segment of another version of the directory, or without any, is refused and
// left as it is.
func TestResumeRefusesOtherVersions(t *testing.T) {
	guard(t)
	path := t.TempDir() + "/segment"
	refused := func(what string) {
		t.Helper()
		before, err := os.ReadFile(path)
		must(t, err)
		r, err := New(WithPath(path), WithResume())
		must(t, err)
		wantIs(t, what, r.Start(), ErrNotResumable)
		after, err := os.ReadFile(path)
		must(t, err)
		if !bytes.Equal(before, after) {
			t.Errorf("%s: the file has changed", what)
		}
		must(t, os.Remove(path))
	}
	rg, err := ring.Create(path, ring.Options{Capacity: 64 << 10})
	must(t, err)
	must(t, rg.Close())
	refused("a ring without a router")
	must(t, stopped(t, WithPath(path), WithResume(), WithCapacity(64<<10)))
	rg, err = ring.OpenPath(path)
	must(t, err)
	off, _ := rg.User()
	rg.Segment().Word64(off).Add(1) // the magic's version
	must(t, rg.Close())
	refused("another version")
}

// stopped leaves a segment as a router does that was killed when it had just begun.
func stopped(t *testing.T, opts ...Option) error {
	t.Helper()
	r := begin(t, opts...)
	path := r.cur.Load().opts.path
	kept := path + ".kept"
	if err := os.Link(path, kept); err != nil {
		return err
	}
	if err := r.Stop(); err != nil {
		return err
	}
	return os.Rename(kept, path)
}

func TestResumeRefuses(t *testing.T) {
	guard(t)
	path := t.TempDir() + "/segment"
	plain := begin(t, WithPath(path))
	r, err := New(WithPath(path), WithResume())
	must(t, err)
	wantIs(t, "Start on a plain router's segment", r.Start(), ErrNotResumable)
	must(t, plain.Stop())
	must(t, r.Start())
	second, err := New(WithPath(path), WithResume())
	must(t, err)
	wantIs(t, "Start beside a living router", second.Start(), ring.ErrConsumerBusy)
	wantIs(t, "Start without WithResume", plain.Start(), os.ErrExist)
	s, rcv := pipe(t, r)
	must(t, s.Start())
	wantIs(t, "more than a frame", s.Send(background, make([]byte, 1<<20)), ring.ErrTooLarge)
	must(t, s.Send(background, make([]byte, 1<<19)))
	must(t, s.Stop())
	must(t, rcv.Close())
	must(t, r.Stop())
}

// A worker dies while no router is there.
func TestResumeLearnsOfDeaths(t *testing.T) {
	guard(t)
	path := t.TempDir() + "/segment"
	r := begin(t, WithPath(path), WithResume())
	s1, rcv1 := pipe(t, r)
	s2, rcv2 := pipe(t, r)
	s3, rcv3 := pipe(t, r)
	killed, clean := launch(t, r, s1), launch(t, r, s2)
	must(t, killed.Start())
	must(t, clean.Start())
	must(t, s3.Start())
	must(t, killed.SendMany(5, 8))
	eventually(t, "routed", func() bool { return r.Stats().Routed == 5 })
	must(t, rcv3.Close()) // its sender lives on
	must(t, r.Stop())
	must(t, killed.SendMany(5, 8))
	must(t, killed.w.Kill())
	within(t, "worker ends", killed.w.Done())
	must(t, clean.Stop())
	rcvs := resume(t, r, rcv1, rcv2)
	n, last := 0, error(nil)
	for _, err := range rcvs[0].Messages(background) {
		if last = err; err == nil {
			n++
		}
	}
	var died *PeerError
	if !errors.As(last, &died) || n != 10 { // none was released: they were held
		t.Errorf("%d messages, end: %v", n, last)
	}
	for _, err := range rcvs[1].Messages(background) {
		t.Errorf("message or end: %v", err)
	}
	if got := r.Stats().Pipes; got.Lingering != 1 || got.Ended != 2 {
		t.Errorf("pipes: %+v", got)
	}
	must(t, s3.Stop())
	must(t, rcvs[0].Close())
	must(t, rcvs[1].Close())
	eventually(t, "all indexes are free", func() bool { return r.Stats().Pipes == (PipeStats{}) })
}

// A pipe is closed while messages of it lie in the ring, not released because
// somebody else's message in front of them is not handled. What is made then is
// not given the index that these carry: the next router would take them for its.
func TestResumeDoesNotMixPipes(t *testing.T) {
	for _, kept := range []bool{true, false} { // the new pipe is made before, or after, the next router starts
		guard(t)
		path := t.TempDir() + "/segment"
		stage := newStage()
		r := begin(t, WithPath(path), WithResume(), WithEventLoop(stage.loop()))
		front, held := pipe(t, r)
		must(t, front.Start())
		must(t, front.Send(background, []byte("in front")))
		stage.until(t, "held", func() bool { return r.Stats().Routed == 1 })

		old, rcv := pipe(t, r)
		must(t, old.Start())
		must(t, old.Send(background, []byte("of the old pipe")))
		must(t, old.Stop())
		ended := false
		rcv.Handle(func(Message) {}, func(error) { ended = true })
		stage.until(t, "end", func() bool { return ended })
		must(t, rcv.Close())
		before := []*Receiver{held}
		if kept {
			_, fresh := pipe(t, r)
			before = append(before, fresh)
		}
		must(t, r.Stop())
		rcvs := resume(t, r, before...)
		if !kept {
			_, fresh := pipe(t, r)
			rcvs = append(rcvs, fresh)
		}
		rcvs[1].Handle(func(m Message) { t.Errorf("the new pipe got %q", m.Data) }, func(err error) { t.Errorf("its end: %v", err) })
		rcvs[0].Handle(func(Message) {}, nil)
		must(t, front.Send(background, []byte("behind")))
		stage.until(t, "routed", func() bool { return r.Stats().Routed == 2 })
		must(t, rcvs[0].Close())
		must(t, rcvs[1].Close())
		must(t, front.Stop())
		eventually(t, "all indexes are free", func() bool { return r.Stats().Pipes == (PipeStats{}) })
		must(t, r.Stop())
	}
}

// A launched worker exits before it attaches, and the router ends before anybody
// was told: the next one has the pipe, and its end.
func TestResumeTellsOfWorkersThatNeverAttached(t *testing.T) {
	guard(t)
	stage := newStage()
	r := begin(t, WithPath(t.TempDir()+"/segment"), WithResume(), WithEventLoop(stage.loop()))
	s, rcv := pipe(t, r)
	_, err := r.Launch(command(t, "nothing", ""), s)
	must(t, err)
	eventually(t, "the exit is noticed", func() bool { return r.Stats().Ends == 1 })
	must(t, r.Stop())
	for range 2 {
		rcv = resume(t, r, rcv)[0]
		ended := false
		rcv.Handle(func(m Message) { t.Errorf("got %q", m.Data) }, func(err error) {
			ended = true
			var died *PeerError
			if !errors.As(err, &died) || died.Slot != -1 {
				t.Errorf("end: %v", err)
			}
		})
		stage.until(t, "end", func() bool { return ended })
		must(t, r.Stop())
	}
	must(t, resume(t, r, rcv)[0].Close())
	eventually(t, "all indexes are free", func() bool { return r.Stats().Pipes == (PipeStats{}) })
}
