package bench

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

// The benchmarks' names are made of key=value, as benchstat reads them:
//
//	Send Receive Claim  one process, nobody else: the bare cost of each half
//	Stream              sending processes and a receiving one, at full speed
//	RoundTrip           a message there and an answer back
//	Compare             the ring beside pipe and sockets, in pairs
//	Walk WalkLatency    Sender in a worker process to handler on the loop
//	Floor               the cache lines' round trip between two processors

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
				continue
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
	name := fmt.Sprintf("transport=%s/size=%d/producers=%d/place=%s/check=%s", o.Via, o.Size, senders, place(pinned), check)
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
		b.ReportMetric(1e3/r.PerMessage(), "Mmsg/s")
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
	wait := map[Wait]string{Spin: "busy", Sleep: "asleep", Default: "adaptive"}[o.Wait]
	name := fmt.Sprintf("transport=%s/wait=%s/size=%d/place=%s", o.Via, wait, o.Size, place(pinned))
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

// BenchmarkCompare does one pair for each b.Loop: -benchtime 15x is 15 pairs.
func BenchmarkCompare(b *testing.B) {
	for _, pinned := range []bool{true, false} {
		crew := crewFor(b, CrewOptions{Pinned: pinned})
		for _, than := range []Transport{Unix, Pipe} {
			for _, size := range []int{16, 64, 1 << 10, 16 << 10, 64 << 10} {
				compare(b, crew, "what=stream", Contest{Size: size, Ours: Ring, Theirs: than}, pinned)
			}
			for _, wait := range []Wait{Spin, Sleep, Default} {
				what := map[Wait]string{Spin: "what=busy", Sleep: "what=asleep", Default: "what=adaptive"}[wait]
				compare(b, crew, what, Contest{RoundTrip: true, Size: 64, Wait: wait, Ours: Ring, Theirs: than}, pinned)
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
// process.
func BenchmarkWalk(b *testing.B) {
	for _, senders := range []int{1, 2, 4} {
		start := walkFor(b, senders)
		for _, size := range fewSizes {
			b.Run(fmt.Sprintf("size=%d/producers=%d", size, senders), func(b *testing.B) {
				w := start(b)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				b.ResetTimer()
				r, err := w.Run(Order{N: uint64(b.N), Size: size})
				b.StopTimer()
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(1e3/r.PerMessage(), "Mmsg/s")
				report(b, r)
			})
		}
	}
}

// BenchmarkWalkLatency is paced: at full speed a message's latency would be the
// time it stands in the queue.
func BenchmarkWalkLatency(b *testing.B) {
	start := walkFor(b, 1)
	for _, rate := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("rate=%d/size=64", rate), func(b *testing.B) {
			w := start(b)
			b.ResetTimer()
			r, err := w.Run(Order{N: uint64(b.N), Size: 64, Rate: rate})
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
}

// walkFor is crewFor with a router.
func walkFor(b *testing.B, senders int) func(testing.TB) *Walk {
	var w *Walk
	b.Cleanup(func() {
		if w != nil {
			if err := w.Close(); err != nil {
				b.Error(err)
			}
		}
	})
	return func(tb testing.TB) *Walk {
		if w == nil {
			var err error
			if w, err = StartWalk(senders); err != nil {
				tb.Fatal(err)
			}
		}
		return w
	}
}
