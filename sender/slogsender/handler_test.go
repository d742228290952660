package slogsender_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/router/slogrouter"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/sender/slogsender"
)

// pipe is a small router's pipe, both ends in this process. Nothing is routed beyond the first message until
// somebody receives, so that the ring fills.
func pipe(t testing.TB) (*router.Router, *sender.Sender, *router.Receiver) {
	t.Helper()
	rt, err := router.New(router.WithCapacity(64<<10), router.WithInbox(1), router.WithQueue(1))
	require.NoError(t, err)
	require.NoError(t, rt.Start())
	t.Cleanup(func() { rt.Stop() })
	s, rcv, err := rt.Pipe()
	require.NoError(t, err)
	require.NoError(t, s.Start())
	t.Cleanup(func() { s.Close() })
	return rt, s, rcv
}

func record(msg string, args ...any) slog.Record {
	r := slog.NewRecord(time.Now(), slog.LevelInfo, msg, 0)
	r.Add(args...)
	return r
}

var background = context.Background()

// fill logs until the ring is full, and returns how many records came through.
func fill(t testing.TB, h slog.Handler) (sent int) {
	t.Helper()
	for ; sent < 1<<20; sent++ {
		if err := h.Handle(background, record("filling")); err != nil {
			require.ErrorIs(t, err, sender.ErrFull)
			return sent
		}
	}
	t.Fatal("the ring has room for ever")
	return 0
}

// collect takes records until one says "last".
func collect(t testing.TB, rcv *router.Receiver) (records int, told uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(background, 20*time.Second)
	defer cancel()
	for m, err := range rcv.Messages(ctx) {
		require.NoError(t, err)
		r, dropped, err := slogrouter.Decode(m.Data)
		require.NoError(t, err)
		told += dropped
		if r.Message == "last" {
			break
		}
		records++
	}
	return records, told
}

func TestDropsAreToldOnce(t *testing.T) {
	_, s, rcv := pipe(t)
	h := slogsender.NewHandler(s, &slogsender.Options{Wait: -1})
	const loggers, each = 4, 3000
	var wg sync.WaitGroup
	var sent, dropped [loggers]int
	for i := range loggers {
		h := h.WithAttrs([]slog.Attr{slog.Int("logger", i)})
		wg.Go(func() {
			for range each {
				if h.Handle(background, record("text")) == nil {
					sent[i]++
				} else {
					dropped[i]++
				}
			}
		})
	}
	taken := make(chan [2]uint64)
	go func() {
		n, told := collect(t, rcv)
		taken <- [2]uint64{uint64(n), told}
	}()
	wg.Wait()
	require.Eventually(t, func() bool { return h.Handle(background, record("last")) == nil }, 20*time.Second, time.Millisecond)
	got := <-taken
	total := 0
	for i := range loggers {
		require.Equal(t, each, sent[i]+dropped[i])
		total += sent[i]
	}
	require.EqualValues(t, total, got[0], "records for which Handle returned nil")
	require.Equal(t, h.Dropped(), got[1], "drops the sink was told of")
}

func TestFullRing(t *testing.T) {
	_, s, rcv := pipe(t)
	claim, err := s.TryClaim(1) // behind an open claim nothing is released
	require.NoError(t, err)
	n := fill(t, slogsender.NewHandler(s, &slogsender.Options{Wait: -1}))
	var aside bytes.Buffer
	h := slogsender.NewHandler(s, &slogsender.Options{Wait: 20 * time.Millisecond, Fallback: slog.NewTextHandler(&aside, nil)})
	start := time.Now()
	require.ErrorIs(t, h.Handle(background, record("late")), sender.ErrFull)
	require.GreaterOrEqual(t, time.Since(start), 20*time.Millisecond)
	require.ErrorIs(t, h.Handle(background, record("large", "k", strings.Repeat("x", 20<<10))), sender.ErrFull)
	require.EqualValues(t, 2, h.Dropped())
	require.Contains(t, aside.String(), "msg=late")

	// With time, it waits for room, and the end of the context that came with the record means nothing.
	h = slogsender.NewHandler(s, &slogsender.Options{Wait: time.Hour})
	ended, cancel := context.WithCancel(background)
	cancel()
	done := make(chan error, 1)
	go func() {
		done <- errors.Join(h.Handle(ended, record("waited")), h.Handle(ended, record("last")))
	}()
	claim.Abort()
	records, _ := collect(t, rcv)
	require.NoError(t, <-done)
	require.Equal(t, n+1, records)
}

func TestFallback(t *testing.T) {
	rt, s, _ := pipe(t)
	unstarted, _, err := rt.Pipe()
	require.NoError(t, err)
	var aside bytes.Buffer
	opts := &slogsender.Options{Fallback: slog.NewTextHandler(&aside, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})}
	derived := func(s *sender.Sender) slog.Handler {
		return slogsender.NewHandler(s, opts).WithAttrs([]slog.Attr{slog.Int("a", 1)}).WithGroup("g")
	}
	require.NoError(t, derived(s).Handle(background, record("sent", "b", 2)))
	require.Empty(t, aside.String())

	require.ErrorIs(t, derived(unstarted).Handle(background, record("not started", "b", 2)), sender.ErrState)
	require.ErrorIs(t, derived(s).Handle(background, record("endless", "k", endless{})), slogsender.ErrTooComplex)
	require.Equal(t, "level=INFO msg=\"not started\" a=1 g.b=2\n", aside.String()[:strings.IndexByte(aside.String(), '\n')+1])
	aside.Reset()
	require.NoError(t, rt.Stop())
	require.ErrorIs(t, derived(s).Handle(background, record("gone", "b", 2)), sender.ErrRouterGone)
	require.Equal(t, "level=INFO msg=gone a=1 g.b=2\n", aside.String())

	opts.Fallback = failing{opts.Fallback}
	err = slogsender.NewHandler(s, opts).Handle(background, record("gone"))
	require.ErrorIs(t, err, sender.ErrRouterGone)
	require.ErrorIs(t, err, os.ErrPermission)
}

// endless would be a group in a group in a group, but for the second time that it is asked.
type endless struct{ depth int }

func (e endless) LogValue() slog.Value {
	if e.depth > 100 {
		return slog.StringValue("")
	}
	return slog.GroupValue(slog.Any("in", endless{e.depth + 1}))
}

type failing struct{ slog.Handler }

func (failing) Handle(context.Context, slog.Record) error { return os.ErrPermission }

func TestLevel(t *testing.T) {
	var level slog.LevelVar
	h := slogsender.NewHandler(nil, &slogsender.Options{Level: &level})
	require.True(t, h.Enabled(background, slog.LevelInfo))
	level.Set(slog.LevelError)
	require.False(t, h.Enabled(background, slog.LevelWarn))
	require.False(t, slogsender.NewHandler(nil, nil).Enabled(background, slog.LevelDebug))
}

func TestHandleDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops at random under the race detector")
	}
	_, s, rcv := pipe(t)
	rcv.Handle(func(router.Message) {}, nil)
	h := slogsender.NewHandler(s, &slogsender.Options{AddSource: true, Wait: time.Hour}).
		WithAttrs([]slog.Attr{slog.String("worker", "red")}).WithGroup("g")
	log := slog.New(h)
	err := errors.New("failed")
	allocs := testing.AllocsPerRun(1000, func() {
		log.LogAttrs(background, slog.LevelInfo, "a message", slog.Int("i", 1), slog.String("s", "text"), slog.Duration("took", time.Second),
			slog.Any("error", err))
	})
	// Who waits for room allocates a context: with a receiver this fast, that is rare.
	require.Less(t, allocs, 1.0)
}

func ExampleNewHandler() {
	rt, _ := router.New()
	rt.Start()
	defer rt.Stop()
	s, rcv, _ := rt.Pipe() // s usually travels to a worker, which gets it from sender.FromEnv
	defer rcv.Close()
	s.Start()

	log := slog.New(slogsender.NewHandler(s, nil)).With("job", 7)
	log.Info("done", "took", 3*time.Second)
	s.Stop()

	stdout := slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: withoutTime})
	err := slogrouter.NewSink(stdout, nil).Collect(context.Background(), rcv)
	fmt.Println("end:", err)
	// Output:
	// level=INFO msg=done job=7 took=3s
	// end: <nil>
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
