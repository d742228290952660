//go:build !(linux && amd64)

package tracer

import (
	"os/exec"
	"syscall"
	"time"
)

// A Tracer is not to be had on this architecture: New fails with ErrUnsupported.
type Tracer struct {
	Scope    func(function string) bool
	Patience time.Duration
}

// A Victim is a process that a Tracer has started.
type Victim struct{ PID int }

// New fails with ErrUnsupported.
func New() (*Tracer, error) { return nil, ErrUnsupported }

// Pin fails with ErrUnsupported.
func (t *Tracer) Pin(int) error { return ErrUnsupported }

// Close fails with ErrUnsupported.
func (t *Tracer) Close() error { return ErrUnsupported }

// Start fails with ErrUnsupported.
func (t *Tracer) Start(*exec.Cmd) (*Victim, error) { return nil, ErrUnsupported }

// ToBegin fails with ErrUnsupported.
func (v *Victim) ToBegin() error { return ErrUnsupported }

// Record fails with ErrUnsupported.
func (v *Victim) Record(func() error) (Trace, error) { return Trace{}, ErrUnsupported }

// RunTo fails with ErrUnsupported.
func (v *Victim) RunTo(Point, func() error) (bool, error) { return false, ErrUnsupported }

// ToEnd fails with ErrUnsupported.
func (v *Victim) ToEnd(func() error) error { return ErrUnsupported }

// Stop fails with ErrUnsupported.
func (v *Victim) Stop() error { return ErrUnsupported }

// Kill fails with ErrUnsupported.
func (v *Victim) Kill() (syscall.WaitStatus, error) { return 0, ErrUnsupported }

func syscallName(int) string { return "syscall" }

// Exited returns nil: nothing was started.
func (v *Victim) Exited() error { return nil }
