package shm

import (
	"errors"
	"os"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

var sink byte

func TestGuardedTurnsTruncationIntoError(t *testing.T) {
	noLeaks(t)
	s := newSegment(t, Named)
	require.NoError(t, os.Truncate(s.Path(), page))
	buf := make([]byte, 64)
	for name, access := range map[string]func(){
		"load":     func() { sink = s.Bytes()[page] },
		"store":    func() { s.Bytes()[page] = 1 },
		"copy out": func() { copy(buf, s.Bytes()[page:]) },
		"copy in":  func() { copy(s.Bytes()[page:], buf) },
		"atomic":   func() { s.Word64(page).Add(1) },
	} {
		err := s.Guarded(func() error { access(); return nil })
		requireOnly(t, err, ErrFault)
		require.Contains(t, err.Error(), "offset", name)
	}
	err := s.Guarded(func() error { s.Word64(2*page - 8).Load(); return nil })
	requireOnly(t, err, ErrFault)
	require.NoError(t, s.Guarded(func() error { sink = s.Bytes()[page-1]; return nil }), "what is left can be read")

	require.NoError(t, os.Truncate(s.Path(), 0))
	requireOnly(t, s.Guarded(func() error { sink = s.Bytes()[0]; return nil }), ErrFault)
	requireOnly(t, FutexWait(s.Word32(0), 0, 0), ErrFault)
	require.Zero(t, FutexWake(s.Word32(0), 1))
}

func TestGuardedPassesOn(t *testing.T) {
	forKinds(t, allKinds, func(t *testing.T, kind Kind) {
		s := newSegment(t, kind)
		cause := errors.New("own")
		require.Equal(t, cause, s.Guarded(func() error { return cause }))
		require.PanicsWithValue(t, cause, func() { s.Guarded(func() error { panic(cause) }) })
		require.Panics(t, func() { s.Guarded(func() error { var p *int; *p = 1; return nil }) }, "a nil pointer is no fault of the segment's")
	})
}

// A fault in one segment is not blamed on another, and reaches the guard of its own.
func TestGuardedNested(t *testing.T) {
	noLeaks(t)
	gone, fine := newSegment(t, Named), newSegment(t, Named)
	require.NoError(t, os.Truncate(gone.Path(), 0))
	err := gone.Guarded(func() error {
		err := fine.Guarded(func() error { gone.Bytes()[8] = 1; return nil })
		t.Error("caught by the wrong segment")
		return err
	})
	requireOnly(t, err, ErrFault)
	require.Contains(t, err.Error(), "offset 8:")
}

func TestGuardedRestoresTheSetting(t *testing.T) {
	s := newSegment(t, Named)
	for _, before := range []bool{false, true} {
		original := debug.SetPanicOnFault(before)
		require.NoError(t, s.Guarded(func() error { return nil }))
		require.Equal(t, before, debug.SetPanicOnFault(before))
		require.Panics(t, func() { s.Guarded(func() error { panic("x") }) })
		require.Equal(t, before, debug.SetPanicOnFault(original))
	}
}

func TestGuardedDoesNotAllocate(t *testing.T) {
	s := newSegment(t, Named)
	word := s.Word64(0)
	work := func() error { word.Add(1); return nil }
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if s.Guarded(work) != nil {
			panic("fault")
		}
	}))
}
