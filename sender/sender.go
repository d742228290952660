package sender

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"

	"github.com/shmrouter/shmrouter/internal/pair"
	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
)

// State is where a Sender is in its life. There is no way back.
type State int

const (
	StateInitial    State = iota // made, holds nothing yet
	StateOpen                    // started
	StateClosed                  // stopped
	StateHandedOver              // given to another process, in which it begins as StateInitial
)

// String returns the state's name in lower case.
func (s State) String() string {
	switch s {
	case StateInitial:
		return "initial"
	case StateOpen:
		return "open"
	case StateClosed:
		return "closed"
	case StateHandedOver:
		return "handed over"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// reason is the state as the end of an error's sentence.
func (s State) reason() string {
	switch s {
	case StateInitial:
		return "sender was not started"
	case StateOpen:
		return "sender is started already"
	case StateClosed:
		return "sender was stopped"
	case StateHandedOver:
		return "sender was handed over to another process"
	}
	return s.String()
}

// Sender sends the messages of one pipe. Its methods may be called concurrently. It must not be copied, and
// has to be stopped, or closed: one that is dropped keeps its process in the router's roster.
//
// The mutex orders claims: whoever holds it numbers a message and claims its space, so that numbers and order
// of delivery agree. Nobody sleeps under it.
type Sender struct {
	token wire.Token
	home  *ring.Ring // of the router in this process; nil for a sender that came from elsewhere

	mu    sync.Mutex
	state State
	link  *link // nil before Start, if home is set

	// Set by Start, and constant until the Sender has stopped.
	att   *ring.Attachment
	frame int // bytes in one frame, at most
	most  int // bytes in one message, at most

	// Guarded by mu while open; Stop's own afterwards.
	p      *ring.Producer
	seq    uint64 // number of the last message that was claimed
	last   uint64 // the position behind the last one that was committed
	number func(i int) uint64
	claims int       // outstanding
	spare  []*holder // for the next claims
	stats  Stats

	// waiting counts the goroutines that may sleep, or otherwise use the ring, without mu. It grows only
	// under mu while open, so Stop can wait for it.
	waiting sync.WaitGroup
	stopped context.Context // ends with Stop, to end those
	stop    context.CancelFunc

	// The context given to the user, if it was asked for. Guarded by mu.
	ctx context.Context
	end context.CancelCauseFunc
}

func init() {
	pair.NewSender = func(r *ring.Ring, t wire.Token) any { return atHome(r, t) }
}

// atHome is pair.NewSender.
func atHome(r *ring.Ring, t wire.Token) *Sender { return &Sender{token: t, home: r} }

// ID returns the number of the connection, the same at both ends of the pipe, and unique in a run of the
// router.
func (s *Sender) ID() uint64 { return s.token.ID }

// State returns the state the Sender is in.
func (s *Sender) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Start attaches this process to the router, unless another of its senders has done so, and takes the pipe.
//
// The error is a *StateError unless the Sender is initial, which it still is after a failure; ErrPipeInUse,
// ErrPipeClosed, ErrOtherRouter; ErrRouterGone if the router was stopped; ring.ErrRosterFull if too many
// processes are attached; shm.ErrNoLocks; or what else the kernel refuses.
func (s *Sender) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != StateInitial {
		return &StateError{"start", s.state}
	}
	if err := s.start(); err != nil {
		return during("start", err)
	}
	s.state = StateOpen
	s.stopped, s.stop = context.WithCancel(context.Background())
	if s.ctx != nil {
		s.link.watch(s)
	}
	return nil
}

func (s *Sender) start() (err error) {
	l := s.link
	if l == nil {
		if l, err = linkTo(s.home, false); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				l.release()
			}
		}()
	}
	if err := l.check(s.token); err != nil {
		return err
	}
	att, p, err := l.sit()
	if err != nil {
		return err
	}
	err = l.seg.Guarded(func() error {
		return l.dir.Attach(s.token.Index, s.token.ID, att.Slot(), att.Instance())
	})
	if err != nil {
		return errors.Join(pipeError(err), l.stand(p))
	}
	if s.home == nil {
		l.guard()
	}
	s.link, s.att, s.p = l, att, p
	s.setLimits()
	s.number = func(i int) uint64 { return wire.Meta(wire.Data, s.token.Index, s.seq+1+uint64(i)) }
	return nil
}

func (s *Sender) setLimits() {
	s.most = math.MaxInt
	if m := s.link.dir.MaxMessage(); m > 0 && m < math.MaxInt {
		s.most = int(m)
	}
	s.frame = min(s.link.ring.MaxFrame(), s.most)
	if s.link.dir.Resume() {
		s.most = s.frame // what lies in the ring has to make sense to the next router
	}
}

func pipeError(err error) error {
	switch {
	case errors.Is(err, wire.ErrTaken):
		return ErrPipeInUse
	case errors.Is(err, wire.ErrGone):
		return ErrPipeClosed
	}
	return err
}

// Stop ends the Sender: it tells the router, behind every message sent before, and with the last Sender of
// this process leaves the roster. What was committed will be delivered. It does not wait for the router, also
// if the ring is full.
//
// Sends that wait for room end with a *StateError, a large message on its way among them. A claim that is
// outstanding stays its holder's to end, since somebody may be writing to it at this moment: Commit then
// aborts it, and returns a *StateError. Until the last one has ended, nothing behind it is delivered, the end
// included, and the process stays in the roster.
//
// The error is a *StateError unless the Sender is open. Any other error says that leaving went wrong; the
// Sender is stopped.
func (s *Sender) Stop() error {
	s.mu.Lock()
	if s.state != StateOpen {
		defer s.mu.Unlock()
		return &StateError{"stop", s.state}
	}
	s.state = StateClosed
	if s.ctx != nil {
		s.end(os.ErrClosed)
	}
	s.mu.Unlock()

	s.stop()
	s.waiting.Wait()
	s.link.unwatch(s)
	// From here on everybody else has seen StateClosed, and the producers are Stop's alone.
	err := errors.Join(s.sayEnd(), s.link.stand(append(s.dropSpare(), s.p)...))
	s.link.release()
	if err != nil {
		return during("stop", err)
	}
	return nil
}

// Close is for defer, whatever became of the Sender: it stops one that is open, gives up one that was not
// started, with what FromEnv or Open had opened for it, and is otherwise without effect. The pipe of one that
// was given up can still be taken by another that was made from the same token. The error is nil, or one of
// Stop's other than *StateError.
func (s *Sender) Close() error {
	for {
		if err := s.Stop(); !errors.Is(err, ErrState) {
			return err
		}
		if done, err := s.giveUp(); done {
			return err
		}
	}
}

// giveUp closes a Sender that was not started. It returns false if it is open, having been started meanwhile.
func (s *Sender) giveUp() (done bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != StateInitial {
		return s.state != StateOpen, nil
	}
	s.state = StateClosed
	if s.ctx != nil {
		s.end(os.ErrClosed)
	}
	if s.link == nil {
		return true, nil
	}
	return true, s.link.release()
}

// dropSpare returns the producers of the holders at rest, which nobody needs any more.
func (s *Sender) dropSpare() (ps []*ring.Producer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.spare {
		ps = append(ps, h.p)
	}
	s.spare = nil
	return ps
}

// sayEnd tells the router, by a frame if there is room, else by the entry and the word ends: once, since who is
// told may give the entry to another pipe. The router waits for the End frame of an entry that has ended, unless
// ends is raised; so the entry is marked before that: see internal/wire, notice.go.
func (s *Sender) sayEnd() error {
	l := s.link
	return l.seg.Guarded(func() error {
		mark := func() { l.dir.End(s.token.Index, s.token.ID, s.att.Slot(), s.att.Instance()) }
		if !l.dir.Serves(s.token.Epoch) {
			mark() // and nobody to tell
			return nil
		}
		life := l.dir.Life()
		err := s.p.TrySend(wire.EndPayload(s.token.ID), wire.Meta(wire.End, s.token.Index, s.seq))
		s.ending(endSent)
		mark()
		if err == nil && l.dir.Life() == life {
			return nil
		}
		// If the frame was sent, it may have been consumed by a router that died, and the next one have seen the
		// entry before it was marked. That raises life before it looks.
		l.dir.RaiseEnds()
		s.ending(endRaised)
		if err == nil || errors.Is(err, ErrFull) {
			// The router may have emptied the ring, looked at ends, and gone to sleep in between.
			return s.knock()
		}
		return err
	})
}

// knock wakes the router by a claim that it will step over. If there is no room for one, it is awake, or, where
// it resumes and keeps what is not handled yet, it looks within a second.
func (s *Sender) knock() error {
	c, err := s.p.TryClaim(0, 0)
	if err == nil {
		c.Abort()
	}
	if errors.Is(err, ErrFull) {
		return nil
	}
	return err
}

// endStep is how far sayEnd has come.
type endStep int

const (
	endSent   endStep = iota // the frame, or there was no room for it
	endRaised                // the word ends
)

// testHookEnding lets tests get between its steps.
var testHookEnding func(endStep)

func (s *Sender) ending(step endStep) {
	if testHookEnding != nil {
		testHookEnding(step)
	}
}
