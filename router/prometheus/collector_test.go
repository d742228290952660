package routerprom

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender"
)

// The test binary plays the workers: with roleEnv set it sends three messages, and ends as the role says.
const roleEnv = "ROUTERPROM_TEST_ROLE"

func TestMain(m *testing.M) {
	role := os.Getenv(roleEnv)
	if role == "" {
		os.Exit(m.Run())
	}
	if err := work(role); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func work(role string) error {
	s, err := sender.FromEnv()
	if err != nil {
		return err
	}
	if err := s.Start(); err != nil {
		return err
	}
	for range 3 {
		if err := s.Send(context.Background(), []byte("1234567890")); err != nil {
			return err
		}
	}
	switch role {
	case "stop":
		return s.Stop()
	case "stay":
		<-s.Context().Done()
	}
	return nil // without Stop: a death
}

func launch(t *testing.T, rt *router.Router, role string) *router.Receiver {
	t.Helper()
	s, rcv, err := rt.Pipe()
	require.NoError(t, err)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	_, err = rt.Launch(cmd, s)
	require.NoError(t, err)
	return rcv
}

func drain(t *testing.T, rcv *router.Receiver) (err error) {
	for _, err = range rcv.Messages(t.Context()) {
	}
	return err
}

func TestCollector(t *testing.T) {
	rt, err := router.New()
	require.NoError(t, err)
	reg := prometheus.NewPedanticRegistry() // compares what is collected with what was described
	reg.MustRegister(NewCollector(rt, WithName("jobs"), WithSlots()))
	compare := func(text string, names ...string) {
		t.Helper()
		for i := range names {
			names[i] = "shmrouter_" + names[i]
		}
		require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(text), names...))
	}

	// Before Start: zeros, and no gauges.
	compare(`
# HELP shmrouter_up Whether the router runs.
# TYPE shmrouter_up gauge
shmrouter_up{router="jobs"} 0
# HELP shmrouter_copied_messages_total Messages taken out of the ring.
# TYPE shmrouter_copied_messages_total counter
shmrouter_copied_messages_total{router="jobs"} 0
`, "up", "copied_messages_total", "pipes", "ring_capacity_bytes", "slot_pid")

	require.NoError(t, rt.Start())
	require.NoError(t, drain(t, launch(t, rt, "stop")))
	require.ErrorIs(t, drain(t, launch(t, rt, "die")), router.ErrPeerDied)
	staying := launch(t, rt, "stay")
	for range 3 {
		_, err := staying.Recv(t.Context())
		require.NoError(t, err)
	}
	running := `
# HELP shmrouter_copied_bytes_total Payload bytes taken out of the ring.
# TYPE shmrouter_copied_bytes_total counter
shmrouter_copied_bytes_total{router="jobs"} 90
# HELP shmrouter_copied_messages_total Messages taken out of the ring.
# TYPE shmrouter_copied_messages_total counter
shmrouter_copied_messages_total{router="jobs"} 9
# HELP shmrouter_died_pipes_total Pipes that have ended by the death of a process.
# TYPE shmrouter_died_pipes_total counter
shmrouter_died_pipes_total{router="jobs"} 1
# HELP shmrouter_ended_pipes_total Pipes that have ended.
# TYPE shmrouter_ended_pipes_total counter
shmrouter_ended_pipes_total{router="jobs"} 2
`
	compare(running+`
# HELP shmrouter_pipes Pipes by state: open (no sender has attached), attached (a sender lives), ended, lingering (closed, and the sender lives).
# TYPE shmrouter_pipes gauge
shmrouter_pipes{router="jobs",state="attached"} 1
shmrouter_pipes{router="jobs",state="ended"} 2
shmrouter_pipes{router="jobs",state="lingering"} 0
shmrouter_pipes{router="jobs",state="open"} 0
# HELP shmrouter_ring_capacity_bytes Size of the ring.
# TYPE shmrouter_ring_capacity_bytes gauge
shmrouter_ring_capacity_bytes{router="jobs"} 4.194304e+06
# HELP shmrouter_up Whether the router runs.
# TYPE shmrouter_up gauge
shmrouter_up{router="jobs"} 1
`, "up", "copied_bytes_total", "copied_messages_total", "died_pipes_total", "ended_pipes_total", "pipes", "ring_capacity_bytes")
	seats := 0
	for _, info := range rt.Stats().Ring.Slots {
		seats += int(info.Instance)
	}
	require.Equal(t, 3, seats)
	n, err := testutil.GatherAndCount(reg, "shmrouter_slot_instances_total", "shmrouter_slot_pid")
	require.NoError(t, err)
	require.Equal(t, 2*len(rt.Stats().Ring.Slots), n)

	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)

	// After Stop: the last counters, and no gauges.
	require.NoError(t, rt.Stop())
	<-rt.Done()
	compare(running+`
# HELP shmrouter_up Whether the router runs.
# TYPE shmrouter_up gauge
shmrouter_up{router="jobs"} 0
`, "up", "copied_bytes_total", "copied_messages_total", "died_pipes_total", "ended_pipes_total", "pipes", "ring_capacity_bytes", "slot_pid")
}

// Every figure of router.Stats is offered, each under the name that the documentation has.
func TestEveryMetricIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	for _, f := range figures {
		require.Contains(t, string(doc), f.name)
		require.Equal(t, f.kind == prometheus.CounterValue, strings.HasSuffix(f.name, "_total"), f.name)
	}
	for _, f := range slotFigures {
		require.Contains(t, string(doc), f.name)
	}
}

func TestTwoRouters(t *testing.T) {
	a, err := router.New()
	require.NoError(t, err)
	b, err := router.New()
	require.NoError(t, err)
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(NewCollector(a, WithName("a"))))
	require.NoError(t, reg.Register(NewCollector(b, WithName("b"), WithSlots())))
	require.Error(t, reg.Register(NewCollector(b, WithName("b"))))
	n, err := testutil.GatherAndCount(reg, "shmrouter_up")
	require.NoError(t, err)
	require.Equal(t, 2, n)
}

func ExampleNewCollector() {
	rt, _ := router.New()
	rt.Start()
	defer rt.Stop()
	reg := prometheus.NewRegistry()
	reg.MustRegister(NewCollector(rt, WithName("jobs"))) // and serve it: promhttp.HandlerFor(reg, promhttp.HandlerOpts{})

	families, _ := reg.Gather()
	for _, f := range families {
		if f.GetName() == "shmrouter_up" {
			fmt.Println(f.GetName(), f.GetMetric()[0].GetLabel()[0].GetValue(), f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	// Output: shmrouter_up jobs 1
}
