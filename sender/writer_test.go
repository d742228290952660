package sender

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/shm"
)

func TestWriter(t *testing.T) {
	onEach(t, func(t *testing.T, kind shm.Kind) {
		r := newRouter(t, kind)
		s := r.started()
		frame := int(r.ring.MaxFrame())
		var w io.Writer = NewWriter(t.Context(), s)
		for _, size := range []int{0, 1, 100, frame, frame + 1, 3*frame + 5} {
			b := make([]byte, size)
			for i := range b {
				b[i] = byte(i / 3)
			}
			n, err := w.Write(b)
			require.NoError(t, err)
			require.Equal(t, size, n)
			got := ""
			ms := r.poll()
			for _, m := range ms {
				got += m.data
			}
			require.Equal(t, string(b), got)
			require.Len(t, ms, (size+frame-1)/frame, "%d bytes", size)
		}
		require.NoError(t, s.Stop())
		n, err := w.Write([]byte("late"))
		require.Zero(t, n)
		wantErr(t, err, os.ErrClosed)
		r.poll()
	})
}

// Fewer bytes than were given are an error, and their number is what was committed.
func TestWriterEndsInTheMiddle(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	s := r.started()
	ctx, cancel := context.WithCancel(t.Context())
	frame := int(r.ring.MaxFrame())
	b := bytes.Repeat([]byte("0123456789"), testCapacity/5) // twice what the ring holds
	type result struct {
		n   int
		err error
	}
	done := make(chan result)
	go func() {
		n, err := NewWriter(ctx, s).Write(b)
		done <- result{n, err}
	}()
	eventually(t, "the ring is full", func() bool { return s.Stats().Waits > 0 })
	cancel()
	got := <-done
	wantErr(t, got.err, context.Canceled)
	require.Positive(t, got.n)
	require.Less(t, got.n, len(b))
	require.Zero(t, got.n%frame)
	all := ""
	for _, m := range r.poll() {
		all += m.data
	}
	require.Equal(t, string(b[:got.n]), all)
	require.NoError(t, s.Stop())
	r.poll()
}

// Writes of several goroutines do not mix, long ones neither: the frames of one come one after the other, though
// there is room for a short write long before there is for the next of them.
func TestWriterConcurrently(t *testing.T) {
	r := newRouter(t, shm.Heap)
	s := r.started()
	full := r.fill(s)
	frame := int(r.ring.MaxFrame())
	w := NewWriter(t.Context(), s)
	var wg sync.WaitGroup
	write := func(b []byte) {
		wg.Go(func() {
			if n, err := w.Write(b); n != len(b) || err != nil {
				t.Errorf("%d of %d bytes: %v", n, len(b), err)
			}
		})
	}
	write(bytes.Repeat([]byte("L"), 5*frame))
	eventually(t, "the long one waits", func() bool { return s.Stats().Waits > 0 })
	const shorts = 20
	for range shorts {
		write([]byte("s"))
	}
	var got strings.Builder
	for n := 0; n < full+5+shorts; {
		ms, err := r.take(1) // so that room comes bit by bit
		must(t, err)
		for _, m := range ms {
			if n++; n > full {
				got.WriteString(m.data)
			}
		}
		time.Sleep(10 * time.Microsecond) // let those that wait have it
	}
	wg.Wait()
	require.Equal(t, 5*frame+shorts, got.Len())
	require.Contains(t, got.String(), strings.Repeat("L", 5*frame))
	require.NoError(t, s.Stop())
	r.poll()
}
