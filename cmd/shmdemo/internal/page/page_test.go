package page

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/soak"
	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/stress"
)

const hostile = `</title></style></script><script>alert("1")</script>&'`

// parse returns a page's elements by name and its whole text; it has to be well-formed.
func parse(t *testing.T, page []byte) (elements map[string]int, text string) {
	t.Helper()
	elements = map[string]int{}
	var all strings.Builder
	d := xml.NewDecoder(bytes.NewReader(page))
	d.Entity = xml.HTMLEntity
	for {
		token, err := d.Token()
		if err == io.EOF {
			return elements, all.String()
		}
		require.NoError(t, err)
		switch token := token.(type) {
		case xml.StartElement:
			elements[token.Name.Local]++
			for _, a := range token.Attr {
				require.NotContains(t, a.Value, "NaN")
				require.NotContains(t, a.Value, "Inf")
			}
		case xml.CharData:
			all.Write(token)
		}
	}
}

var asked = Asked{Command: hostile, When: hostile, Interrupted: true, Options: []Row{{hostile, hostile}}}

// timeline has so many seats and intervals, with something of everything.
func timeline(seats, intervals int) *stress.Timeline {
	line := &stress.Timeline{Capacity: 4 << 20, Every: int64(50 * time.Millisecond), Sending: int64(intervals) * 40e6}
	for n := range seats {
		line.Seats = append(line.Seats, stress.Seat{
			Stays:  []stress.Stay{{Workers: 1, From: int64(n), To: 10e6, Killed: 1, KilledInClaim: n % 2}, {Workers: 9, From: 20e6, To: 90e6, Killed: 7}},
			Pauses: []stress.Pause{{From: 1e6, To: 5e6, Stops: 1, Stopped: 4e6}, {From: 30e6, To: 40e6, Stops: 3, Stopped: 4e6}},
			Kills:  []stress.Kill{{At: 10e6, Killed: 1, InClaim: n % 2}, {At: 50e6, Killed: 7}},
		})
	}
	for k := range intervals {
		i := stress.Interval{From: int64(k) * 50e6, To: int64(k+1) * 50e6, BySeat: make([]uint64, seats)}
		if k%2 == 0 { // nothing arrives in the others
			i.Messages, i.BySeat[0] = 100, 100
			i.Latency = stress.Spread{Count: 100, P50: 1e6, P99: 2e6, P999: 3e6, Max: 3e6}
		}
		line.Intervals = append(line.Intervals, i)
	}
	return line
}

// Whatever a run has come to, its page is whole.
func TestStressPages(t *testing.T) {
	full := &stress.Result{Workers: 2, CPUs: 2, Machine: hostile, Violations: []string{hostile, "b"}, Killed: 3, Latency: stress.Spread{Count: 1, P50: 1, P99: 1, P999: 1, Max: 1}}
	full.Recovery = stress.Recovery{Skip: stress.Spread{Count: 3, P50: 1e6, P99: 2e7, P999: 2e7, Max: 2e7}, Over: 1, Late: []string{hostile}}
	full.LatencyInStops = full.Latency
	line := timeline(2, 7)
	line.Skip = []stress.Bin{{From: 1e6, To: 2e6, Count: 2}, {From: 2e6, To: 4e6}, {From: 16e6, To: 32e6, Count: 1}}
	line.Latency, line.LatencyInStops = []stress.Bin{{From: 0, To: 100, Count: 1}}, []stress.Bin{{From: 1e6, To: 2e6, Count: 1e9}}
	full.Timeline = line
	for name, res := range map[string]*stress.Result{
		"everything":     full,
		"nothing":        {},
		"no interval":    {Timeline: &stress.Timeline{}},
		"one interval":   {Workers: 1, Timeline: timeline(1, 1)},
		"hundreds":       {Workers: 200, Timeline: timeline(200, 400)},
		"of no length":   {Workers: 1, Timeline: &stress.Timeline{Seats: make([]stress.Seat, 1), Intervals: []stress.Interval{{BySeat: []uint64{0}}}}},
		"all is well":    {OK: true, Workers: 3, Timeline: timeline(3, 50)},
		"an hour's time": {Workers: 1, Timeline: &stress.Timeline{Seats: make([]stress.Seat, 1), Intervals: []stress.Interval{{To: int64(time.Hour), BySeat: []uint64{1}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			require.NoError(t, Stress(&out, res, asked))
			elements, text := parse(t, out.Bytes())
			require.Equal(t, 1, elements["script"])
			require.GreaterOrEqual(t, strings.Count(text, hostile), 4, "what was asked is shown as it is")
			require.Equal(t, res.OK, strings.Contains(text, "Nothing lost"))
			require.Contains(t, text, "A signal ended the run early")
			for _, v := range res.Violations {
				require.Contains(t, text, v)
			}
			require.Less(t, out.Len(), 1<<20)
		})
	}
}

// What the tests of wakes make one seat send, when it has the ring for itself, is not drawn to the scale of all.
func TestSeatsEndWithTheSending(t *testing.T) {
	line := timeline(2, 10) // told to send for 400 ms of 500
	line.Intervals[8].BySeat[0] = 1e6
	var out bytes.Buffer
	require.NoError(t, Stress(&out, &stress.Result{Workers: 2, Timeline: line}, asked))
	lanes := regexp.MustCompile(`<path class="spark" [^>]*d="([^"]+)"`).FindAllStringSubmatch(out.String(), -1)
	require.Len(t, lanes, 2)
	for _, lane := range lanes {
		points := regexp.MustCompile(`[ML]([0-9.]+) `).FindAllStringSubmatch(lane[1], -1)
		require.Len(t, points, 2*8)
		for _, p := range points {
			x, err := strconv.ParseFloat(p[1], 64)
			require.NoError(t, err)
			require.Less(t, x, 800.0, "of 1000, in %s", lane[1])
		}
	}
	require.Contains(t, out.String(), "up to 2,000 messages/s")
}

// A recovery that took longer than 10 ms is not passed over, and where it waited for a processor that is not called a broken promise.
func TestRecoveryTile(t *testing.T) {
	for _, c := range []struct {
		longest, unexcused int64
		name, value, note  string
	}{
		{9e6, 0, "recovery, longest", "9 ms", "p50 1 ms; promised: 10 ms"},
		{11e6, 0, "recovery, given a processor", "≤ 10 ms", "as promised; p50 1 ms; longest, waiting for a processor, 11 ms"},
		{11e6, 2, "recovery, longest", "11 ms", "p50 1 ms; promised: 10 ms; late 2 times with a processor at hand"},
	} {
		res := &stress.Result{Recovery: stress.Recovery{Skip: stress.Spread{Count: 5, P50: 1e6, Max: c.longest}, Unexcused: c.unexcused}}
		require.Equal(t, tile{"recovery", c.name, c.value, c.note}, tiles(res)[5])
	}
}

func TestSoakPages(t *testing.T) {
	full := &soak.Result{
		Elapsed: int64(time.Minute), Machine: hostile, Violations: []string{hostile}, Epochs: 3, WarmUp: 1, Names: []string{hostile},
		Arenas:    []soak.Arena{{Name: hostile, Delivered: 5}, {Name: "b"}},
		Resources: []soak.Resource{{Name: hostile, Bytes: true, AtRest: soak.Trend{First: 1 << 20, Last: 3 << 20, Grew: true}}, {Name: "b"}},
		Rests:     make([]soak.Sample, 3), Windows: make([]soak.Window, 3),
	}
	for k := range full.Rests {
		full.Rests[k].At, full.Windows[k].At, full.Windows[k].Samples = int64(k)*20e9, int64(k)*20e9, 1
		full.Rests[k].Value[0] = uint64(k) << 20
	}
	for name, res := range map[string]*soak.Result{"everything": full, "nothing": {}, "no rest": {Resources: full.Resources}} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			require.NoError(t, Soak(&out, res, asked))
			elements, text := parse(t, out.Bytes())
			require.Equal(t, 1, elements["script"])
			require.Contains(t, text, hostile)
			require.Equal(t, len(res.Resources), strings.Count(out.String(), `class="chart"`))
			require.Contains(t, text, fmt.Sprintf("of %d that were watched", len(res.Resources)))
		})
	}
}

type noRoom struct{}

func (noRoom) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestWriteFails(t *testing.T) {
	require.ErrorIs(t, Stress(noRoom{}, &stress.Result{}, asked), io.ErrShortWrite)
	require.ErrorIs(t, Soak(noRoom{}, &soak.Result{}, asked), io.ErrShortWrite)
}
