package stress

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// meter measures: how long messages took, how long dead claims and stopped
// workers were in the way, and how late this process itself was.
//
// While a worker is stopped inside a claim everybody waits, for as long as it
// is stopped; that is the design. So messages that were on their way during a stop
// are measured apart.
type meter struct {
	mu sync.Mutex
	latencies
	recovery  *hdrhistogram.Histogram // as the router itself says
	stalls    stalls
	recovered recoveries
	pings     []time.Duration

	stops   atomic.Int64 // stopped now
	stopEnd atomic.Int64 // when the last stop was over
	stalled atomic.Int64 // when the router last told of a living worker's claim in the way

	listen   atomic.Bool  // pings are under way
	braking  atomic.Bool  // a press is under way
	freeTill atomic.Int64 // until when the loop may run before it brakes again

	lateness lateness
}

// stalls counts claims of living workers that held up everybody for 100 ms or more.
type stalls struct {
	inStops, other int
	longest        time.Duration // in stops
	longestOther   time.Duration
}

// latencies are distributions of the time that messages took, in ns.
type latencies struct {
	free    *hdrhistogram.Histogram // with nobody stopped
	stopped *hdrhistogram.Histogram // otherwise
}

func newLatencies() latencies { return latencies{newHistogram(), newHistogram()} }

func (l latencies) take(o latencies) {
	l.free.Merge(o.free)
	l.stopped.Merge(o.stopped)
}

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(10*time.Minute), 3) }

func newMeter() *meter {
	return &meter{latencies: newLatencies(), recovery: newHistogram(), recovered: newRecoveries()}
}

// latency takes the way of one message.
func (m *meter) latency(sent, now int64) {
	inStop := m.stops.Load() > 0 || sent < m.stopEnd.Load()
	m.mu.Lock()
	h := m.free
	if inStop {
		h = m.stopped
	}
	h.RecordValue(max(now-sent, 1))
	m.mu.Unlock()
}

// stopping and released bound the time in which somebody is stopped.
func (m *meter) stopping(who *member) {
	who.isStopped.Store(true)
	m.stops.Add(1)
}

func (m *meter) released(who *member) {
	if who.isStopped.CompareAndSwap(true, false) {
		m.stopEnd.Store(shm.Now())
		m.stops.Add(-1)
	}
}

// skip is the router's hook for a dead claim. It has a goroutine of its own.
func (m *meter) skip(e ring.SkipEvent) {
	m.mu.Lock()
	record(m.recovery, int64(e.Recovery))
	m.mu.Unlock()
}

// stall is the router's hook for a living worker's claim in the way. It is called
// again each time the age has doubled, so the longest is a lower bound.
func (m *meter) stall(e ring.StallEvent) {
	now := shm.Now()
	m.stalled.Store(now)
	inStop := m.stops.Load() > 0 || now-int64(e.Age) < m.stopEnd.Load()
	m.mu.Lock()
	defer m.mu.Unlock()
	first := 0
	if e.Age < 2*ring.StallAfter {
		first = 1
	}
	if inStop {
		m.stalls.inStops += first
		m.stalls.longest = max(m.stalls.longest, e.Age)
	} else {
		m.stalls.other += first
		m.stalls.longestOther = max(m.stalls.longestOther, e.Age)
	}
}

// pinged takes the way of a ping, which says when it was sent in the diary,
// because it may be too short to say so itself.
func (m *meter) pinged(who *member, now int64) {
	if !m.listen.Load() {
		return
	}
	page := who.diary.page
	at := page.pingAt.Load()
	if at == 0 || at == page.echo.Load() {
		return // the rest of a batch
	}
	m.mu.Lock()
	m.pings = append(m.pings, time.Duration(now-at))
	m.mu.Unlock()
	page.echo.Store(at)
}

// brake holds the loop for a while, then lets it run for as long: the ring fills
// and empties in turn.
func (m *meter) brake() {
	if !m.braking.Load() || shm.Now() < m.freeTill.Load() {
		return
	}
	time.Sleep(brakeTime)
	m.freeTill.Store(shm.Now() + int64(brakeTime))
}

const brakeTime = 10 * time.Millisecond

func (m *meter) forgetPings() {
	m.mu.Lock()
	m.pings = nil
	m.mu.Unlock()
}

// median returns the middle one of the pings.
func (m *meter) median() (time.Duration, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.pings) == 0 {
		return 0, 0
	}
	sorted := slices.Sorted(slices.Values(m.pings))
	return sorted[len(sorted)/2], len(sorted)
}
