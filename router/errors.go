package router

import (
	"errors"
	"fmt"
	"os"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/sender"
)

// Misuse. Nothing has changed when one of these is returned.
var (
	// ErrRunning is returned by Start on a router that is running.
	ErrRunning = errors.New("router: already running")
	// ErrNotRunning is returned by every method that needs a running router,
	// and by a second Stop.
	ErrNotRunning = errors.New("router: not running")
	// ErrPipeClosed is returned by a second ClosePipe of the same pipe. It
	// matches os.ErrClosed.
	ErrPipeClosed = fmt.Errorf("router: pipe is closed: %w", os.ErrClosed)
	// ErrForeign is returned for a receiver or sender of another router, or of
	// an earlier run of this one.
	ErrForeign = errors.New("router: not a pipe of this router's current run")
	// ErrHandled is returned by Recv on a receiver that has a handler: its
	// messages go there.
	ErrHandled = errors.New("router: the receiver has a handler")
	// ErrInHandler is returned by RouteUntil when it is called from a handler,
	// which runs in the very turn that RouteUntil would have to wait for.
	ErrInHandler = errors.New("router: RouteUntil called from a handler")
	// ErrRouting is returned by RouteUntil while another RouteUntil of the same
	// router has not returned.
	ErrRouting = errors.New("router: RouteUntil is already under way")
	// ErrStarted is returned by HandOver and Launch for a command that was
	// started before. It is sender.ErrStarted.
	ErrStarted = sender.ErrStarted
	// ErrNotWorker is returned by Command.Start in a process that was itself started as a worker by a Command without
	// a Path, and has not taken its sender: it would start itself again, without end. The program's main function has
	// to begin by `if sender.Launched()`, and call sender.Main there.
	ErrNotWorker = errors.New("router: this process was started as a worker, and does not act as one (sender.Launched, sender.Main)")
	// ErrOption is wrapped by errors about options and fields that are out of range, or do not go together: those of
	// New, and of Command.Start.
	ErrOption = errors.New("router: invalid option")
)

// What can happen while a router runs.
var (
	// ErrTooManyPipes is returned by Pipe when as many pipes are open, or closed
	// with a sender that still lives, or with WithResume closed and not released
	// yet, as WithMaxPipes allows.
	ErrTooManyPipes = errors.New("router: too many pipes")
	// ErrNothingToWaitFor is returned by RouteUntil when its condition does not
	// hold, nothing is queued, and every open pipe has ended: no message can come
	// any more.
	ErrNothingToWaitFor = errors.New("router: nothing queued and every open pipe has ended")
	// ErrStopped ends Recv and Messages when the router was stopped before the
	// pipe had ended.
	ErrStopped = errors.New("router: stopped")
	// ErrPeerDied is the class of every *PeerError, for errors.Is.
	ErrPeerDied = errors.New("router: the sender's process died")
	// ErrBroken ends every pipe when the segment is damaged beyond what can be
	// stepped over. It matches ring.ErrCorrupt.
	ErrBroken = fmt.Errorf("router: segment is damaged beyond repair: %w", ring.ErrCorrupt)
	// ErrGaveUp is returned by Worker.Wait when a restart policy has come to its limit.
	ErrGaveUp = errors.New("router: worker is not started again")
	// ErrNotResumable is returned by Start when the segment at the path was not
	// made by a router with WithResume, or by one whose directory has another
	// version or is damaged. The file stays as it is.
	ErrNotResumable = errors.New("router: segment was not made to be resumed")
)

// PeerError is the end of a pipe whose sender did not stop it: the process that
// had it exited, was killed, or, launched by the router, never attached. All
// that it had committed was delivered before.
type PeerError struct {
	// Slot is the seat that the process had in the segment, -1 if it never
	// attached.
	Slot int
	// PID is the process's number, 0 if unknown: as the router sees it where the
	// router launched it or was told in time, otherwise in its own pid namespace.
	PID int
	// State is how it exited, where the router launched it or was told in time
	// (ReportExit); otherwise nil.
	State *os.ProcessState
	// Err is why a Command could not start it again, otherwise nil.
	Err error
}

// Error says what is known about the death.
func (e *PeerError) Error() string {
	if e.Err != nil {
		return "router: sender's process was not started: " + e.Err.Error()
	}
	text := "router: sender's process"
	if e.PID != 0 {
		text += fmt.Sprintf(" %d", e.PID)
	}
	if e.Slot < 0 {
		text += " never attached, and"
	}
	if e.State != nil {
		return text + " ended without stopping its sender: " + e.State.String()
	}
	return text + " died without stopping its sender"
}

// Unwrap returns Err.
func (e *PeerError) Unwrap() error { return e.Err }

// Is makes errors.Is(err, ErrPeerDied) true.
func (e *PeerError) Is(target error) bool { return target == ErrPeerDied }
