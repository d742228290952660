package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/shmrouter/shmrouter/internal/hosttest"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
	"golang.org/x/sys/unix"
)

// guestStates are what a worker may be doing when its router's process dies. Each
// returns when that is over for it. Where ready is called, it is doing it.
var guestStates = map[string]func(g *guest) error{
	"idle": func(g *guest) error {
		g.ready()
		<-g.s.Context().Done()
		return g.s.Send(background, nil)
	},
	"sending": func(g *guest) error {
		g.ready()
		for {
			if err := g.s.Send(background, []byte("message")); err != nil {
				return err
			}
			time.Sleep(100 * time.Microsecond)
		}
	},
	"batches": func(g *guest) error {
		g.ready()
		for {
			if err := g.s.SendBatch(background, [][]byte{{1}, {2}}); err != nil {
				return err
			}
			if err := g.s.WriteFunc(background, 100, func([]byte) (int, error) { return 1, nil }); err != nil {
				return err
			}
			time.Sleep(100 * time.Microsecond)
		}
	},
	"waiting for room":       func(g *guest) error { return g.crowd(1, 100) },
	"crowd waiting for room": func(g *guest) error { return g.crowd(20, 4000) },
	"in a large message":     func(g *guest) error { return g.crowd(2, 1<<20) },
	"holding a claim": func(g *guest) error {
		c, err := g.s.Claim(background, 100)
		if err != nil {
			return err
		}
		g.ready()
		<-g.s.Context().Done()
		return c.Commit()
	},
	"draining": func(g *guest) error {
		// Until nothing is copied out any more, it returns at once.
		for {
			for err := error(nil); !errors.Is(err, sender.ErrFull); err = g.s.TrySend(make([]byte, 1000)) {
				if err != nil {
					return err
				}
			}
			g.ready()
			if err := g.s.Drain(background); err != nil {
				return err
			}
		}
	},
	// Begun after the death.
	"not attached": func(g *guest) error {
		g.ready()
		g.await()
		return g.attachLate()
	},
	"not begun": func(g *guest) error {
		s, err := sender.FromEnv()
		if err != nil {
			return err
		}
		g.s = s
		return g.attachLate()
	},
	// Stopped while the router dies; the test continues it.
	"stopped": func(g *guest) error {
		g.s.Context()
		g.ready()
		unix.Kill(os.Getpid(), unix.SIGSTOP)
		for {
			if err := g.s.Send(background, nil); err != nil {
				return err
			}
			time.Sleep(100 * time.Microsecond)
		}
	},
}

// blocked are the states in which the router must not make room.
var blocked = map[string]bool{
	"waiting for room": true, "crowd waiting for room": true, "in a large message": true, "draining": true,
}

// late are the states in which the clock starts when the test says so.
var late = map[string]bool{"not attached": true, "not begun": true, "stopped": true}

type guestPlan struct{ Dir, State string }

func (p guestPlan) book() string { return filepath.Join(p.Dir, "guest "+p.State) }

type guest struct {
	*guestBook
	s       *sender.Sender
	watched bool // its context's end will be noted
	passed  func() time.Duration
}

func (g *guest) note(n *notice) {
	n.passed.Store(int64(g.passed()))
	n.at.Store(shm.Now())
}

func (g *guest) ready() { g.stage.Store(guestReady) }

func (g *guest) await() {
	for g.order.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
}

// attachLate attaches where nobody is left.
func (g *guest) attachLate() error {
	if err := g.s.Start(); err != nil {
		return err
	}
	for {
		if err := g.s.Send(background, nil); err != nil {
			return err
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// crowd has n goroutines send until each has failed. It returns what the first
// one got, or whatever was not ErrRouterGone.
func (g *guest) crowd(n, size int) error {
	errs := make(chan error, n)
	for range n {
		go func() {
			for {
				if err := g.s.Send(background, make([]byte, size)); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	// Until all wait; a router that is gone already lets none.
	for waits := uint64(0); len(errs) == 0 && (g.s.Stats().Waits == 0 || g.s.Stats().Waits != waits); time.Sleep(5 * time.Millisecond) {
		waits = g.s.Stats().Waits
	}
	g.ready()
	var first error
	for range n {
		err := <-errs
		if first == nil || !errors.Is(err, sender.ErrRouterGone) {
			first = err
		}
	}
	return first
}

// guestRole is a worker in one of guestStates.
func guestRole(arg string) error {
	var p guestPlan
	if err := json.Unmarshal([]byte(arg), &p); err != nil {
		return err
	}
	book, _, err := openBook[guestBook](p.book())
	if err != nil {
		return err
	}
	passed, _ := hosttest.OwnTime(func() bool { return book.dead.Load() == 1 })
	g := &guest{guestBook: book, passed: passed}
	g.pid.Store(int64(os.Getpid()))
	if p.State == "not begun" {
		g.ready()
		g.await()
	} else if g.s, err = sender.FromEnv(); err == nil && p.State != "not attached" {
		err = g.s.Start()
	}
	if err == nil {
		if p.State == "sending" {
			err = guestStates[p.State](g) // nobody has asked for a context
		} else {
			err = g.play(p.State)
		}
	}
	g.note(&g.op)
	if err := g.after(err); err != nil {
		copy(g.reason[:], err.Error())
		g.wrong.Store(1)
	}
	g.stage.Store(guestDone)
	return nil
}

// play does what the state is, and notes when the context has ended.
func (g *guest) play(state string) error {
	if g.s != nil {
		g.watched = true
		context.AfterFunc(g.s.Context(), func() { g.note(&g.ctx) })
	}
	return guestStates[state](g)
}

// after checks the rest of what a worker sees, and leaves.
func (g *guest) after(err error) error {
	if !errors.Is(err, sender.ErrRouterGone) {
		return fmt.Errorf("got %w", err)
	}
	if g.s == nil || g.s.State() != sender.StateOpen {
		return nil
	}
	ctx := g.s.Context()
	<-ctx.Done()
	for g.watched && g.ctx.at.Load() == 0 {
		time.Sleep(100 * time.Microsecond)
	}
	if cause := context.Cause(ctx); !errors.Is(cause, sender.ErrRouterGone) {
		return fmt.Errorf("the context says %w", cause)
	}
	_, claimErr := g.s.TryClaim(1)
	for op, err := range map[string]error{
		"Send": g.s.Send(background, nil), "TrySend": g.s.TrySend(nil), "TryClaim": claimErr, "Drain": g.s.Drain(background),
		"Send of much": g.s.Send(background, make([]byte, 1<<20)), "SendBatch": g.s.SendBatch(background, [][]byte{{1}}),
	} {
		if !errors.Is(err, sender.ErrRouterGone) {
			return fmt.Errorf("%s says %w", op, err)
		}
	}
	if err := g.s.Stop(); err != nil {
		return fmt.Errorf("Stop says %w", err)
	}
	return nil
}

// hostRole is a main process with a router, and a worker, for each state, which
// is killed. Half of the workers are launched, half are started by hand.
func hostRole(dir string) error {
	i := 0
	for state := range guestStates {
		r, err := New(WithCapacity(64<<10), WithInbox(1))
		if err != nil {
			return err
		}
		if err := r.Start(); err != nil {
			return err
		}
		s, rcv, err := r.Pipe()
		if err != nil {
			return err
		}
		rcv.Handle(func(Message) {
			if blocked[state] {
				select {}
			}
		}, nil)
		arg, err := json.Marshal(guestPlan{dir, state})
		if err != nil {
			return err
		}
		cmd := again("guest", string(arg))
		if i++; i%2 == 0 {
			if _, err := r.Launch(cmd, s); err != nil {
				return err
			}
			continue
		}
		if err := r.HandOver(cmd, s); err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		for _, f := range cmd.ExtraFiles {
			f.Close()
		}
	}
	select {}
}
