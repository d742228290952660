package router

import (
	"encoding/json"
	"io"
	"log/slog"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Dashboards depend on these names: one that goes or changes is a change of the API.
var statsNames = []string{
	"broken", "claim_stalls", "copied_bytes", "copied_messages", "damages", "died_pipes", "discarded_messages", "earlier_lives",
	"ended_pipes", "handler_panics", "liveness_queries", "malformed_frames", "monitor_wakeups", "pings",
	"pipes.attached", "pipes.ended", "pipes.lingering", "pipes.open", "queued_messages", "receiver_stalls",
	"ring.capacity_bytes", "ring.consumer.bytes", "ring.consumer.messages", "ring.consumer.pads", "ring.consumer.records",
	"ring.consumer.resyncs", "ring.consumer.skipped_aborted_records", "ring.consumer.skipped_dead_claims", "ring.consumer.sleeps",
	"ring.consumer_pid", "ring.consumer_pid_namespace", "ring.consumer_sleeping", "ring.consumer_start_ticks", "ring.consumers",
	"ring.dropped_claims", "ring.head_granules", "ring.hint_granules", "ring.page_size_bytes", "ring.room_waiters",
	"ring.slots.dropped_claims", "ring.slots.instance", "ring.slots.joined_nanoseconds", "ring.slots.pid", "ring.slots.pid_namespace", "ring.slots.sent_bytes",
	"ring.slots.sent_records", "ring.slots.slot", "ring.slots.start_ticks", "ring.slots.swept_claims",
	"ring.swept_claims", "ring.turn_slot", "ring.used_bytes",
	"routed_messages", "stalled_by_pipe", "turns", "unfinished_messages", "unrouted_messages", "watched_processes",
}

func TestStatsInJSON(t *testing.T) {
	guard(t)
	r := begin(t, WithQueue(1))
	none, err := json.Marshal(r.Stats())
	require.NoError(t, err)
	require.Contains(t, string(none), `"slots":[]`)

	s, rcv := pipe(t, r)
	s2, other := pipe(t, r)
	must(t, s.Start())
	must(t, s2.Start())
	for range 2 {
		must(t, s2.Send(background, []byte("12345"))) // nobody takes them
	}
	eventually(t, "the second receiver is full", func() bool { return r.Stats().StalledBy != nil })
	text, err := json.Marshal(r.Stats())
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, json.Unmarshal(text, &got))
	names := flatten("", got)
	slices.Sort(names)
	require.Equal(t, statsNames, slices.Compact(names))
	require.EqualValues(t, other.ID(), got["stalled_by_pipe"])
	require.EqualValues(t, 10, got["copied_bytes"])
	require.EqualValues(t, 2, got["pipes"].(map[string]any)["attached"])

	var back Stats
	require.NoError(t, json.Unmarshal(text, &back))
	require.EqualValues(t, 2, back.Copied)
	require.Equal(t, r.Stats().Ring.Slots, back.Ring.Slots)
	must(t, s.Stop())
	must(t, s2.Stop())
	must(t, rcv.Close())
	must(t, other.Close())
}

// flatten returns the names of what is not an object, with those of the objects around it.
func flatten(prefix string, v any) (names []string) {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			names = append(names, flatten(prefix+"."+name, inner)...)
		}
	case []any:
		for _, inner := range v {
			names = append(names, flatten(prefix, inner)...)
		}
	default:
		names = []string{prefix[1:]}
	}
	return names
}

// How a worker ended can be read in logs as JSON, too, where an *os.ProcessState would be {}.
func TestLoggedExitsInJSON(t *testing.T) {
	guard(t)
	var out journal
	r := begin(t, WithLogger(slog.New(slog.NewJSONHandler(&out, nil))))
	w := task(t, "deaf").launched(t, r)
	must(t, w.Kill())
	require.Error(t, w.Wait())
	require.ErrorIs(t, ended(t, r, w.Receivers()[0]), ErrPeerDied)
	for _, msg := range []string{"worker ended", "worker died"} {
		eventually(t, msg, func() bool { return len(out.matching(`"msg":"`+msg+`"`)) == 1 })
		require.Contains(t, out.matching(msg)[0], `"state":"signal: killed"`)
		require.Contains(t, out.matching(msg)[0], `"level":"WARN"`)
	}
	w = task(t, "obedient").launched(t, r)
	require.NoError(t, w.Stop(background))
	require.Contains(t, out.matching(`"worker":"obedient"`)[1], `"level":"INFO","msg":"worker ended"`)
}

// The notice of a death may come when the seat's watch is over, since it was left in order.
func TestWatchEndsOnce(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	p := launch(t, r, s)
	must(t, p.Start())
	must(t, p.Send("x"))
	_, err := rcv.Recv(background)
	must(t, err)
	n := r.cur.Load()
	slot := n.dir.Word(rcv.index).Slot()
	instance := n.ring.SlotInfo(slot).Instance
	eventually(t, "its process is watched", func() bool { return r.Stats().Watched == 1 })
	must(t, p.Stop())
	_, err = rcv.Recv(background)
	wantIs(t, "end", err, io.EOF)
	eventually(t, "nobody is watched", func() bool { return r.Stats().Watched == 0 })
	n.mon.post(event{death: &deathNotice{slot, instance}})
	must(t, r.RouteUntil(background, func() bool { return !n.mon.events.pending.Load() }))
	wantIs(t, "RouteUntil", r.RouteUntil(background, func() bool { return false }), ErrNothingToWaitFor) // a turn later
	if n := r.Stats().Watched; n != 0 {
		t.Errorf("%d processes are watched", n)
	}
}
