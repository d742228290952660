package speed

import (
	"time"

	"github.com/shmrouter/shmrouter/bench"
	"github.com/shmrouter/shmrouter/ring"
)

// row is one line of the table: a way of using the ring, and who is asked to do the same.
type row struct {
	name    string
	title   string
	ask     bench.Contest // Theirs is each of the rivals
	senders int
	rivals  []bench.Transport
	walk    bool         // from a worker's Send to a handler, and not from producer to consumer
	waiting ring.Waiting // of the walk's router
	longer  float64      // how many times longer than others it runs, 0 for once
}

var (
	everybody = []bench.Transport{bench.Pipe, bench.Unix, bench.Channel}
	processes = []bench.Transport{bench.Pipe, bench.Unix}
	sockets   = []bench.Transport{bench.Unix}
)

// The rows, in the table's order. Round trips of one message at a time show latency, streams throughput; where messages are
// paced, what they cost both sides counts as well.
var rows = []row{
	{name: "stream-16", title: "stream, 16 B", ask: bench.Contest{Size: 16}, senders: 1, rivals: everybody},
	{name: "stream-64", title: "stream, 64 B", ask: bench.Contest{Size: 64}, senders: 1, rivals: everybody},
	{name: "stream-1024", title: "stream, 1 KiB", ask: bench.Contest{Size: 1 << 10}, senders: 1, rivals: everybody},
	{name: "stream-16384", title: "stream, 16 KiB", ask: bench.Contest{Size: 16 << 10}, senders: 1, rivals: everybody},
	{name: "batch-32", title: "stream, 64 B, batches of 32", ask: bench.Contest{Size: 64, Batch: 32}, senders: 1, rivals: everybody},
	{name: "producers-2", title: "stream, 64 B, two senders", ask: bench.Contest{Size: 64}, senders: 2, rivals: everybody},
	{name: "producers-4", title: "stream, 64 B, four senders", ask: bench.Contest{Size: 64}, senders: 4, rivals: everybody},
	{
		name: "busy", title: "round trip, 64 B, the ring spins",
		ask: bench.Contest{Size: 64, RoundTrip: true, Wait: bench.Spin}, senders: 1, rivals: everybody,
	},
	{
		name: "asleep", title: "round trip, 64 B, all sleep",
		ask: bench.Contest{Size: 64, RoundTrip: true, Wait: bench.Sleep}, senders: 1, rivals: processes, // goroutines do not sleep in the kernel
	},
	{
		name: "paced-1000", title: "one way, 1,000 a second", longer: 5,
		ask: bench.Contest{Size: 64, Rate: 1_000}, senders: 1, rivals: everybody,
	},
	{name: "paced-100000", title: "one way, 100,000 a second", ask: bench.Contest{Size: 64, Rate: 100_000}, senders: 1, rivals: everybody},
	{name: "walk", title: "worker to handler, 64 B", ask: bench.Contest{Size: 64}, senders: 1, rivals: sockets, walk: true},
	{
		name: "walk-100000", title: "worker to handler, 100,000 a second",
		ask: bench.Contest{Size: 64, Rate: 100_000}, senders: 1, rivals: sockets, walk: true,
	},
	{
		name: "walk-awake", title: "the same, the router in LowLatency",
		ask: bench.Contest{Size: 64, Rate: 100_000}, senders: 1, rivals: sockets, walk: true, waiting: ring.LowLatency,
	},
}

// Names are those of the rows.
func Names() (names []string) {
	for _, r := range rows {
		names = append(names, r.name)
	}
	return names
}

// rate says that the row's figures are messages a second, and not times.
func (r row) rate() bool { return !r.ask.RoundTrip && r.ask.Rate == 0 }

// spins says that both sides spin, which takes two processors.
func (r row) spins() bool { return r.ask.Wait == bench.Spin }

// each is how long a run of the row takes.
func (r row) each(d time.Duration) time.Duration {
	if r.longer > 0 {
		return time.Duration(float64(d) * r.longer)
	}
	return d
}
