package tracer

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func begun(t testing.TB, operation string) (*Tracer, *Victim) {
	tracer := newTracer(t)
	v := start(t, tracer, newPage(t), operation)
	require.NoError(t, v.ToBegin())
	return tracer, v
}

func TestProcessRecord(t *testing.T) {
	_, v := begun(t, "count")
	trace, err := v.Record(nil)
	require.NoError(t, err)
	for _, p := range trace.Points {
		t.Log(p)
	}
	t.Log(trace.Steps, trace.Distinct)
	_, err = v.Kill()
	require.NoError(t, err)
}

// The victim has counted at each point exactly what it must have by then.
func TestProcessRunToIsExact(t *testing.T) {
	tracer := newTracer(t)
	page := newPage(t)
	v := start(t, tracer, page, "count")
	require.NoError(t, v.ToBegin())
	trace, err := v.Record(nil)
	require.NoError(t, err)
	_, err = v.Kill()
	require.NoError(t, err)
	for _, p := range trace.Points {
		page.Word64(wordCount).Store(0)
		v := start(t, tracer, page, "count")
		require.NoError(t, v.ToBegin())
		reached, err := v.RunTo(p, nil)
		require.NoError(t, err)
		require.True(t, reached, "%v", p)
		t.Log(p, page.Word64(wordCount).Load())
		status, err := v.Kill()
		require.NoError(t, err)
		require.True(t, status.Signaled())
	}
}

func BenchmarkParts(b *testing.B) {
	tracer := newTracer(b)
	page := newPage(b)
	if os.Getenv("PIN") != "" {
		tracer.Pin(1)
	}
	v := start(b, tracer, page, "count")
	require.NoError(b, v.ToBegin())
	begin := time.Now()
	trace, err := v.Record(nil)
	require.NoError(b, err)
	b.ReportMetric(float64(time.Since(begin).Nanoseconds())/float64(trace.Steps), "ns/first-step")
	require.NoError(b, v.ToBegin())
	begin = time.Now()
	trace, err = v.Record(nil)
	require.NoError(b, err)
	b.ReportMetric(float64(time.Since(begin).Nanoseconds())/float64(trace.Steps), "ns/step")
	p := trace.Points[len(trace.Points)-10]
	require.Equal(b, loops, p.Pass)
	v.Kill()
	var startTime, beginTime, runTime, killTime time.Duration
	lap := func(d *time.Duration) { *d += time.Since(begin); begin = time.Now() }
	for b.Loop() {
		begin = time.Now()
		v := start(b, tracer, page, "count")
		lap(&startTime)
		if err := v.ToBegin(); err != nil {
			b.Fatal(err)
		}
		lap(&beginTime)
		if reached, err := v.RunTo(p, nil); !reached {
			b.Fatal(err)
		}
		lap(&runTime)
		if _, err := v.Kill(); err != nil {
			b.Fatal(err)
		}
		lap(&killTime)
	}
	for name, d := range map[string]time.Duration{"start": startTime, "begin": beginTime, "run": runTime, "kill": killTime} {
		b.ReportMetric(float64(d.Microseconds())/float64(b.N), "µs/"+name)
	}
}
