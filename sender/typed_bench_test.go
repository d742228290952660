package sender

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"structs"
	"testing"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/sender/codec"
	"github.com/shmrouter/shmrouter/shm"
)

// benchSends has do send, and the consumer step over it now and then.
func benchSends(b *testing.B, size, every int, begin func(s *Sender) (do func(ctx context.Context) error)) {
	r := newRouterOf(b, shm.Memfd, 4<<20, wire.Config{MaxMessage: 1 << 20})
	s := r.started()
	do := begin(s)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.SetBytes(int64(size))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if err := do(ctx); err != nil {
			b.Fatal(err)
		}
		if i++; i%every == 0 {
			r.consumer.Poll(every, func(ring.Frame) ring.Action { return ring.Continue })
		}
	}
	if err := s.Stop(); err != nil {
		b.Error(err)
	}
}

type record64 struct {
	_ structs.HostLayout
	N [8]uint64
}

// BenchmarkTyped is each codec beside Send of the same bytes.
func BenchmarkTyped(b *testing.B) {
	type job struct {
		ID   int64  `json:"id"`
		Name string `json:"name"`
		Done bool   `json:"done"`
	}
	v, addr, j := record64{}, netip.MustParseAddrPort("[2001:db8::1]:80"), job{17, "a name of some length", true}
	raw := make([]byte, 64)
	for _, c := range []struct {
		name  string
		size  int
		begin func(s *Sender) func(ctx context.Context) error
	}{
		{"warm-up", 64, func(s *Sender) func(ctx context.Context) error { // of caches and the clock
			return func(ctx context.Context) error { return s.Send(ctx, raw) }
		}},
		{"raw", 64, func(s *Sender) func(ctx context.Context) error {
			return func(ctx context.Context) error { return s.Send(ctx, raw) }
		}},
		{"struct", 64, func(s *Sender) func(ctx context.Context) error {
			t := NewTyped(s, codec.MustStruct[record64]())
			return func(ctx context.Context) error { return t.Send(ctx, &v) }
		}},
		{"claim", 64, func(s *Sender) func(ctx context.Context) error {
			t := NewTyped(s, codec.MustStruct[record64]())
			return func(ctx context.Context) error {
				c, err := t.Claim(ctx)
				if err != nil {
					return err
				}
				*c.Value() = v
				return c.Commit()
			}
		}},
		{"binary", 18, func(s *Sender) func(ctx context.Context) error {
			t := NewTyped(s, codec.Binary[netip.AddrPort]())
			return func(ctx context.Context) error { return t.Send(ctx, &addr) }
		}},
		{"JSON", 54, func(s *Sender) func(ctx context.Context) error {
			t := NewTyped(s, codec.JSON[job]())
			return func(ctx context.Context) error { return t.Send(ctx, &j) }
		}},
	} {
		b.Run("codec="+c.name, func(b *testing.B) { benchSends(b, c.size, 256, c.begin) })
	}
}

// BenchmarkTypedWays is what inPlaceMin is chosen by: values that are copied from a buffer, or encoded in the
// ring.
func BenchmarkTypedWays(b *testing.B) {
	for _, size := range []int{1 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 256 << 10} {
		v := bytes.Repeat([]byte("x"), size)
		for _, way := range []string{"buffer", "ring"} {
			b.Run(fmt.Sprintf("size=%d/by=%s", size, way), func(b *testing.B) {
				benchSends(b, size, 4, func(s *Sender) func(ctx context.Context) error {
					c := sizedBlobs{&blobs{s: s, size: func(v *[]byte) int { return len(*v) },
						append: func(b []byte, v *[]byte) ([]byte, error) { return append(b, *v...), nil }}}
					t := NewTyped(s, codec.Codec[[]byte](c))
					if way == "buffer" {
						t.sizer = nil
						return func(ctx context.Context) error { return t.Send(ctx, &v) }
					}
					return func(ctx context.Context) error {
						claim, err := s.Claim(ctx, size)
						if err != nil {
							return err
						}
						return t.sendIn(claim, &v, nil)
					}
				})
			})
		}
	}
}

// BenchmarkTypedFill is a struct that is made piece by piece: on the heap and then sent, or in the ring.
func BenchmarkTypedFill(b *testing.B) {
	benchFill(b, func(v *[512]uint64) []uint64 { return v[:] })
	benchFill(b, func(v *[8192]uint64) []uint64 { return v[:] })
	benchFill(b, func(v *[32768]uint64) []uint64 { return v[:] })
}

func benchFill[T any](b *testing.B, words func(v *T) []uint64) {
	fill := func(v *T) {
		for i, w := 0, words(v); i < len(w); i++ {
			w[i] = uint64(i)
		}
	}
	l := codec.MustStruct[T]()
	v := new(T)
	b.Run(fmt.Sprintf("size=%d/by=send", l.Size(v)), func(b *testing.B) {
		benchSends(b, l.Size(v), 4, func(s *Sender) func(ctx context.Context) error {
			t := NewTyped(s, l)
			return func(ctx context.Context) error {
				fill(v)
				return t.Send(ctx, v)
			}
		})
	})
	b.Run(fmt.Sprintf("size=%d/by=claim", l.Size(v)), func(b *testing.B) {
		benchSends(b, l.Size(v), 4, func(s *Sender) func(ctx context.Context) error {
			t := NewTyped(s, l)
			return func(ctx context.Context) error {
				c, err := t.Claim(ctx)
				if err != nil {
					return err
				}
				fill(c.Value())
				return c.Commit()
			}
		})
	})
}
