package stress

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// recoveries are how long it took until the others were rid of killed workers.
type recoveries struct {
	skip  *hdrhistogram.Histogram // see witness: what RecoveryBound is promised for
	whole *hdrhistogram.Histogram // from the lock being free, wherever the consumer was
	stops *hdrhistogram.Histogram // as skip, where a worker was stopped meanwhile, perhaps in front
	lock  *hdrhistogram.Histogram // from the kill to the kernel's freeing the lock
	end   *hdrhistogram.Histogram // from the lock being free to the receiver's being told
	last  *hdrhistogram.Histogram // from the kill to the arrival of a last message, sent before
	late  []lateRecovery          // the worst of them
	over  int64                   // how many there were
	inexc int64                   // of these, without the excuse that this process could not run
	lost  int64                   // kills of which the witness has not seen the end
}

func newRecoveries() recoveries {
	h := newHistogram
	return recoveries{skip: h(), whole: h(), stops: h(), lock: h(), end: h(), last: h()}
}

// RecoveryBound is what is promised where the consumer gets a core, and lastBound for a
// message whose sender died before its wake.
const (
	RecoveryBound = 10 * time.Millisecond
	lastBound     = 100 * time.Millisecond
)

// lateRecovery is one that took longer than its bound.
type lateRecovery struct {
	what   string
	bound  time.Duration
	took   time.Duration
	excuse time.Duration // for so long this process could not run meanwhile
}

// lateMost is how many are told.
const lateMost = 10

// beyond is by how much it broke the bound, less the excuse.
func (r lateRecovery) beyond() time.Duration { return r.took - r.excuse - r.bound }

func (r lateRecovery) String() string {
	return fmt.Sprintf("%s after %v, of which this process could not run for %v; the bound is %v",
		r.what, r.took.Round(time.Microsecond), r.excuse.Round(time.Microsecond), r.bound)
}

// saw takes what the witness has seen.
func (m *meter) saw(c *sighting) {
	inStop := m.stops.Load() > 0 || c.killed < m.stopEnd.Load()
	begin := max(c.heldLast, c.ready)
	var excuse time.Duration
	if c.found && c.skipped-begin > int64(RecoveryBound) {
		excuse = m.lateness.since(begin)
	}
	c.m.freeAt.Store(c.heldLast)
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &m.recovered
	record(r.lock, c.free-c.killed)
	if !c.found {
		return
	}
	if inStop {
		record(r.stops, c.skipped-begin)
		return
	}
	record(r.whole, c.skipped-c.heldLast)
	record(r.skip, c.skipped-begin)
	m.tooLate("a dead claim was skipped", RecoveryBound, time.Duration(c.skipped-begin), excuse)
}

func (m *meter) unseen() {
	m.mu.Lock()
	m.recovered.lost++
	m.mu.Unlock()
}

// buried takes what became known of a killed worker when its pipe had ended.
func (m *meter) buried(who *member) {
	killed, arrived := who.killedAt.Load(), who.lastAt.Load()
	inStop := m.stops.Load() > 0 || killed < m.stopEnd.Load()
	// A living worker that was not given a processor in its claim kept everybody waiting, and the router
	// has said so: its stalls are counted apart.
	stalled := killed < m.stalled.Load()
	if killed == 0 || inStop || stalled {
		return
	}
	var excuse time.Duration
	if arrived-killed > int64(lastBound) {
		excuse = m.lateness.since(killed)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if free := who.freeAt.Load(); free != 0 {
		record(m.recovered.end, who.endAt-free)
	}
	if arrived > killed {
		record(m.recovered.last, arrived-killed)
		m.tooLate("a killed worker's last message arrived", lastBound, time.Duration(arrived-killed), excuse)
	}
}

// tooLate is for who holds mu.
func (m *meter) tooLate(what string, bound, took, excuse time.Duration) {
	if took <= bound {
		return
	}
	r := &m.recovered
	r.over++
	if took-excuse > bound {
		r.inexc++
	}
	r.late = append(r.late, lateRecovery{what, bound, took, excuse})
	slices.SortFunc(r.late, func(a, b lateRecovery) int { return cmp.Compare(b.beyond(), a.beyond()) })
	r.late = r.late[:min(len(r.late), lateMost)]
}

func record(h *hdrhistogram.Histogram, ns int64) { h.RecordValue(max(ns, 1)) }

// Recovery is how long it took until the others were rid of killed workers. Times in nanoseconds.
type Recovery struct {
	// Skip is promised to be at most 10 ms: from the owner's lock being free (or, if later, from
	// when the consumer had come to the claim, or somebody waited behind it) to the claim
	// being skipped. Seen from outside, never too short, and nothing subtracted.
	Skip Spread `json:"skip_ns"`
	// Buckets are those of Skip.
	Buckets []Bucket `json:"skip_buckets"`
	// Whole is from the lock being free in any case.
	Whole Spread `json:"since_lock_free_ns"`
	// InStops is Skip where a stopped worker may have stood in front.
	InStops Spread `json:"in_stops_ns"`
	// LockFree is from the kill to the lock being free: the kernel's part.
	LockFree Spread `json:"kill_to_lock_free_ns"`
	// End is from the lock being free to the end of the pipe being told.
	End Spread `json:"lock_free_to_end_ns"`
	// Last is promised to be at most 100 ms: from the kill to the arrival of the last
	// message of a killed worker that came after the kill.
	Last Spread `json:"kill_to_last_message_ns"`
	// Own is what the router says of Skip: from when it saw the claim, or its owner alive.
	Own Spread `json:"by_router_ns"`
	// Lost counts kills of which the end was not seen within 5 s.
	Lost int64 `json:"unseen"`
	// Over counts those above their bound, Unexcused those that still are when the time for which
	// this process could not run is subtracted. Late are the worst.
	Over      int64    `json:"over_bound"`
	Unexcused int64    `json:"over_bound_unexcused"`
	Late      []string `json:"late"`
}

// Bucket counts what was above the bucket before and at most Most.
type Bucket struct {
	Most  int64 `json:"most_ns"`
	Count int64 `json:"count"`
}

var bucketTops = []time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 200 * time.Microsecond, 500 * time.Microsecond, time.Millisecond, 2 * time.Millisecond,
	5 * time.Millisecond, RecoveryBound, 20 * time.Millisecond, 50 * time.Millisecond, lastBound, time.Second, time.Hour,
}

// report is for who holds the meter's mu.
func (r *recoveries) report() Recovery {
	res := Recovery{
		Skip: spreadOf(r.skip), Whole: spreadOf(r.whole), InStops: spreadOf(r.stops), LockFree: spreadOf(r.lock),
		End: spreadOf(r.end), Last: spreadOf(r.last), Lost: r.lost, Over: r.over, Unexcused: r.inexc, Late: []string{},
	}
	counts := make([]int64, len(bucketTops))
	for _, bar := range r.skip.Distribution() {
		for i, top := range bucketTops {
			if bar.From <= int64(top) {
				counts[i] += bar.Count
				break
			}
		}
	}
	last := 0
	for i, n := range counts {
		if n > 0 {
			last = i
		}
	}
	for i, n := range counts[:last+1] {
		res.Buckets = append(res.Buckets, Bucket{int64(bucketTops[i]), n})
	}
	for _, l := range r.late {
		res.Late = append(res.Late, l.String())
	}
	return res
}

// RecoveryRow is one of the distributions, and what it is of.
type RecoveryRow struct {
	What string
	Spread
}

// Rows are the distributions of which something was seen, as they are told.
func (r *Recovery) Rows() []RecoveryRow {
	rows := []RecoveryRow{
		{"claim skipped, from its lock being free (10 ms)", r.Skip},
		{"  also while the consumer was not there yet", r.Whole},
		{"  with a worker stopped meanwhile", r.InStops},
		{"  as the router sees it", r.Own},
		{"lock free, from the kill", r.LockFree},
		{"receiver told, from the lock being free", r.End},
		{"last message, from the kill (100 ms)", r.Last},
	}
	return slices.DeleteFunc(rows, func(row RecoveryRow) bool { return row.Count == 0 })
}

// Print writes the distributions, and the buckets as bars.
func (r *Recovery) Print(w io.Writer) {
	fmt.Fprintf(w, "%-52s %9s %10s %10s %10s %10s\n", "after a kill", "count", "p50", "p99", "p99.9", "longest")
	for _, row := range r.Rows() {
		fmt.Fprintf(w, "%-52s %9s %10s %10s %10s %10s\n", row.What, Count(uint64(row.Count)), Time(row.P50), Time(row.P99), Time(row.P999), Time(row.Max))
	}
	most := int64(1)
	for _, b := range r.Buckets {
		most = max(most, b.Count)
	}
	for _, b := range r.Buckets {
		if r.Skip.Count > 0 {
			fmt.Fprintf(w, "  skipped within %7v %9s  %s\n", time.Duration(b.Most), Count(uint64(b.Count)), strings.Repeat("#", int((b.Count*50+most-1)/most)))
		}
	}
	if r.Over > 0 {
		fmt.Fprintf(w, "  %d above their bound, %d of them also without the time for which this process could not run; the worst:\n", r.Over, r.Unexcused)
	}
	for _, l := range r.Late {
		fmt.Fprintf(w, "  late: %s\n", l)
	}
}
