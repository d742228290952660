package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender"
)

// What the cost of a message may depend on: how many send, how large the ring
// is, how many pipes there are, and how long it has all been going on.

// BenchmarkProducers has many senders on one processor. An op is a millisecond
// of sending, so -benchtime 10s takes about that; smallest-share is the
// messages of the sender with the fewest, in those of the one with the most.
func BenchmarkProducers(b *testing.B) {
	for _, n := range []int{2, 8, 64, 255} {
		crew := crewFor(b, CrewOptions{Senders: n, Pinned: true, RingOnly: true})
		b.Run(fmt.Sprintf("producers=%d/size=64", n), func(b *testing.B) {
			c := crew(b)
			b.ResetTimer()
			r, err := c.Stream(Order{Via: Ring, Size: 64, For: max(20, time.Duration(b.N)) * time.Millisecond})
			b.StopTimer()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(0, "ns/op") // which would be a millisecond
			b.ReportMetric(r.PerMessage(), "ns/msg")
			b.ReportMetric(1e9/r.PerMessage(), "msgs/s")
			b.ReportMetric(float64(slices.Min(r.Counts))/float64(slices.Max(r.Counts)), "smallest-share")
			report(b, r)
		})
	}
}

// BenchmarkContention has senders claim and commit at the same time while nobody
// reads. A processor each is what two of them need.
func BenchmarkContention(b *testing.B) {
	const capacity = 16 << 20
	for _, n := range []int{1, 2, 4} {
		crew := crewFor(b, CrewOptions{Senders: n, Capacity: capacity, RingOnly: true})
		b.Run(fmt.Sprintf("producers=%d/size=64", n), func(b *testing.B) {
			c := crew(b)
			var took time.Duration
			for left := uint64(b.N); left > 0; {
				chunk := min(left, capacity/2/ring.Granule)
				r, err := c.Contend(Order{N: chunk, Size: 64})
				if err != nil {
					b.Fatal(err)
				}
				took += r.Elapsed
				left -= chunk
			}
			b.ReportMetric(float64(took)/float64(b.N), "ns/op")
			b.ReportMetric(float64(b.N)*1e9/float64(took), "msgs/s")
		})
	}
}

// BenchmarkDrained is the cost of a send while the consumer drains what was sent:
// bursts of 32, each into an empty ring.
func BenchmarkDrained(b *testing.B) {
	const burst = 32
	crew := crewFor(b, CrewOptions{Pinned: true, RingOnly: true})
	for _, size := range []int{16, 64, 1 << 10} {
		for _, wait := range []Wait{Spin, Default} {
			b.Run(fmt.Sprintf("size=%d/wait=%s", size, waitName(wait)), func(b *testing.B) {
				if _, other := twoCPUs(); other < 0 && wait == Spin {
					b.Skip("two that spin take two processors")
				}
				c := crew(b)
				b.ResetTimer()
				r, err := c.Stream(Order{Via: Ring, N: uint64(b.N) * burst, Size: size, Burst: burst, Wait: wait})
				b.StopTimer()
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(r.Latency.P50)/burst, "send-p50-ns")
				b.ReportMetric(float64(r.Latency.P99)/burst, "send-p99-ns")
			})
		}
	}
}

// BenchmarkCapacity has rings of all sizes. What a message costs shows when there
// are more of them than the ring holds.
func BenchmarkCapacity(b *testing.B) {
	for capacity := int64(ring.MinCapacity); capacity <= ring.MaxCapacity; capacity *= 4 {
		crew := crewFor(b, CrewOptions{Pinned: true, Capacity: capacity, RingOnly: true})
		for _, size := range []int{64, 1 << 10} {
			b.Run(fmt.Sprintf("capacity=%d/size=%d", capacity, size), func(b *testing.B) {
				if have := memoryAvailable(); have < 2*capacity {
					b.Skipf("%d MiB of memory are too few", have>>20)
				}
				c := crew(b)
				b.SetBytes(int64(size))
				b.ResetTimer()
				r, err := c.Stream(Order{Via: Ring, N: uint64(b.N), Size: size})
				b.StopTimer()
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(1e9/r.PerMessage(), "msgs/s")
				report(b, r)
			})
		}
	}
}

// memoryAvailable is what the kernel says that could be had, in bytes.
func memoryAvailable() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	least := int64(0)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			least = kib << 10
		}
	}
	if text, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil { // "max" is no number
		if limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
			least = min(least, limit/2)
		}
	}
	return least
}

// BenchmarkPipes has the router's messages come from very many pipes in turn.
// Their senders are in one goroutine of this process, so that nothing but their
// number is different.
func BenchmarkPipes(b *testing.B) {
	for _, n := range []int{1, 100, 10_000, 100_000} {
		var p *pipes
		b.Run(fmt.Sprintf("pipes=%d/size=64", n), func(b *testing.B) {
			if p == nil {
				p = newPipes(b, n)
			}
			b.ResetTimer()
			took, err := p.run(uint64(b.N))
			b.StopTimer()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)*1e9/float64(took), "msgs/s")
		})
		if p != nil {
			require.NoError(b, p.router.Stop())
		}
	}
}

type pipes struct {
	router  *router.Router
	senders []*sender.Sender
	sent    uint64
	arrived uint64 // on the loop
	until   uint64
	bad     error
	done    chan struct{}
}

func newPipes(tb testing.TB, n int) *pipes {
	p := &pipes{done: make(chan struct{}, 1)}
	r, err := router.New()
	require.NoError(tb, err)
	p.router = r
	require.NoError(tb, r.Start())
	for range n {
		s, pipe, err := r.Pipe()
		require.NoError(tb, err)
		pipe.Handle(p.handle, func(error) {})
		require.NoError(tb, s.Start())
		p.senders = append(p.senders, s)
	}
	return p
}

// handle checks the order across all pipes: each send began after another returned.
func (p *pipes) handle(m router.Message) {
	if got := binary.LittleEndian.Uint64(m.Data); got != p.arrived && p.bad == nil {
		p.bad = fmt.Errorf("%w: number %d, expected %d", ErrBadMessage, got, p.arrived)
	}
	if p.arrived++; p.arrived == p.until {
		p.done <- struct{}{}
	}
}

func (p *pipes) run(n uint64) (time.Duration, error) {
	p.until = p.sent + n // nothing is under way, so the handler does not look
	b := make([]byte, 64)
	start := now()
	for range n {
		binary.LittleEndian.PutUint64(b, p.sent)
		if err := p.senders[p.sent%uint64(len(p.senders))].Send(context.Background(), b); err != nil {
			return 0, err
		}
		p.sent++
	}
	<-p.done
	return time.Duration(now() - start), p.bad
}

// BenchmarkPosition is Send and Receive on a ring through which 2³² granules and
// more have gone. The way there is made of claims that nobody fills.
func BenchmarkPosition(b *testing.B) {
	for _, from := range []uint64{0, 1<<32 - localCapacity/ring.Granule, 1 << 32, 1 << 33} {
		for which, name := range []string{putting: "send", taking: "receive"} {
			b.Run(fmt.Sprintf("half=%s/from=%d/size=64", name, from), func(b *testing.B) {
				l := newLocal(b, 64)
				require.NoError(b, l.advance(from))
				msg := make([]byte, 64)
				b.ReportAllocs()
				b.ResetTimer()
				l.chunks(b, half(which), func(first uint64, n int) error { return l.send(msg, first, n) })
				b.StopTimer()
			})
		}
	}
}

func (l *local) advance(to uint64) error {
	for size := l.r.MaxFrame(); l.p.Position() < to; {
		c, err := l.p.TryClaim(size, 0)
		if err != nil {
			return err
		}
		if err := c.Commit(); err != nil {
			return err
		}
		if _, err := l.c.Poll(1, func(ring.Frame) ring.Action { return ring.Continue }); err != nil {
			return err
		}
	}
	return nil
}
