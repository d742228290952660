package slogsender_test

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender/slogsender"
)

// A record of five attributes, two of them the handler's, with and without its source: through the ring to a
// receiver that takes it, and beside it slog's own JSON into a pipe that is read, and into a file.
func BenchmarkHandle(b *testing.B) {
	for _, source := range []bool{false, true} {
		name := map[bool]string{false: "plain", true: "source"}[source]
		b.Run(name+"/ring", func(b *testing.B) {
			rt, err := router.New()
			require.NoError(b, err)
			require.NoError(b, rt.Start())
			defer rt.Stop()
			s, rcv, err := rt.Pipe()
			require.NoError(b, err)
			require.NoError(b, s.Start())
			defer s.Stop()
			rcv.Handle(func(router.Message) {}, nil)
			h := slogsender.NewHandler(s, &slogsender.Options{AddSource: source, Wait: time.Hour})
			logFive(b, h)
			require.Zero(b, h.Dropped())
		})
		b.Run(name+"/json-pipe", func(b *testing.B) {
			r, w, err := os.Pipe()
			require.NoError(b, err)
			defer w.Close()
			go io.Copy(io.Discard, r)
			logFive(b, slog.NewJSONHandler(w, &slog.HandlerOptions{AddSource: source}))
		})
		b.Run(name+"/json-file", func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "log"))
			require.NoError(b, err)
			defer f.Close()
			logFive(b, slog.NewJSONHandler(f, &slog.HandlerOptions{AddSource: source}))
		})
	}
}

func logFive(b *testing.B, h slog.Handler) {
	log := slog.New(h).With("worker", "red", "pid", 4711)
	b.ReportAllocs()
	for b.Loop() {
		log.LogAttrs(background, slog.LevelInfo, "request served",
			slog.String("path", "/index.html"), slog.Int("status", 200), slog.Duration("took", 1234*time.Microsecond))
	}
}
