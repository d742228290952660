package shm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// viewable makes a segment of either kind, and its file opened for reading only.
func viewable(t *testing.T, kind Kind) (*Segment, *os.File) {
	var s *Segment
	var err error
	if kind == Memfd {
		s, err = NewMemfd("view", 2*page, 2*page)
	} else {
		s, err = CreateNamed(filepath.Join(t.TempDir(), "segment"), 2*page, nil)
	}
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	f, err := os.Open(procFD(s.fd))
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return s, f
}

func TestView(t *testing.T) {
	for _, kind := range []Kind{Memfd, Named} {
		t.Run(kind.String(), func(t *testing.T) {
			s, f := viewable(t, kind)
			v, err := View(f)
			require.NoError(t, err)
			defer v.Close()
			require.Equal(t, s.Identity(), v.Identity())
			require.Equal(t, Named, v.Kind(), "always guarded")

			s.Word64(8).Store(7)
			require.EqualValues(t, 7, v.Word64(8).Load())
			if !raceEnabled { // its atomics cannot be recovered from
				require.ErrorIs(t, v.Guarded(func() error { v.Word64(8).Store(8); return nil }), ErrFault)
				require.EqualValues(t, 7, s.Word64(8).Load())
			}

			_, err = v.OpenLocks()
			require.ErrorIs(t, err, ErrReadOnly)
		})
	}
}

func TestLockHeldOnView(t *testing.T) {
	for _, kind := range []Kind{Memfd, Named} {
		t.Run(kind.String(), func(t *testing.T) {
			s, f := viewable(t, kind)
			v, err := View(f)
			require.NoError(t, err)
			locks, err := s.OpenLocks()
			require.NoError(t, err)
			defer locks.Close()
			ok, err := locks.TryLock(255)
			require.NoError(t, err)
			require.True(t, ok)
			for b, want := range map[int64]bool{254: false, 255: true, 256: false} {
				held, err := v.LockHeld(b)
				require.NoError(t, err)
				require.Equal(t, want, held, b)
				held, err = s.LockHeld(b)
				require.NoError(t, err)
				require.Equal(t, want, held, "also by one's own process, byte %d", b)
			}
			require.NoError(t, locks.Unlock(255))
			held, err := v.LockHeld(255)
			require.NoError(t, err)
			require.False(t, held)
			_, err = v.LockHeld(-1)
			require.Error(t, err)
			require.NoError(t, v.Close())
			_, err = v.LockHeld(255)
			require.ErrorIs(t, err, os.ErrClosed)
		})
	}
	heap, err := NewHeap(page)
	require.NoError(t, err)
	defer heap.Close()
	_, err = heap.LockHeld(0)
	require.ErrorIs(t, err, ErrNoFile)
}

func TestViewOfATruncatedFile(t *testing.T) {
	s, f := viewable(t, Named)
	v, err := View(f)
	require.NoError(t, err)
	defer v.Close()
	require.NoError(t, os.Truncate(s.Path(), page))
	require.ErrorIs(t, v.Guarded(func() error { copy(make([]byte, 1), v.Bytes()[page:]); return nil }), ErrFault)

	require.NoError(t, os.Truncate(s.Path(), 0))
	_, err = View(f)
	require.ErrorIs(t, err, ErrEmpty)
}
