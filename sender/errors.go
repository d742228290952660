package sender

import (
	"errors"
	"fmt"
	"os"

	"github.com/shmrouter/shmrouter/ring"
)

// Getting hold of a Sender, and starting it.
var (
	// ErrNoHandover says that nobody handed a sender to this process: its environment does not name one.
	ErrNoHandover = errors.New("no sender was handed to this process")

	// ErrBadHandover says that what was handed over cannot be used: the token is malformed, or what it names
	// is not open, or not a segment. The text says which.
	ErrBadHandover = errors.New("handed-over sender cannot be used")

	// ErrOtherRouter says that the segment belongs to another router than the token.
	ErrOtherRouter = errors.New("segment belongs to another router")

	// ErrPipeInUse says that the pipe has, or had, a sender already. There is one for each pipe.
	ErrPipeInUse = errors.New("pipe has a sender already")
)

// Using it.
var (
	// ErrState is the class of every StateError, for errors.Is.
	ErrState = errors.New("sender is in the wrong state")

	// ErrPipeClosed says that the receiving end of the pipe was closed. It comes from Start and as the cause
	// of Sender.Context; sending to a closed pipe succeeds, and the router discards the message.
	ErrPipeClosed = errors.New("pipe is closed")

	// ErrCancelled is the cause of Sender.Context after the receiver has cancelled the pipe.
	ErrCancelled = errors.New("pipe was cancelled by its receiver")

	// ErrRouterGone says that the router was stopped or has died. A message sent to a dead router's ring that
	// still has room is committed nonetheless: another router may go on there.
	ErrRouterGone = errors.New("router is gone")

	// ErrFull is ring.ErrFull: there is no room now.
	ErrFull = ring.ErrFull

	// ErrTooLarge is ring.ErrTooLarge: the message is longer than the router accepts, or, where the method
	// sends one frame only, than a frame.
	ErrTooLarge = ring.ErrTooLarge

	// ErrClaimDone is ring.ErrClaimDone: the claim was committed or aborted before.
	ErrClaimDone = ring.ErrClaimDone
)

// errNoConsumer is what a wait for room ends with when nobody will ever make any.
var errNoConsumer = fmt.Errorf("sender: %w: %w", ErrRouterGone, ring.ErrNoConsumer)

// errStopped is what every send says after the router's Stop.
var errStopped = fmt.Errorf("sender: %w: it was stopped", ErrRouterGone)

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
