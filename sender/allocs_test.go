package sender

import (
	"context"
	"testing"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// What need not sleep does not allocate.
func TestAllocs(t *testing.T) {
	onEach(t, func(t *testing.T, kind shm.Kind) {
		r := newRouter(t, kind)
		s := r.started()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		b := make([]byte, 100)
		batch := [][]byte{b, b, b}
		fill := func(b []byte) (int, error) { return copy(b, "filled"), nil }
		for _, c := range []struct {
			name string
			do   func() error
		}{
			{"Send", func() error { return s.Send(ctx, b) }},
			{"TrySend", func() error { return s.TrySend(b) }},
			{"SendBatch", func() error { return s.SendBatch(ctx, batch) }},
			{"WriteFunc", func() error { return s.WriteFunc(ctx, 100, fill) }},
			{"Claim and Commit", func() error {
				c, err := s.Claim(ctx, 100)
				if err != nil {
					return err
				}
				defer c.Abort()
				return c.Commit()
			}},
			{"two claims", func() error {
				c, err := s.TryClaim(100)
				if err != nil {
					return err
				}
				d, err := s.TryClaim(100)
				if err != nil {
					return err
				}
				c.Abort()
				return d.CommitN(3)
			}},
		} {
			if n := testing.AllocsPerRun(500, func() {
				if err := c.do(); err != nil {
					t.Fatal(err)
				}
				r.consumer.Poll(10, func(ring.Frame) ring.Action { return ring.Continue })
			}); n != 0 {
				t.Errorf("%s: %v allocations", c.name, n)
			}
		}
		must(t, s.Stop())
		r.poll()
	})
}

// BenchmarkSend is a sender against the bare ring, each with a batch of the consumer's work per 256 messages.
func BenchmarkSend(b *testing.B) {
	for _, kind := range []shm.Kind{shm.Memfd, shm.Named} {
		for _, by := range []string{"ring", "sender"} {
			b.Run("kind="+kind.String()+"/by="+by, func(b *testing.B) {
				r := newRouter(b, kind)
				s := r.started()
				m := make([]byte, 64)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				send := func() error { return s.Send(ctx, m) }
				if by == "ring" {
					send = func() error { return s.p.Send(ctx, m, 1<<36) }
				}
				b.SetBytes(int64(len(m)))
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					if err := send(); err != nil {
						b.Fatal(err)
					}
					if i++; i%256 == 0 {
						r.consumer.Poll(256, func(ring.Frame) ring.Action { return ring.Continue })
					}
				}
				if err := s.Stop(); err != nil {
					b.Error(err)
				}
			})
		}
	}
}
