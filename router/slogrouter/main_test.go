package slogrouter_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/router/slogrouter"
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
	var err error
	switch role := os.Getenv(roleEnv); role {
	case "":
		os.Exit(m.Run())
	case "main":
		err = mainRole()
	default:
		err = workerRole(role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func workerRole(role string) error {
	s, err := sender.FromEnv()
	if err != nil {
		return err
	}
	if err := s.Start(); err != nil {
		return err
	}
	if role == "orphan" {
		return orphan(s)
	}
	roles[role](slog.New(slogsender.NewHandler(s, nil)))
	return s.Stop() // not deferred: a panic is a death
}

// mainRole collects what an orphan-to-be logs, says so, and waits to be killed.
func mainRole() error {
	rt, err := router.New()
	if err != nil {
		return err
	}
	if err := rt.Start(); err != nil {
		return err
	}
	s, rcv, err := rt.Pipe()
	if err != nil {
		return err
	}
	cmd := command("orphan")
	cmd.Stdout = os.Stdout
	if _, err := rt.Launch(cmd, s); err != nil {
		return err
	}
	if _, err := rcv.Recv(context.Background()); err != nil {
		return err
	}
	fmt.Println("collecting")
	return slogrouter.NewSink(slog.DiscardHandler, nil).Collect(context.Background(), rcv)
}

// orphan logs until the router has gone, and says what came of that: its fallback is the standard output.
func orphan(s *sender.Sender) error {
	h := slogsender.NewHandler(s, &slogsender.Options{Fallback: slog.NewTextHandler(os.Stdout, nil)}).WithGroup("g")
	for i := 1; ; i++ {
		r := slog.NewRecord(time.Time{}, slog.LevelInfo, "line", 0)
		r.Add("i", i)
		if err := h.Handle(context.Background(), r); err != nil {
			fmt.Println("gone:", errors.Is(err, sender.ErrRouterGone))
			return nil
		}
	}
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
