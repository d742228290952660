package stress

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/shm"
)

// newTestRecorder records a run of which the test says what it has come to: it takes no look by itself.
func newTestRecorder(seats int) *recorder {
	r := &Run{cfg: Config{Workers: seats}, meter: newMeter()}
	r.book = newBook(r.meter, seats)
	f := &fleet{cfg: &r.cfg}
	r.killer, r.stopper = &killer{f: f}, &stopper{f: f}
	rec := &recorder{run: r, per: 1, past: newLatencies(), spare: newLatencies(), seg: &segment{}}
	rec.line = Timeline{Every: int64(everyInterval), Seats: make([]Seat, seats)}
	rec.before.bySeat = make([]uint64, seats)
	return rec
}

// However long a run, it has some hundred intervals. Nothing is lost between them: sums are those of the run, and neither
// a burst nor a gap nor a slow message is averaged away.
func TestTimelineIsBoundedAndKeepsExtremes(t *testing.T) {
	const looks, burst, gap, slow, full = 2500, 1234, 1456, 777, 2321
	rec := newTestRecorder(2)
	r := rec.run
	var messages uint64
	for k := 1; k <= looks; k++ {
		n := uint64(100)
		switch k {
		case burst:
			n = 9000
		case gap:
			n = 0
		}
		messages += n
		r.book.good, r.book.goodBytes = messages, 10*messages
		r.book.bySeat = []uint64{messages / 4, messages - messages/4}
		r.killer.killed.Store(int64(k / 10))
		r.stopper.stopped.Store(int64(k / 100))
		r.meter.stalls.other = k / 1000
		if n > 0 {
			r.meter.latency(0, int64(time.Microsecond))
		}
		if k == slow {
			r.meter.latency(0, int64(7*time.Second))
		}
		rec.now.Fill.add(1000)
		if k == full {
			rec.now.Fill.add(1 << 20)
		}
		rec.cut(int64(k) * int64(everyInterval))
		require.LessOrEqual(t, len(rec.slices), intervalsMost)
	}
	require.Greater(t, len(rec.slices), intervalsMost/2)

	var sum Interval
	sum.BySeat = make([]uint64, 2)
	var end, count, longest, fullest int64
	slowest, fastest := 1e9, 0.0
	for _, s := range rec.slices {
		require.Equal(t, end, s.From, "no gap")
		require.Equal(t, s.Messages, s.BySeat[0]+s.BySeat[1])
		require.LessOrEqual(t, s.Fill.Least, s.Fill.Mean)
		require.LessOrEqual(t, s.Fill.Mean, s.Fill.Most)
		require.LessOrEqual(t, s.Latency.P50, s.Latency.Max)
		end = s.To
		sum.Messages += s.Messages
		sum.Bytes += s.Bytes
		sum.Killed += s.Killed
		sum.Stopped += s.Stopped
		sum.Stalls += s.Stalls
		count += s.Latency.Count
		slowest, fastest = min(slowest, s.Slowest), max(fastest, s.Fastest)
		longest, fullest = max(longest, s.Latency.Max), max(fullest, s.Fill.Most)
	}
	require.Equal(t, int64(looks)*int64(everyInterval), end)
	require.Equal(t, messages, sum.Messages)
	require.Equal(t, 10*messages, sum.Bytes)
	require.EqualValues(t, looks/10, sum.Killed)
	require.EqualValues(t, looks/100, sum.Stopped)
	require.EqualValues(t, looks/1000, sum.Stalls)
	require.EqualValues(t, looks, count)
	require.Equal(t, 9000/everyInterval.Seconds(), fastest, "the burst")
	require.Zero(t, slowest, "the gap")
	require.InEpsilon(t, int64(7*time.Second), longest, 0.001, "the slow message")
	require.EqualValues(t, 1<<20, fullest, "the moment in which the ring was full")
}

// The meter has at the end what it would have without a timeline, and the timeline's distribution is the same.
func TestTimelineGivesBackLatencies(t *testing.T) {
	rec := newTestRecorder(1)
	m, plain := rec.run.meter, newMeter()
	for k := range int64(1000) {
		if k == 600 {
			for _, m := range []*meter{m, plain} {
				m.stops.Add(1)
			}
		}
		m.latency(0, 1000*k*k)
		plain.latency(0, 1000*k*k)
		if k%70 == 0 {
			rec.cut((k + 1) * int64(everyInterval))
		}
	}
	rec.run.began = shm.Now() - 1001*int64(everyInterval)
	line := rec.finish()
	require.Equal(t, spreadOf(plain.free), spreadOf(m.free))
	require.Equal(t, spreadOf(plain.stopped), spreadOf(m.stopped))
	for _, c := range []struct {
		bins []Bin
		of   Spread
	}{{line.Latency, spreadOf(plain.free)}, {line.LatencyInStops, spreadOf(plain.stopped)}} {
		var sum int64
		for i, b := range c.bins {
			require.Less(t, b.From, b.To)
			if i > 0 {
				require.Equal(t, c.bins[i-1].To, b.From, "no gap")
			}
			sum += b.Count
		}
		require.Equal(t, c.of.Count, sum)
		last := c.bins[len(c.bins)-1]
		require.Positive(t, c.bins[0].Count)
		require.Positive(t, last.Count)
		require.LessOrEqual(t, last.From, c.of.Max)
		require.Greater(t, last.To, c.of.Max)
	}
	m.latency(0, 1)
	require.False(t, rec.look(), "it is over")
	require.Len(t, rec.finish().Intervals, len(line.Intervals), "and may be asked again")
}

// The short interval at the end belongs to the one before: its rate would be that of a moment.
func TestTimelineEnd(t *testing.T) {
	rec := newTestRecorder(1)
	rec.run.book.good, rec.run.book.bySeat = 100, []uint64{100}
	rec.cut(int64(everyInterval))
	rec.run.book.good, rec.run.book.bySeat = 150, []uint64{150}
	rec.cut(int64(everyInterval) + 1000)
	require.Len(t, rec.slices, 1)
	require.EqualValues(t, 150, rec.slices[0].Messages)
	require.Equal(t, 100/everyInterval.Seconds(), rec.slices[0].Fastest)
}

// Bins meet where they should, and what is beyond the last belongs to it.
func TestBins(t *testing.T) {
	h := newHistogram()
	require.Empty(t, bins(h))
	for _, ns := range []int64{1, 99, 100, 1000, int64(5 * time.Minute)} {
		h.RecordValue(ns)
	}
	all := bins(h)
	require.Equal(t, Bin{0, 100, 2}, all[0])
	require.Equal(t, Bin{100, 126, 1}, all[1])
	require.Equal(t, Bin{1000, 1259, 1}, all[11])
	require.EqualValues(t, 1, all[len(all)-1].Count)
}
