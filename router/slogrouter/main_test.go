package slogrouter_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/sender/slogsender"
)

// The test binary plays the workers: with roleEnv set it does not test, but logs.
const roleEnv = "SLOGROUTER_TEST_ROLE"

var roles = map[string]func(log *slog.Logger){
	"squared": func(log *slog.Logger) {
		for i := range 3 {
			log.Info("squared", "i", i, "square", i*i)
		}
	},
	"endless": func(log *slog.Logger) {
		for i := 1; ; i++ {
			log.Info("line", "i", i)
			fmt.Println(i) // the line is logged
		}
	},
	"panic": func(log *slog.Logger) {
		for i := range 100 {
			log.Info("line", "i", i+1)
		}
		panic("on purpose")
	},
	"exit": func(log *slog.Logger) {
		for i := range 100 {
			log.Info("line", "i", i+1)
		}
		os.Exit(3)
	},
}

func TestMain(m *testing.M) {
	role := os.Getenv(roleEnv)
	if role == "" {
		os.Exit(m.Run())
	}
	s, err := sender.FromEnv()
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	roles[role](slog.New(slogsender.NewHandler(s, nil)))
	s.Stop()
	os.Exit(0)
}

func command(role string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+role, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

func start(t testing.TB) (*router.Router, *sender.Sender, *router.Receiver) {
	t.Helper()
	rt, err := router.New()
	require.NoError(t, err)
	require.NoError(t, rt.Start())
	t.Cleanup(func() { rt.Stop() })
	s, rcv, err := rt.Pipe()
	require.NoError(t, err)
	return rt, s, rcv
}

// memory is a handler that keeps records, and fails if fail is set.
type memory struct {
	slog.Handler
	records []slog.Record
	fail    error
}

func (m *memory) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (m *memory) Handle(_ context.Context, r slog.Record) error {
	m.records = append(m.records, r)
	return m.fail
}

// text is the messages with their attributes.
func (m *memory) text() string {
	var all []string
	for _, r := range m.records {
		line := r.Message
		r.Attrs(func(a slog.Attr) bool {
			line += " " + a.String()
			return true
		})
		all = append(all, line)
	}
	return strings.Join(all, "\n")
}
