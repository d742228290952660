package sweep

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender"
)

// routedWorld is a router in this process; the victim and the neighbour are its workers.
type routedWorld struct {
	op     *operation
	traced bool
	seed   uint64
	friend *friend
	router *router.Router
	ring   *ring.Ring // the router's, to be checked
	dir    *wire.Directory
	token  wire.Token // of the victim's pipe
	pipe   *router.Receiver
	role   *role
	last   func()        // what remains to be judged
	gate   chan struct{} // closed: the handler of the neighbour's messages goes on

	mu      sync.Mutex
	book    book
	stalled map[int]bool
	ended   bool // the victim's pipe has told its end
	end     error
}

// farFD is where the neighbour is told to expect the segment's file: away from what it has open.
const farFD = 100

func newRoutedWorld(o *operation, f *friend, seed uint64, traced bool) (w *routedWorld, err error) {
	w = &routedWorld{op: o, friend: f, seed: seed, traced: traced, stalled: map[int]bool{}, gate: make(chan struct{})}
	defer func() {
		if err != nil {
			w.close()
			w = nil
		}
	}()
	w.router, err = router.New(router.WithCapacity(ring.MinCapacity), router.WithMaxPipes(16), router.WithInbox(1), router.WithStallHook(func(e ring.StallEvent) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.stalled[e.PID] = true
	}))
	if err != nil {
		return w, err
	}
	if err = w.router.Start(); err != nil {
		return w, err
	}
	s, rcv, err := w.router.Pipe()
	if err != nil {
		return w, err
	}
	rcv.Handle(w.gated, nil)
	cmd := exec.Command("neighbour") // is running already: this is only to hand over
	cmd.ExtraFiles = make([]*os.File, farFD-3)
	if err = s.HandOver(cmd); err != nil {
		return w, err
	}
	file := cmd.ExtraFiles[farFD-3]
	defer file.Close()
	if w.ring, err = ring.OpenFile(file); err != nil {
		return w, err
	}
	off, size := w.ring.User()
	if w.dir, err = wire.Open(w.ring.Segment(), off, size); err != nil {
		return w, err
	}
	return w, f.do(order{Do: doRouter, FD: farFD, Env: handedOver(cmd)}, file)
}

// handedOver is what the environment of a command says of the sender that was handed over to it.
func handedOver(cmd *exec.Cmd) (tokens string) {
	for _, v := range cmd.Env {
		if t, ok := strings.CutPrefix(v, sender.EnvName+"="); ok {
			tokens = t
		}
	}
	return tokens
}

func (w *routedWorld) deliver(m router.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.book.deliver(m.Data)
}

// gated is the handler of the neighbour's messages.
func (w *routedWorld) gated(m router.Message) {
	w.deliver(m)
	<-w.gate
}

func (w *routedWorld) cast(o *operation, by uint64) (*role, error) {
	var s *sender.Sender
	var err error
	if w.role, err = newRole(o, by, false, w.traced, "", nil); err != nil {
		return nil, err
	}
	if s, w.pipe, err = w.router.Pipe(); err != nil {
		return nil, err
	}
	w.pipe.Handle(w.deliver, func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended, w.end = true, err
	})
	// Not by the router, which would wait for a report of its exit.
	if err = s.HandOver(w.role.cmd); err != nil {
		return nil, err
	}
	w.token, err = wire.ParseToken(handedOver(w.role.cmd))
	return w.role, err
}

// attached tells whether the victim has taken its pipe, be it that it knew of nothing more: from then on the
// receiver is owed its end.
func (w *routedWorld) attached() bool {
	e := w.dir.Word(w.token.Index)
	return e.ID() == w.token.ID && (e.State() == wire.PipeAttached || e.State() == wire.PipeEnded)
}

// begins has the neighbour send until the router's monitor is stuck: one message is with the handler, which
// waits, one in the inbox, and the monitor has a third one, for which there is no place. So it neither takes
// messages nor sleeps, and what the victim executes depends on the victim alone.
func (w *routedWorld) begins() error {
	for _, stuck := range []func() bool{
		func() bool { return w.book.from[byNeighbour].last == 1 },
		func() bool { return w.router.Stats().Queued == 1 },
		func() bool { return w.router.Stats().Queued == 2 },
	} {
		if err := w.friend.do(order{Do: doSend, Count: 1, Size: frameSize, Patience: patience}, nil); err != nil {
			return err
		}
		w.until("before the operation", stuck)
	}
	return nil
}

func (w *routedWorld) letGo() {
	select {
	case <-w.gate:
	default:
		close(w.gate)
	}
}

func (w *routedWorld) unblock(int) error {
	w.letGo()
	return nil
}

func (w *routedWorld) goesOn() error    { return nil }
func (w *routedWorld) through() error   { return nil }
func (w *routedWorld) died(*role) error { return nil }

func (w *routedWorld) others(stopped []*role) error {
	w.letGo()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if err := w.friend.tell(order{Do: doPress, Count: pressing, Seed: w.seed, Patience: giveUp}, nil); err != nil {
			return err
		}
		a, ok, err := w.friend.answered(patience)
		switch {
		case err != nil:
			return err
		case !ok:
			w.complain("while the victim stands, Send does not end at its deadline")
			return nil
		case a.Err != "":
			w.complain("the neighbour, while the victim stands: %s", a.Err)
			return nil
		case !a.Full:
			w.until("while the victim stands", func() bool { return w.book.from[byNeighbour].last >= a.Sent })
			return nil
		}
		w.mu.Lock()
		named := w.stalled[stopped[0].pid]
		w.mu.Unlock()
		if named {
			return nil
		}
	}
	w.complain("while the victim stands, the others do not get on, and nobody says that it holds a claim")
	return nil
}

func (w *routedWorld) complain(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.book.complain(format, args...)
}

// until waits for the router to come so far.
func (w *routedWorld) until(when string, cond func() bool) {
	ok := eventually(func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return cond()
	})
	if !ok {
		w.complain("%s: no progress for %v: what was sent does not arrive, or no end of the pipe", when, patience)
	}
}

func (w *routedWorld) aftermath(all []*role) error {
	const when = "after the death"
	r := all[0]
	if err := w.ring.Check(); err != nil {
		w.complain("%s: %v", when, err)
	}
	w.letGo()
	if err := w.friend.do(order{Do: doSend, Count: afterKill, Seed: w.seed, Patience: patience}, nil); err != nil {
		w.complain("%s: %v", when, err)
		return nil
	}
	w.until(when, func() bool { return w.book.from[byNeighbour].last >= w.friend.sent })
	if err := w.friend.do(order{Do: doLeave}, nil); err != nil {
		w.complain("%s: the neighbour stops: %v", when, err)
	}
	if err := w.ring.Check(); err != nil {
		w.complain("at the end: %v", err)
	}
	sent := w.friend.sent
	w.last = func() { w.judge(r, sent) }
	return nil
}

func (w *routedWorld) rest() func() { return w.last }

// judge waits for the end of the victim's pipe, which may take some tenths of a second.
func (w *routedWorld) judge(r *role, sent uint64) {
	done := r.diary.result.Load() == success
	if owed := w.attached(); owed {
		w.until("after the death of a sender that has its pipe", func() bool { return w.ended })
	} else if done || r.op.name != "sender-start" {
		w.complain("a sender was started, and its pipe does not say so")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if stop := r.op.name == "sender-stop"; stop && done && w.end != nil {
		w.book.complain("a sender was stopped, and the end of its pipe is %v", w.end)
	} else if !stop && w.ended && w.end == nil {
		w.book.complain("a sender died, and the end of its pipe is as if it had been stopped")
	}
	w.book.judgeVictim(r.diary, r.sender, r.op)
	if r.whole && r.diary.result.Load() == pending {
		w.book.complain("%s came to its end, and its call has not returned", senderNames[r.sender])
	}
	w.book.judgeWhole(byNeighbour, sent)
}

func (w *routedWorld) verdict() *book { return &w.book }

func (w *routedWorld) recoveries() int {
	s, err := w.ring.Stats()
	if err != nil {
		return 0
	}
	return int(w.router.Stats().Ring.Consumer.SkippedDead + s.Swept)
}

func (w *routedWorld) close() {
	w.letGo()
	if w.router != nil {
		done := make(chan error, 1)
		go func() { done <- w.router.Stop() }()
		select {
		case err := <-done:
			if err != nil {
				w.complain("Stop: %v", err)
			}
		case <-time.After(patience):
			w.complain("the router does not stop")
		}
	}
	if w.role != nil {
		w.role.close()
		for _, f := range w.role.cmd.ExtraFiles[2:] {
			f.Close()
		}
	}
	if w.ring != nil {
		w.ring.Close()
	}
}
