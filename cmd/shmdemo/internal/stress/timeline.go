package stress

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/shmrouter/shmrouter/shm"
)

// Timeline is how a run went, over time. Times are in nanoseconds since the run began. Its size is bounded: where a run is
// long two neighbours become one again and again, so that there are some hundred of everything.
type Timeline struct {
	Capacity  int64      `json:"capacity_bytes"` // of the ring
	Every     int64      `json:"every_ns"`       // the time over which the least and the greatest rates are
	Sending   int64      `json:"sending_ns"`     // until then everybody sends, and some are killed and stopped
	Intervals []Interval `json:"intervals"`
	Phases    []Phase    `json:"phases"`
	Seats     []Seat     `json:"seats"` // by number
	// Distributions of everything that Result has of the same name.
	Latency        []Bin `json:"latency"`
	LatencyInStops []Bin `json:"latency_in_stops"`
	Skip           []Bin `json:"recovery_skip"`
}

// Interval is a piece of the run. Together they are the whole of it, without a gap.
type Interval struct {
	From     int64    `json:"from_ns"`
	To       int64    `json:"to_ns"`
	Messages uint64   `json:"messages"` // delivered
	Bytes    uint64   `json:"bytes"`
	BySeat   []uint64 `json:"messages_by_seat"`
	Slowest  float64  `json:"least_messages_per_second"` // of any Timeline.Every in it
	Fastest  float64  `json:"most_messages_per_second"`
	Fill     Fill     `json:"fill_bytes"`
	Latency  Spread   `json:"latency_ns"` // of all messages, also those under way in a stop
	Killed   int64    `json:"killed"`
	Stopped  int64    `json:"stopped"`
	Stalls   int      `json:"stalls"`
}

// Fill is how much of the ring was claimed and not yet given back, at some looks.
type Fill struct {
	Least int64 `json:"least"`
	Mean  int64 `json:"mean"`
	Most  int64 `json:"most"`
	looks int64
}

// Phase is a step of the run.
type Phase struct {
	Name string `json:"name"`
	From int64  `json:"from_ns"`
}

// Bin counts what took from From up to To.
type Bin struct {
	From  int64 `json:"from_ns"`
	To    int64 `json:"to_ns"`
	Count int64 `json:"count"`
}

const (
	everyFill     = 5 * time.Millisecond
	everyInterval = 50 * time.Millisecond
	intervalsMost = 400
	phasesMost    = 100
)

// recorder writes the timeline of a run while it goes on. A nil one records nothing.
//
// It takes nothing from who sends and receives but a look now and then: each interval it puts empty histograms in place
// of the meter's, and gives back all of them at the end.
type recorder struct {
	run *Run
	seg *segment // of its own: the ring's fill

	mu        sync.Mutex
	over      bool
	line      Timeline
	slices    []slice // one for each interval
	per, have int     // looks that an interval has, and the last one

	stayGrain, pauseGrain, killGrain int64 // what is nearer or shorter is joined: see stay.go

	now         slice // under way
	before      counts
	past, spare latencies // what was cut off so far; for the meter, at the next cut
}

// slice is an interval with its latencies, roughly, for when it is joined to the next.
type slice struct {
	Interval
	rough *hdrhistogram.Histogram // nil: nothing arrived
}

// counts only grow.
type counts struct {
	messages, bytes uint64
	bySeat          []uint64
	killed, stopped int64
	stalls          int
}

func newRecorder(r *Run) (*recorder, error) {
	f, err := r.host.main.segment()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rec := &recorder{run: r, per: 1, past: newLatencies(), spare: newLatencies()}
	if rec.seg, err = openSegment(f); err != nil {
		return nil, err
	}
	rec.line = Timeline{Capacity: r.cfg.Capacity, Every: int64(everyInterval), Seats: make([]Seat, r.cfg.Workers)}
	rec.before.bySeat = make([]uint64, r.cfg.Workers)
	return rec, nil
}

// watch records until quit is closed or the timeline is read.
func (rec *recorder) watch(quit <-chan struct{}) {
	t := time.NewTicker(everyFill)
	defer t.Stop()
	for more := true; more; {
		select {
		case <-quit:
			return
		case <-t.C:
		}
		more = rec.look()
	}
}

func (rec *recorder) look() (more bool) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.over {
		return false
	}
	rec.now.Fill.add(rec.seg.fill())
	if now := rec.time(); now-rec.now.From >= int64(everyInterval) {
		rec.cut(now)
	}
	return true
}

func (rec *recorder) time() int64 { return shm.Now() - rec.run.began }

// cut ends the interval under way.
func (rec *recorder) cut(now int64) {
	c, was := rec.count(), rec.before
	s := rec.now
	s.To, s.Messages, s.Bytes = now, c.messages-was.messages, c.bytes-was.bytes
	s.Killed, s.Stopped, s.Stalls = c.killed-was.killed, c.stopped-was.stopped, c.stalls-was.stalls
	s.BySeat = make([]uint64, len(c.bySeat))
	for i, n := range c.bySeat {
		s.BySeat[i] = n - was.bySeat[i]
	}
	s.Slowest = float64(s.Messages) / time.Duration(now-s.From).Seconds()
	s.Fastest = s.Slowest
	rec.before = c
	rec.latencies(&s)
	rec.now = slice{Interval: Interval{From: now}}

	// The last one is short: its rate says nothing.
	if n := len(rec.slices); n > 0 && (rec.have < rec.per || s.To-s.From < int64(everyInterval)/2) {
		if s.To-s.From < int64(everyInterval)/2 {
			s.Slowest, s.Fastest = rec.slices[n-1].Slowest, rec.slices[n-1].Fastest
		}
		rec.slices[n-1] = join(rec.slices[n-1], s)
		rec.have++
		return
	}
	if len(rec.slices) == intervalsMost {
		rec.slices = halve(rec.slices, join)
		rec.per *= 2
	}
	rec.slices, rec.have = append(rec.slices, s), 1
}

func (rec *recorder) count() (c counts) {
	r := rec.run
	c.killed, c.stopped = r.killer.killed.Load(), r.stopper.stopped.Load()
	r.book.mu.Lock()
	c.messages, c.bytes, c.bySeat = r.book.good, r.book.goodBytes, slices.Clone(r.book.bySeat)
	r.book.mu.Unlock()
	r.meter.mu.Lock()
	c.stalls = r.meter.stalls.inStops + r.meter.stalls.other
	r.meter.mu.Unlock()
	return c
}

// latencies takes what the meter has measured since the last time.
func (rec *recorder) latencies(s *slice) {
	m := rec.run.meter
	m.mu.Lock()
	last := m.latencies
	m.latencies = rec.spare
	m.mu.Unlock()
	rec.past.take(last)
	all := last.free
	if last.stopped.TotalCount() > 0 { // mostly nobody is stopped
		all.Merge(last.stopped)
		last.stopped.Reset()
	}
	if all.TotalCount() > 0 {
		s.Latency, s.rough = spreadOf(all), newRough()
		s.rough.Merge(all)
		all.Reset()
	}
	rec.spare = last
}

// newRough makes a histogram of some kilobytes: a value may be off by a sixteenth.
func newRough() *hdrhistogram.Histogram { return hdrhistogram.New(1000, int64(10*time.Minute), 1) }

// join makes one of two that follow each other.
func join(a, b slice) slice {
	a.To = b.To
	a.Messages += b.Messages
	a.Bytes += b.Bytes
	a.BySeat = slices.Clone(a.BySeat)
	for i, n := range b.BySeat {
		a.BySeat[i] += n
	}
	a.Slowest, a.Fastest = min(a.Slowest, b.Slowest), max(a.Fastest, b.Fastest)
	a.Fill.join(b.Fill)
	a.Killed += b.Killed
	a.Stopped += b.Stopped
	a.Stalls += b.Stalls
	switch {
	case b.rough == nil:
	case a.rough == nil:
		a.rough, a.Latency = b.rough, b.Latency
	default:
		most := max(a.Latency.Max, b.Latency.Max)
		a.rough.Merge(b.rough)
		a.Latency = spreadOf(a.rough)
		for _, p := range []*int64{&a.Latency.P50, &a.Latency.P99, &a.Latency.P999} {
			*p = min(*p, most)
		}
		a.Latency.Max = most
	}
	return a
}

// halve makes one of each two, in place.
func halve[T any](all []T, join func(a, b T) T) []T {
	half := all[:0]
	for i := 0; i < len(all); i += 2 {
		one := all[i]
		if i+1 < len(all) {
			one = join(one, all[i+1])
		}
		half = append(half, one)
	}
	clear(all[len(half):])
	return half
}

func (f *Fill) add(used int64) { f.join(Fill{used, used, used, 1}) }

func (f *Fill) join(o Fill) {
	switch {
	case o.looks == 0:
	case f.looks == 0:
		*f = o
	default:
		looks := f.looks + o.looks
		*f = Fill{min(f.Least, o.Least), (f.Mean*f.looks + o.Mean*o.looks) / looks, max(f.Most, o.Most), looks}
	}
}

// phase notes that the run has come to another one.
func (rec *recorder) phase(name string) {
	if rec == nil {
		return
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if n := len(rec.line.Phases); n > 0 && rec.line.Phases[n-1].Name == "sending" && rec.line.Sending == 0 {
		rec.line.Sending = rec.time()
	}
	if len(rec.line.Phases) < phasesMost {
		rec.line.Phases = append(rec.line.Phases, Phase{name, rec.time()})
	}
}

// finish ends the timeline, gives the meter back what was cut off it, and returns what there is. With nil nothing is there.
func (rec *recorder) finish() *Timeline {
	if rec == nil {
		return nil
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if !rec.over {
		rec.over = true
		now := rec.time()
		rec.cut(now)
		rec.seg.close()
		m := rec.run.meter
		m.mu.Lock()
		m.latencies.take(rec.past)
		rec.line.Latency, rec.line.LatencyInStops, rec.line.Skip = bins(m.free), bins(m.stopped), bins(m.recovered.skip)
		m.mu.Unlock()
		for _, s := range rec.slices {
			rec.line.Intervals = append(rec.line.Intervals, s.Interval)
		}
		for i := range rec.line.Seats {
			rec.line.Seats[i].finish(now)
		}
		if rec.line.Sending == 0 {
			rec.line.Sending = now
		}
	}
	line := rec.line
	return &line
}

// binEdges are where the bins of a distribution meet: ten of them for each power of ten, from 100 ns to 1000 s.
var binEdges = func() (edges []int64) {
	for k := range 101 {
		edges = append(edges, int64(math.Round(100*math.Pow(10, float64(k)/10))))
	}
	return edges
}()

// bins tells a histogram over a logarithmic axis, from the first to the last bin that is not empty.
func bins(h *hdrhistogram.Histogram) []Bin {
	all := []Bin{}
	for i, to := range binEdges {
		all = append(all, Bin{To: to})
		if i > 0 {
			all[i].From = binEdges[i-1]
		}
	}
	for _, bar := range h.Distribution() {
		i, _ := slices.BinarySearch(binEdges, bar.From+1)
		all[min(i, len(all)-1)].Count += bar.Count
	}
	full := func(b Bin) bool { return b.Count > 0 }
	first := max(slices.IndexFunc(all, full), 0)
	for len(all) > first && !full(all[len(all)-1]) {
		all = all[:len(all)-1]
	}
	return all[first:]
}
