package sender

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/shmrouter/shmrouter/ring"
)

// Getting hold of a Sender, and starting it.
var (
	// ErrNoHandover says that nobody handed a sender to this process: its environment does not name one.
	ErrNoHandover = errors.New("sender: no sender was handed to this process")

	// ErrBadHandover says that what was handed over cannot be used: the token is malformed, or what it names
	// is not open, or not a segment. The text says which.
	ErrBadHandover = errors.New("sender: handed-over sender cannot be used")

	// ErrManySenders is FromEnv's where more than one sender was handed over: AllFromEnv is for them, and still
	// finds them. It matches ErrBadHandover.
	ErrManySenders = fmt.Errorf("%w as a single one", ErrBadHandover)

	// ErrStarted is HandOver's for a command that was started before.
	ErrStarted = errors.New("sender: command was already started")

	// ErrTooManySenders is HandOver's where a command has as many as its environment can name: the kernel takes
	// 32 pages, mostly 128 KiB, for one variable, which is well over a thousand senders.
	ErrTooManySenders = errors.New("sender: too many senders for one command")

	// ErrOtherRouter says that the segment belongs to another router than the token.
	ErrOtherRouter = errors.New("sender: segment belongs to another router")

	// ErrPipeInUse says that the pipe has, or had, a sender already. There is one for each pipe.
	ErrPipeInUse = errors.New("sender: pipe has a sender already")
)

// Using it.
var (
	// ErrState is the class of every StateError, for errors.Is.
	ErrState = errors.New("sender: wrong state for this")

	// ErrPipeClosed says that the receiving end of the pipe was closed. It comes from Start and as the cause
	// of Sender.Context; sending to a closed pipe succeeds, and the router discards the message. It
	// matches os.ErrClosed.
	ErrPipeClosed = fmt.Errorf("sender: pipe is closed: %w", os.ErrClosed)

	// ErrCancelled is the cause of Sender.Context after the receiver has cancelled the pipe.
	ErrCancelled = errors.New("sender: pipe was cancelled by its receiver")

	// ErrRouterGone says that the router was stopped or has died. Until the death is noticed, within a quarter
	// of a second, messages are still committed to a ring that has room; where another router may go on there,
	// also afterwards.
	ErrRouterGone = errors.New("sender: router is gone")

	// ErrSignal is in the cause of Main's context after SIGTERM or SIGINT, whose name follows.
	ErrSignal = errors.New("sender: a signal asks this process to end")

	// ErrFull is ring.ErrFull: there is no room now.
	ErrFull = ring.ErrFull

	// ErrTooLarge is ring.ErrTooLarge: the message is longer than the router accepts, or, where the method
	// sends one frame only, than a frame.
	ErrTooLarge = ring.ErrTooLarge

	// ErrClaimDone is ring.ErrClaimDone: the claim was committed or aborted before.
	ErrClaimDone = ring.ErrClaimDone
)

// errNoConsumer is what sends and waits for room end with when nobody will ever consume anything.
var errNoConsumer = fmt.Errorf("%w: %w", ErrRouterGone, ring.ErrNoConsumer)

// errStopped is what every send says after the router's Stop.
var errStopped = fmt.Errorf("%w: it was stopped", ErrRouterGone)

// errDied is the cause of contexts.
var errDied = fmt.Errorf("%w: it has died", ErrRouterGone)

// during says what was going on, unless err is this package's own and clear without.
func during(op string, err error) error {
	if strings.HasPrefix(err.Error(), "sender: ") {
		return err
	}
	return fmt.Errorf("sender: %s: %w", op, err)
}

// StateError is the answer to an operation that the Sender's state does not permit. It matches ErrState, and
// os.ErrClosed if the Sender was stopped.
type StateError struct {
	Op    string // the operation refused, as in "send"
	State State  // the state that the Sender was in
}

// Error returns a sentence naming operation and state.
func (e *StateError) Error() string {
	return fmt.Sprintf("sender: cannot %s: %s", e.Op, e.State.reason())
}

// Is reports whether target is a class of this error.
func (e *StateError) Is(target error) bool {
	return target == ErrState || target == os.ErrClosed && e.State == StateClosed
}
