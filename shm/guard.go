package shm

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Guarded calls fn. On a Named segment, whose file somebody may truncate, an access of fn to memory
// that is gone ends fn and becomes an error wrapping ErrFault, with the offset in bytes; without
// it, the kernel's SIGBUS would end the process. Other panics pass through, and on other segments
// fn is just called. It covers the calling goroutine only, and costs some nanoseconds and no
// allocation. Since fn may be cut short at any access, it must not hold what only its end would
// give back.
func (s *Segment) Guarded(fn func() error) (err error) {
	if s.kind != Named {
		return fn()
	}
	before := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(before)
		if r := recover(); r != nil {
			err = s.faultError(r)
		}
	}()
	return fn()
}

// faultError turns a fault within the mapping into an error, and panics again with anything else.
func (s *Segment) faultError(r any) error {
	fault, ok := r.(interface {
		runtime.Error
		Addr() uintptr
	})
	if !ok {
		panic(r)
	}
	off := fault.Addr() - s.address() // wraps around below the segment, and is too large then
	if off >= uintptr(len(s.mem)) {
		panic(r)
	}
	return fmt.Errorf("shm: segment %s, offset %d: %w", s.name, off, ErrFault)
}
