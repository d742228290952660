package router

import (
	"io"
	"testing"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/sender"
)

// 1b is the sender.

func TestSenderStates(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		r := begin(t)
		s, rcv := pipe(t, r)
		p := far(r, s)
		state := func(want string) {
			t.Helper()
			if got := p.State(); got != want {
				t.Errorf("state %s, want %s", got, want)
			}
		}
		state("initial")
		wantIs(t, "Send before Start", p.Send("x"), sender.ErrState)
		wantIs(t, "Stop before Start", p.Stop(), sender.ErrState)
		must(t, p.Start())
		state("open")
		wantIs(t, "second Start", p.Start(), sender.ErrState)
		must(t, p.Send("x"))
		must(t, p.Stop())
		state("closed")
		wantIs(t, "Start after Stop", p.Start(), sender.ErrState)
		wantIs(t, "Send after Stop", p.Send("x"), sender.ErrState)
		wantIs(t, "second Stop", p.Stop(), sender.ErrState)
		if m, err := rcv.Recv(background); err != nil || string(m.Data) != "x" {
			t.Errorf("got %q, %v", m.Data, err)
		}
		if _, err := rcv.Recv(background); err != io.EOF {
			t.Errorf("end: %v", err)
		}
		must(t, rcv.Close())
	})
}

func TestOneSenderPerPipe(t *testing.T) {
	guard(t)
	r := begin(t, WithPath(t.TempDir()+"/segment"))
	s, rcv := pipe(t, r)
	token, err := s.Token()
	must(t, err)
	must(t, s.Start())
	again, err := sender.Open(token)
	must(t, err)
	wantIs(t, "Start of a copy", again.Start(), sender.ErrPipeInUse)
	must(t, s.Stop())
	wantIs(t, "Start of a copy after the end", again.Start(), sender.ErrPipeInUse)
	must(t, rcv.Close())
	eventually(t, "freed", func() bool { return r.Stats().Pipes == (PipeStats{}) })
	wantIs(t, "Start of a copy after ClosePipe", again.Start(), sender.ErrPipeClosed)
	must(t, again.Close())
}

func TestTokenOfAnotherRun(t *testing.T) {
	guard(t)
	path := t.TempDir() + "/segment"
	r := begin(t, WithPath(path))
	s, _ := pipe(t, r)
	token, err := s.Token()
	must(t, err)
	must(t, r.Stop())
	must(t, r.Start()) // another segment at the same path
	_, err = sender.Open(token)
	wantIs(t, "Open", err, sender.ErrOtherRouter)
}

func TestEmptyMessages(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		r := begin(t)
		s, rcv := pipe(t, r)
		p := far(r, s)
		must(t, p.Start())
		must(t, p.Send("")) // nil, in process, is the same
		must(t, p.Stop())
		if m, err := rcv.Recv(background); err != nil || m.Data == nil || len(m.Data) != 0 {
			t.Errorf("got %v, %v", m.Data, err)
		}
		must(t, rcv.Close())
	})
}

func TestTooLarge(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		r := begin(t, WithMaxMessage(1<<20), WithCapacity(256<<10))
		s, rcv := pipe(t, r)
		p := far(r, s)
		must(t, p.Start())
		wantIs(t, "Send", p.SendMany(1, 1<<20+1), ring.ErrTooLarge)
		go func() { rcv.Handle(func(m Message) { checkBody(t, 0, m.Data) }, nil) }()
		must(t, p.SendMany(1, 1<<20)) // 32 frames
		must(t, p.Stop())
		eventually(t, "routed", func() bool { return r.Stats().Routed == 1 })
		must(t, rcv.Close())
	})
}

func TestSendSurvivesItsSender(t *testing.T) {
	guard(t)
	stage := newStage()
	r := begin(t, WithEventLoop(stage.loop()))
	s, rcv := pipe(t, r)
	p := launch(t, r, s)
	must(t, p.Start())
	must(t, p.Send("committed"))
	must(t, p.w.Kill())
	within(t, "worker ends", p.w.Done())
	var got string
	var end error
	rcv.Handle(func(m Message) { got = string(m.Data) }, func(err error) { end = err })
	stage.until(t, "end", func() bool { return end != nil })
	if got != "committed" {
		t.Errorf("got %q", got)
	}
	wantIs(t, "end", end, ErrPeerDied)
	must(t, rcv.Close())
}

func TestCancelAndClose(t *testing.T) {
	bothEnds(t, func(t *testing.T, far func(*Router, *sender.Sender) peer) {
		for _, c := range []struct {
			do   func(*Router, *Receiver) error
			want error
		}{
			{func(_ *Router, rcv *Receiver) error { return rcv.Cancel() }, sender.ErrCancelled},
			{func(_ *Router, rcv *Receiver) error { return rcv.Close() }, sender.ErrPipeClosed},
			{func(r *Router, _ *Receiver) error { return r.Stop() }, sender.ErrRouterGone},
		} {
			r := begin(t)
			s, rcv := pipe(t, r)
			p := far(r, s)
			must(t, p.Start())
			must(t, c.do(r, rcv))
			if got := p.Cause(); got != c.want.Error() {
				t.Errorf("cause %q, want %q", got, c.want)
			}
			must(t, p.Stop())
			halt(t, r)
		}
	})
}
