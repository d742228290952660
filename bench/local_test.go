package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/ring"
)

// Both halves of the ring in one goroutine: what they cost where no line is
// taken away by another processor: a chunk of messages goes in, and comes out.

const localCapacity = 4 << 20

type local struct {
	r *ring.Ring
	p *ring.Producer
	c *ring.Consumer
	v *verifier
	n int // messages in a chunk: a quarter of a ring of them
}

func newLocal(b *testing.B, size int) *local {
	r, err := ring.New(ring.Options{Capacity: localCapacity})
	require.NoError(b, err)
	a, err := r.Attach()
	require.NoError(b, err)
	c, err := r.Consume()
	require.NoError(b, err)
	b.Cleanup(func() {
		require.NoError(b, c.Close())
		require.NoError(b, a.Close())
		require.NoError(b, r.Close())
	})
	return &local{r, a.NewProducer(), c, newVerifier(size, 1, false), localCapacity / 4 / max(size, ring.Granule)}
}

// chunks splits b.N into runs of at most a chunk, of which put sends n messages
// and take receives them; what ns/op says is put's or take's alone. The clock
// is looked at once a chunk: StopTimer would cost more than a chunk of large
// messages.
func (l *local) chunks(b *testing.B, timed half, put func(first uint64, n int) error) {
	var took [2]time.Duration
	for done := 0; done < b.N; {
		n := min(l.n, b.N-done)
		start := time.Now()
		err := put(uint64(done), n)
		sent := time.Now()
		if err == nil {
			err = l.receive(n)
		}
		took[putting] += sent.Sub(start)
		took[taking] += time.Since(sent)
		if err != nil {
			b.Fatal(err)
		}
		done += n
	}
	perOp := float64(took[timed]) / float64(b.N)
	b.ReportMetric(perOp, "ns/op")
	b.ReportMetric(float64(l.v.size)*1e3/perOp, "MB/s")
}

type half int

const (
	putting half = iota
	taking
)

func (l *local) send(b []byte, first uint64, n int) error {
	for i := range n {
		stamp(b, 0, first+uint64(i))
		if err := l.p.TrySend(b, 0); err != nil {
			return err
		}
	}
	return nil
}

func (l *local) claim(first uint64, n int) error {
	for i := range n {
		c, err := l.p.TryClaim(l.v.size, 0)
		if err != nil {
			return err
		}
		stamp(c.Bytes(), 0, first+uint64(i))
		if err := c.Commit(); err != nil {
			return err
		}
	}
	return nil
}

func (l *local) receive(n int) error {
	var bad error
	for n > 0 {
		got, err := l.c.Poll(min(n, pollLimit), func(f ring.Frame) ring.Action {
			if bad = l.v.check(f.Data); bad != nil {
				return ring.Break
			}
			return ring.Continue
		})
		if err != nil {
			return err
		}
		if bad != nil || got == 0 {
			return fmt.Errorf("%w: %v after %d", ErrBadMessage, bad, n)
		}
		n -= got
	}
	return nil
}

func localSizes(b *testing.B, run func(b *testing.B, l *local, msg []byte)) {
	for _, size := range allSizes {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			l := newLocal(b, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			run(b, l, make([]byte, size))
			b.StopTimer()
		})
	}
}

// BenchmarkSend is TrySend alone.
func BenchmarkSend(b *testing.B) {
	localSizes(b, func(b *testing.B, l *local, msg []byte) {
		l.chunks(b, putting, func(first uint64, n int) error { return l.send(msg, first, n) })
	})
}

// BenchmarkClaim is TryClaim and Commit, of which only the number is written.
func BenchmarkClaim(b *testing.B) {
	localSizes(b, func(b *testing.B, l *local, _ []byte) { l.chunks(b, putting, l.claim) })
}

// BenchmarkReceive is Poll alone, with a handler that checks the number.
func BenchmarkReceive(b *testing.B) {
	localSizes(b, func(b *testing.B, l *local, msg []byte) {
		l.chunks(b, taking, func(first uint64, n int) error { return l.send(msg, first, n) })
	})
}
