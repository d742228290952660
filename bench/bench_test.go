package bench

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/router"
)

// The benchmarks' names are made of key=value, as benchstat reads them:
//
//	Send Receive Claim  one process, nobody else: the bare cost of each half
//	Position            the same, behind 2³² granules
//	Stream              sending processes and a receiving one, at full speed
//	RoundTrip           a message there and an answer back
//	Paced               1,000 and 100,000 messages a second: latency one way, processor time by side
//	Drained             what a send costs while the consumer drains
//	Contention          what a send costs beside other senders, with nobody reading
//	Producers           2 to 255 senders, and how equal their shares are
//	Capacity            rings of 64 KiB to 1 GiB
//	Compare             the ring beside pipe and sockets, in pairs
//	Walk WalkPaced      Sender in a worker process to handler on the loop
//	Pipes               the same, with 1 to 100,000 pipes
//	Floor               the cache lines' round trip between two processors
//
// ns/op is a message, or round trip, but for Compare, where it is a pair, and
// Drained, where it is a burst of 32.

func TestMain(m *testing.M) {
	Main()
	flag.Parse()
	if f := flag.Lookup("test.bench"); f != nil && f.Value.String() != "" {
		fmt.Println("machine:", HostLine()) // benchstat keeps "key: value" lines
	}
	os.Exit(m.Run())
}

var (
	allSizes  = []int{16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10}
	fewSizes  = []int{64, 1 << 10, 16 << 10, 64 << 10}
	baselines = []Transport{Pipe, Unix, Seqpacket}
	channel   = []int{16, 64, 1 << 10, 16 << 10} // sizes of messages in Go channels
)

// crewFor starts a crew when the first benchmark that is not filtered out asks
// for it, or the last one has failed, and ends it with the benchmark b.
func crewFor(b *testing.B, o CrewOptions) func(testing.TB) *Crew {
	var c *Crew
	b.Cleanup(func() {
		if c != nil {
			c.Close()
		}
	})
	return func(tb testing.TB) *Crew {
		if c == nil || c.closed {
			var err error
			if c, err = StartCrew(o); err != nil {
				tb.Fatal(err)
			}
		}
		return c
	}
}

func place(pinned bool) string {
	if pinned {
		return "pinned"
	}
	return "free"
}

func BenchmarkStream(b *testing.B) {
	for _, pinned := range []bool{true, false} {
		for _, senders := range []int{1, 2, 4} {
			crew := crewFor(b, CrewOptions{Senders: senders, Pinned: pinned})
			for _, size := range allSizes {
				stream(b, crew, Order{Via: Ring, Size: size}, senders, pinned)
			}
			if !pinned {
				for _, size := range channel {
					stream(b, crew, Order{Via: Channel, Size: size}, senders, pinned)
				}
				continue
			}
			for _, via := range []Transport{Ring, Pipe, Unix} {
				stream(b, crew, Order{Via: via, Size: 64, Batch: 32}, senders, pinned)
			}
			for _, size := range fewSizes {
				stream(b, crew, Order{Via: Ring, Size: size, Verify: true}, senders, pinned)
				for _, via := range baselines {
					if senders == 1 || size == 64 {
						stream(b, crew, Order{Via: via, Size: size}, senders, pinned)
					}
				}
			}
		}
	}
}

func stream(b *testing.B, crew func(testing.TB) *Crew, o Order, senders int, pinned bool) {
	check := "number"
	if o.Verify {
		check = "content"
	}
	name := fmt.Sprintf("transport=%s/size=%d/batch=%d/producers=%d/place=%s/check=%s", o.Via, o.Size, max(1, o.Batch), senders, place(pinned), check)
	b.Run(name, func(b *testing.B) {
		c := crew(b)
		o.N = uint64(b.N)
		b.SetBytes(int64(o.Size))
		b.ResetTimer()
		r, err := c.Stream(o)
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(1e9/r.PerMessage(), "msgs/s")
		report(b, r)
	})
}

// report adds what the processes used; those figures are of all of them, where
// the testing package sees only its own.
func report(b *testing.B, r Result) {
	b.ReportMetric(float64(r.Mallocs)/float64(r.N), "mallocs/msg")
	b.ReportMetric(float64(r.Switches)/float64(r.N), "sleeps/msg")
	b.ReportMetric(float64(r.CPU)/float64(r.N), "cpu-ns/msg")
}

func BenchmarkRoundTrip(b *testing.B) {
	for _, pinned := range []bool{true, false} {
		crew := crewFor(b, CrewOptions{Pinned: pinned})
		for _, size := range []int{16, 64, 1 << 10, 16 << 10} {
			for _, wait := range []Wait{Spin, Sleep, Default} {
				roundTrip(b, crew, Order{Via: Ring, Wait: wait, Size: size}, pinned)
			}
			for _, via := range baselines {
				roundTrip(b, crew, Order{Via: via, Wait: Sleep, Size: size}, pinned)
			}
		}
	}
}

func roundTrip(b *testing.B, crew func(testing.TB) *Crew, o Order, pinned bool) {
	name := fmt.Sprintf("transport=%s/wait=%s/size=%d/place=%s", o.Via, waitName(o.Wait), o.Size, place(pinned))
	b.Run(name, func(b *testing.B) {
		if _, other := twoCPUs(); other < 0 && o.Wait == Spin {
			b.Skip("two that spin take two processors")
		}
		c := crew(b)
		o.N = uint64(b.N)
		b.ResetTimer()
		r, err := c.RoundTrip(o)
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(r.Latency.P50), "p50-ns")
		b.ReportMetric(float64(r.Latency.P99), "p99-ns")
		b.ReportMetric(float64(r.Latency.P999), "p99.9-ns")
		report(b, r)
	})
}

func waitName(w Wait) string {
	return map[Wait]string{Spin: "busy", Sleep: "asleep", Default: "adaptive"}[w]
}

// BenchmarkPaced has the times of messages by the clock. A rate is that of the
// one sender. cpu-ns/msg is of both sides; the sender's is without the pacing.
func BenchmarkPaced(b *testing.B) {
	for _, pinned := range []bool{true, false} {
		crew := crewFor(b, CrewOptions{Pinned: pinned})
		for _, rate := range []int{1_000, 100_000} {
			for _, wait := range []Wait{Default, Sleep, Spin} {
				pace(b, crew, Order{Via: Ring, Wait: wait, Size: 64, Rate: rate}, pinned)
			}
			for _, via := range baselines {
				pace(b, crew, Order{Via: via, Wait: Sleep, Size: 64, Rate: rate}, pinned)
			}
			if !pinned {
				pace(b, crew, Order{Via: Channel, Size: 64, Rate: rate}, pinned)
			}
		}
	}
}

func pace(b *testing.B, crew func(testing.TB) *Crew, o Order, pinned bool) {
	name := fmt.Sprintf("transport=%s/wait=%s/rate=%d/size=%d/place=%s", o.Via, waitName(o.Wait), o.Rate, o.Size, place(pinned))
	b.Run(name, func(b *testing.B) {
		c := crew(b)
		o.N = uint64(b.N)
		b.ResetTimer()
		p, err := c.Paced(o)
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		reportPaced(b, p)
	})
}

func reportPaced(b *testing.B, p Paced) {
	b.ReportMetric(float64(p.Latency.P50), "p50-ns")
	b.ReportMetric(float64(p.Latency.P99), "p99-ns")
	b.ReportMetric(float64(p.Latency.P999), "p99.9-ns")
	b.ReportMetric(p.Rate, "msgs/s")
	b.ReportMetric(float64(p.Sender), "sender-cpu-ns/msg")
	b.ReportMetric(float64(p.Receiver), "receiver-cpu-ns/msg")
	b.ReportMetric(float64(p.Sender+p.Receiver), "cpu-ns/msg")
	b.ReportMetric(float64(p.Switches)/float64(p.N), "sleeps/msg")
}

// BenchmarkCompare does one pair for each b.Loop: -benchtime 15x is 15 pairs.
func BenchmarkCompare(b *testing.B) {
	for _, pinned := range []bool{true, false} {
		crew := crewFor(b, CrewOptions{Pinned: pinned})
		for _, than := range []Transport{Unix, Pipe} {
			for _, size := range []int{16, 64, 1 << 10, 16 << 10, 64 << 10} {
				compare(b, crew, "what=stream", Contest{Size: size, Ours: Ring, Theirs: than}, pinned)
			}
			for _, wait := range []Wait{Spin, Sleep, Default} {
				compare(b, crew, "what="+waitName(wait), Contest{RoundTrip: true, Size: 64, Wait: wait, Ours: Ring, Theirs: than}, pinned)
			}
		}
	}
}

// pairTime is how long each half of a pair runs, about.
const pairTime = 50 * time.Millisecond

func compare(b *testing.B, crew func(testing.TB) *Crew, what string, k Contest, pinned bool) {
	name := fmt.Sprintf("%s/size=%d/than=%s/place=%s", what, k.Size, k.Theirs, place(pinned))
	b.Run(name, func(b *testing.B) {
		if _, other := twoCPUs(); other < 0 && k.Wait == Spin {
			b.Skip("two that spin take two processors")
		}
		bout, err := crew(b).NewBout(k, pairTime)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if err := bout.Pair(); err != nil {
				b.Fatal(err)
			}
		}
		c := bout.Comparison()
		b.ReportMetric(c.Ratio.P50, "ratio-p50")
		b.ReportMetric(c.Ratio.Min, "ratio-min")
		b.ReportMetric(c.Ratio.Max, "ratio-max")
		b.ReportMetric(c.Ours.P50, string(k.Ours)+"-ns")
		b.ReportMetric(c.Theirs.P50, string(k.Theirs)+"-ns")
		b.ReportMetric(c.Floor.P50, "floor-ns")
		b.ReportMetric(c.Floor.Min, "floor-min-ns")
		b.ReportMetric(c.Floor.Max, "floor-max-ns")
		b.ReportMetric(float64(c.Ratio.N), "pairs")
	})
}

func BenchmarkFloor(b *testing.B) {
	crew := crewFor(b, CrewOptions{Pinned: true})
	var floors []float64
	for b.Loop() {
		f, err := crew(b).Floor()
		if err != nil {
			b.Fatal(err)
		}
		if f == 0 {
			b.Skip("a floor takes two processors")
		}
		floors = append(floors, f)
	}
	s := spreadOf(floors)
	b.ReportMetric(s.P50, "floor-ns")
	b.ReportMetric(s.Min, "floor-min-ns")
	b.ReportMetric(s.Max, "floor-max-ns")
}

// BenchmarkWalk is at full speed; allocations are those of the router's
// process. Beside it, what would be in its place.
func BenchmarkWalk(b *testing.B) {
	for _, via := range []Transport{viaRouter, Unix} {
		for _, senders := range []int{1, 2, 4} {
			start := walkFor(b, via, senders)
			for _, size := range fewSizes {
				walk(b, start, Order{Size: size}, via, senders)
			}
			if senders == 1 {
				walk(b, start, Order{Size: 64, Batch: 32}, via, senders)
			}
		}
	}
}

func walk(b *testing.B, start func(testing.TB) wayHome, o Order, via Transport, senders int) {
	name := fmt.Sprintf("via=%s/size=%d/batch=%d/producers=%d", via, o.Size, max(1, o.Batch), senders)
	b.Run(name, func(b *testing.B) {
		w := start(b)
		o.N = uint64(b.N)
		b.SetBytes(int64(o.Size))
		b.ReportAllocs()
		b.ResetTimer()
		r, err := w.Run(o)
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(1e9/r.PerMessage(), "msgs/s")
		report(b, r)
	})
}

// BenchmarkWalkPaced has a pace, because at full speed a message's latency would
// be the time it stands in the queue.
func BenchmarkWalkPaced(b *testing.B) {
	for _, way := range []struct {
		name string
		via  Transport
		opts []router.Option
	}{
		{"router", viaRouter, nil},
		{"router-awake", viaRouter, []router.Option{router.WithWaiting(ring.LowLatency)}},
		{"unix", Unix, nil},
	} {
		start := walkFor(b, way.via, 1, way.opts...)
		for _, rate := range []int{1_000, 10_000, 100_000} {
			b.Run(fmt.Sprintf("via=%s/rate=%d/size=64", way.name, rate), func(b *testing.B) {
				w := start(b)
				b.ResetTimer()
				p, err := w.Paced(Order{N: uint64(b.N), Size: 64, Rate: rate})
				b.StopTimer()
				if err != nil {
					b.Fatal(err)
				}
				reportPaced(b, p)
			})
		}
	}
}

// wayHome is a Walk or a Funnel.
type wayHome interface {
	Run(Order) (Result, error)
	Paced(Order) (Paced, error)
	Close() error
}

// walkFor is crewFor for those.
func walkFor(b *testing.B, via Transport, senders int, opts ...router.Option) func(testing.TB) wayHome {
	var w wayHome
	b.Cleanup(func() {
		if w != nil {
			if err := w.Close(); err != nil {
				b.Error(err)
			}
		}
	})
	return func(tb testing.TB) wayHome {
		if w != nil {
			return w
		}
		var err error
		if via == Unix {
			w, err = StartFunnel(senders)
		} else {
			w, err = StartWalk(senders, opts...)
		}
		if err != nil {
			w = nil
			tb.Fatal(err)
		}
		return w
	}
}
