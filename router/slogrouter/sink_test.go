package slogrouter_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/router/slogrouter"
	"github.com/shmrouter/shmrouter/sender/slogsender"
)

// What testing/slogtest asks of a handler holds from the worker's handler through a pipe to JSON.
func TestSlogtest(t *testing.T) {
	var out bytes.Buffer
	var finish func()
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		_, s, rcv := start(t)
		require.NoError(t, s.Start())
		out.Reset()
		finish = func() {
			require.NoError(t, s.Stop())
			require.NoError(t, slogrouter.NewSink(slog.NewJSONHandler(&out, nil), nil).Collect(t.Context(), rcv))
		}
		return slogsender.NewHandler(s, nil)
	}, func(t *testing.T) map[string]any {
		finish()
		got := map[string]any{}
		require.NoError(t, json.Unmarshal(out.Bytes(), &got))
		return got
	})
}

// The sink's output is what the same handler prints in the worker, its source included.
func TestPrintsWhatTheWorkerWould(t *testing.T) {
	_, s, rcv := start(t)
	require.NoError(t, s.Start())
	for name, made := range map[string]func(*bytes.Buffer, bool) slog.Handler{
		"json": func(b *bytes.Buffer, source bool) slog.Handler {
			return slog.NewJSONHandler(b, &slog.HandlerOptions{AddSource: source})
		},
		"text": func(b *bytes.Buffer, source bool) slog.Handler {
			return slog.NewTextHandler(b, &slog.HandlerOptions{AddSource: source})
		},
	} {
		var here, there bytes.Buffer
		both := slog.NewMultiHandler(made(&here, true), slogsender.NewHandler(s, &slogsender.Options{AddSource: true}))
		log := slog.New(both).With("a", 1).WithGroup("g").With(slog.Group("h", "b", 2.5))
		log.Warn("both", "error", errors.New("failed"), "took", time.Second, "at", time.Now(), "bytes", []byte("x"), "ok", true)
		m, err := rcv.Recv(t.Context())
		require.NoError(t, err)
		slogrouter.NewSink(made(&there, false), nil).Message(m)
		require.ElementsMatch(t, fields(here.String()), fields(there.String()), name) // the source stands behind the message
	}
	require.NoError(t, s.Stop())
}

func fields(line string) []string {
	return strings.FieldsFunc(strings.Trim(line, "{}\n"), func(r rune) bool { return r == ' ' || r == ',' })
}

// A worker is killed while it logs: what it had logged is there, in order, and then its end.
func TestKilledWorkerLosesNothing(t *testing.T) {
	rt, s, rcv := start(t)
	cmd := command("endless")
	acks, ack, err := os.Pipe()
	require.NoError(t, err)
	defer acks.Close()
	cmd.Stdout = ack
	worker, err := rt.Launch(cmd, s)
	require.NoError(t, err)
	ack.Close()
	t.Cleanup(func() { worker.Kill() })
	logged := make(chan int, 1)
	go func() {
		var last int
		var err error
		for lines := bufio.NewScanner(acks); lines.Scan(); {
			if last, err = strconv.Atoi(lines.Text()); err != nil || last == 1000 {
				worker.Kill()
			}
		}
		logged <- last
	}()
	var got memory
	err = slogrouter.NewSink(&got, nil).Collect(t.Context(), rcv)
	peer, ok := errors.AsType[*router.PeerError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, worker.PID(), peer.PID)
	last := <-logged
	require.GreaterOrEqual(t, last, 1000)
	require.GreaterOrEqual(t, len(got.records), last)
	for i, r := range got.records {
		requireLine(t, r, i+1)
	}
}

func TestEveryWayToDie(t *testing.T) {
	for _, role := range []string{"panic", "exit"} {
		rt, s, rcv := start(t)
		cmd := command(role)
		cmd.Stderr = nil
		_, err := rt.Launch(cmd, s)
		require.NoError(t, err)
		var got memory
		err = slogrouter.NewSink(&got, nil).Collect(t.Context(), rcv)
		require.ErrorIs(t, err, router.ErrPeerDied)
		require.Len(t, got.records, 100, role)
		for i, r := range got.records {
			requireLine(t, r, i+1)
		}
	}
}

// The main process is killed: the worker learns it from Handle, and its records go to the fallback.
func TestRoutersDeath(t *testing.T) {
	cmd := command("main")
	r, w, err := os.Pipe() // not cmd's own: the worker has it, too
	require.NoError(t, err)
	defer r.Close()
	cmd.Stdout = w
	require.NoError(t, cmd.Start())
	w.Close()
	lines := bufio.NewScanner(r)
	require.True(t, lines.Scan())
	require.Equal(t, "collecting", lines.Text())
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	var got []string
	for lines.Scan() {
		got = append(got, lines.Text())
	}
	require.Len(t, got, 2)
	require.Regexp(t, `^level=INFO msg=line g\.i=\d+$`, got[0])
	require.Equal(t, "gone: true", got[1])
}

func requireLine(t *testing.T, r slog.Record, i int) {
	t.Helper()
	r.Attrs(func(a slog.Attr) bool {
		require.Equal(t, slog.Int("i", i).String(), a.String())
		return true
	})
	require.Equal(t, "line", r.Message)
}

// What is no record is reported with its bytes, and the stream goes on.
func TestMalformedMessages(t *testing.T) {
	_, s, rcv := start(t)
	require.NoError(t, s.Start())
	log := slog.New(slogsender.NewHandler(s, nil))
	log.Info("first")
	require.NoError(t, s.Send(t.Context(), []byte("hello")))
	log.Info("second")
	require.NoError(t, s.Send(t.Context(), nil))
	require.NoError(t, s.Stop())

	var messages []router.Message
	for m, err := range rcv.Messages(t.Context()) {
		require.NoError(t, err)
		messages = append(messages, m)
	}
	var told []string
	var got memory
	sink := slogrouter.NewSink(&got, &slogrouter.Options{OnError: func(m router.Message, err error) {
		require.ErrorIs(t, err, slogrouter.ErrMalformed)
		told = append(told, fmt.Sprintf("%d: %q", m.Seq, m.Data))
	}})
	silent := memory{}
	for _, m := range messages {
		sink.Message(m)
		slogrouter.NewSink(&silent, nil).Message(m)
	}
	require.Equal(t, "first\nsecond", got.text())
	require.Equal(t, []string{`2: "hello"`, `4: ""`}, told)
	require.Equal(t, "first\n"+
		"malformed log record error=not a log record: begins otherwise at byte 1 of 5 seq=2 bytes=5\n"+
		"second\n"+
		"malformed log record error=not a log record: ends too early at byte 0 of 0 seq=4 bytes=0", silent.text())
}

func TestHandlersErrorsAndLevels(t *testing.T) {
	_, s, rcv := start(t)
	require.NoError(t, s.Start())
	log := slog.New(slogsender.NewHandler(s, &slogsender.Options{Level: slog.LevelDebug}))
	log.Debug("below the sink's level")
	log.Info("kept")
	require.NoError(t, s.Stop())
	var told []error
	got := memory{fail: os.ErrPermission}
	sink := slogrouter.NewSink(&got, &slogrouter.Options{OnError: func(m router.Message, err error) { told = append(told, err) }})
	require.NoError(t, sink.Collect(t.Context(), rcv))
	require.Equal(t, "kept", got.text())
	require.Equal(t, []error{os.ErrPermission}, told)
}

func TestDroppedRecordsAreTold(t *testing.T) {
	rt, err := router.New(router.WithCapacity(64 << 10))
	require.NoError(t, err)
	require.NoError(t, rt.Start())
	t.Cleanup(func() { rt.Stop() })
	s, rcv, err := rt.Pipe()
	require.NoError(t, err)
	require.NoError(t, s.Start())
	h := slogsender.NewHandler(s, &slogsender.Options{Wait: -1})
	log := slog.New(h)
	log.Info("large", "k", strings.Repeat("x", 10<<10)) // more than an eighth of the ring
	log.Info("large", "k", strings.Repeat("x", 10<<10))
	log.Info("small")
	log.Info("smaller")
	require.NoError(t, s.Stop())
	var got memory
	require.NoError(t, slogrouter.NewSink(&got, nil).Collect(t.Context(), rcv))
	require.Equal(t, "log records dropped count=2\nsmall\nsmaller", got.text())
	require.EqualValues(t, 2, h.Dropped())
}

// One JSON stream of what a worker process logs, with its name.
func Example() {
	rt, _ := router.New()
	rt.Start()
	defer rt.Stop()
	s, rcv, _ := rt.Pipe()
	defer rcv.Close()
	rt.Launch(command("squared"), s) // logs by slog.New(slogsender.NewHandler(s, nil))

	out := slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	sink := slogrouter.NewSink(out, &slogrouter.Options{Attrs: []slog.Attr{slog.String("worker", "red")}})
	fmt.Println("end:", sink.Collect(context.Background(), rcv))
	// Output:
	// {"level":"INFO","msg":"squared","worker":"red","i":0,"square":0}
	// {"level":"INFO","msg":"squared","worker":"red","i":1,"square":1}
	// {"level":"INFO","msg":"squared","worker":"red","i":2,"square":4}
	// end: <nil>
}
