package sender

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

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

// Writes of several goroutines do not mix, long ones neither.
func TestWriterConcurrently(t *testing.T) {
	r := newRouter(t, shm.Heap)
	s := r.started()
	got := r.consume()
	w := NewWriter(t.Context(), s)
	var wg sync.WaitGroup
	const writers, writes = 4, 20
	for g := range writers {
		wg.Go(func() {
			for i := range writes {
				text := strings.Repeat(fmt.Sprint(g), 1+i%5*5000) + "\n"
				if _, err := io.WriteString(w, text); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, s.Stop())
	var all strings.Builder
	for _, m := range got() {
		all.WriteString(m.data)
	}
	lines := strings.Split(strings.TrimSuffix(all.String(), "\n"), "\n")
	require.Len(t, lines, writers*writes)
	for _, l := range lines {
		require.Equal(t, strings.Repeat(l[:1], len(l)), l)
	}
}
