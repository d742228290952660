package logwire

import (
	"io"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Whatever comes, reading it does not panic; and what was read can be printed, written, and read again.
func FuzzDecode(f *testing.F) {
	r := record(slog.Int("i", -1), slog.Group("g", slog.String("s", "x"), slog.Time("t", instant)), slog.Any("j", []int{1}),
		slog.Float64("f", math.NaN()), slog.Any("b", []byte("x")), slog.Any("e", io.EOF), slog.Duration("d", time.Second))
	s := Scope{}.WithAttrs([]slog.Attr{slog.Uint64("u", 300)}).WithGroup("h")
	b, err := AppendRecord(nil, &r, AppendSource(nil, &slog.Source{Function: "f", File: "f.go", Line: 9}), 1, &s)
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte("L\x01\x01\x00\x00\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x02\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, dropped, err := Decode(data)
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			return
		}
		require.NoError(t, slog.NewJSONHandler(io.Discard, nil).Handle(t.Context(), r))
		require.NoError(t, slog.NewTextHandler(io.Discard, nil).Handle(t.Context(), r))
		again, err := AppendRecord(nil, &r, nil, dropped, &Scope{})
		require.NoError(t, err)
		r2, dropped2, err := Decode(again)
		require.NoError(t, err)
		require.Equal(t, dropped, dropped2)
		require.Equal(t, r.Message, r2.Message)
		require.Equal(t, r.Level, r2.Level)
		require.True(t, r.Time.Equal(r2.Time))
		twice, err := AppendRecord(nil, &r2, nil, dropped, &Scope{})
		require.NoError(t, err)
		require.Equal(t, string(again), string(twice), "what was left out is left out at once")
	})
}
