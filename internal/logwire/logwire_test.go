package logwire

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var instant = time.Date(2026, 11, 23, 4, 5, 6, 789, time.FixedZone("", 5400))

// through encodes and decodes.
func through(t *testing.T, r slog.Record, s Scope) slog.Record {
	t.Helper()
	b, err := AppendRecord([]byte("in front")[:0], &r, nil, 7, &s)
	require.NoError(t, err)
	got, dropped, err := Decode(b)
	require.NoError(t, err)
	require.EqualValues(t, 7, dropped)
	return got
}

func attrs(r slog.Record) (all []slog.Attr) {
	r.Attrs(func(a slog.Attr) bool {
		all = append(all, a)
		return true
	})
	return all
}

func record(as ...slog.Attr) slog.Record {
	r := slog.NewRecord(instant, slog.LevelWarn+1, "a message\x00\xff", 0)
	r.AddAttrs(as...)
	return r
}

type secret string

func (secret) LogValue() slog.Value { return slog.StringValue("***") }

type faulty struct{ n int }

func (f *faulty) Error() string { return fmt.Sprint(f.n) }

type raging struct{}

func (raging) MarshalJSON() ([]byte, error) { panic("rage") }

type matryoshka int

func (m matryoshka) LogValue() slog.Value { return slog.GroupValue(slog.Any("in", m+1)) }

func TestKindsSurvive(t *testing.T) {
	given := []slog.Attr{
		slog.Bool("yes", true), slog.Bool("no", false), slog.Int64("min", math.MinInt64), slog.Uint64("max", math.MaxUint64),
		slog.Float64("pi", math.Pi), slog.Float64("inf", math.Inf(-1)), slog.String("", "no key"), slog.String("text", "\xff"),
		slog.Duration("took", -time.Second), slog.Time("at", instant), slog.Time("never", time.Time{}), slog.Any("nil", nil),
		slog.Group("g", slog.Int("a", 1), slog.Group("h", slog.Int("b", 2)), slog.Int("c", 3)),
	}
	r := through(t, record(given...), Scope{})
	require.Equal(t, slog.LevelWarn+1, r.Level)
	require.Equal(t, "a message\x00\xff", r.Message)
	require.True(t, r.Time.Equal(instant))
	require.Equal(t, instant.Format(time.RFC3339Nano), r.Time.Format(time.RFC3339Nano), "its zone")
	got := attrs(r)
	require.Len(t, got, len(given))
	for i, a := range given {
		require.Equal(t, a.Value.Kind(), got[i].Value.Kind(), a.Key)
		require.True(t, a.Equal(got[i]), "%v is not %v", got[i], a)
	}

	local := time.Now()
	r = through(t, slog.NewRecord(local, 0, "", 0), Scope{})
	require.Equal(t, local.Round(0).Format(time.RFC3339Nano), r.Time.Format(time.RFC3339Nano))
	require.NotContains(t, r.Time.String(), "m=", "another process's monotonic clock means nothing")
	require.True(t, through(t, slog.Record{}, Scope{}).Time.IsZero())
}

// What has no kind of its own.
func TestAnyValues(t *testing.T) {
	var none *faulty
	cycle := map[string]any{}
	cycle["self"] = cycle
	for _, c := range []struct {
		given any
		want  string // as slog.JSONHandler prints it
	}{
		{secret("password"), `"***"`},
		{errors.New("failed"), `"failed"`},
		{none, `"<nil>"`},
		{raging{}, `"!PANIC: rage"`},
		{struct {
			A int
			B []string
		}{1, []string{"<x>"}}, `{"A":1,"B":["<x>"]}`},
		{[]byte("bytes"), `"Ynl0ZXM="`},
		{make(chan int), `"!ERROR:json: unsupported type: chan int"`},
		{cycle, `"!ERROR:json: unsupported value: encountered a cycle via map[string]interface {}"`},
	} {
		got := attrs(through(t, record(slog.Any("k", c.given)), Scope{}))
		var out strings.Builder
		r := slog.Record{}
		r.AddAttrs(got...)
		require.NoError(t, slog.NewJSONHandler(&out, nil).Handle(t.Context(), r))
		require.Equal(t, `{"level":"INFO","msg":"","k":`+c.want+"}\n", out.String())
	}
	got := attrs(through(t, record(slog.Any("k", errors.New("failed"))), Scope{}))
	require.ErrorContains(t, got[0].Value.Any().(error), "failed", "stays an error")
}

// slog.Handler's rules for what is left out.
func TestEmptyThings(t *testing.T) {
	s := Scope{}.WithGroup("g").WithAttrs([]slog.Attr{{}, slog.Group("none")}).WithGroup("h")
	require.Empty(t, attrs(through(t, record(), s)), "groups without attributes")
	require.Empty(t, attrs(through(t, record(slog.Group("x", slog.Group("y")), slog.Attr{}), s)))
	empty, nothing := record(slog.Group("x", slog.Group("y")), slog.Attr{}), record()
	with, err := AppendRecord(nil, &empty, nil, 0, &s)
	require.NoError(t, err)
	without, err := AppendRecord(nil, &nothing, nil, 0, &Scope{})
	require.NoError(t, err)
	require.Equal(t, without, with, "they are not sent either")
	require.Equal(t, "[g=[h=[a=1]]]", fmt.Sprint(attrs(through(t, record(slog.Group("", slog.Int("a", 1))), s))))

	s = s.WithAttrs([]slog.Attr{slog.Int("b", 2)})
	one, two := s.WithGroup("one"), s.WithGroup("two").WithAttrs([]slog.Attr{slog.Int("c", 3)})
	require.Equal(t, "[g=[h=[b=2 one=[a=1]]]]", fmt.Sprint(attrs(through(t, record(slog.Int("a", 1)), one))))
	require.Equal(t, "[g=[h=[b=2 two=[c=3 a=1]]]]", fmt.Sprint(attrs(through(t, record(slog.Int("a", 1)), two))))
	require.Equal(t, "[g=[h=[b=2]]]", fmt.Sprint(attrs(through(t, record(), one))))
}

// Scopes made from one do not disturb each other.
func TestScopesAreValues(t *testing.T) {
	s := deep(3)
	one, two := s.WithGroup("one"), s.WithGroup("two")
	require.Equal(t, "[g=[g=[g=[one=[a=1]]]]]", fmt.Sprint(attrs(through(t, record(slog.Int("a", 1)), one))))
	s = two.WithAttrs([]slog.Attr{slog.Int("b", 2)})
	one, two = s.WithAttrs([]slog.Attr{slog.Int("c", 3)}), s.WithAttrs([]slog.Attr{slog.Int("d", 4)})
	require.Equal(t, "[g=[g=[g=[two=[b=2 c=3]]]]]", fmt.Sprint(attrs(through(t, record(), one))))
	require.Equal(t, "[g=[g=[g=[two=[b=2 d=4]]]]]", fmt.Sprint(attrs(through(t, record(), two))))
}

func TestLimits(t *testing.T) {
	for name, s := range map[string]struct {
		scope Scope
		attr  slog.Attr
	}{
		"groups":     {deep(MaxDepth + 1), slog.Int("a", 1)},
		"endless":    {Scope{}, slog.Any("m", matryoshka(0))},
		"attributes": {Scope{}.WithAttrs(make20000()).WithAttrs(make20000()).WithAttrs(make20000()), slog.Attr{Key: "g", Value: slog.GroupValue(make20000()...)}},
	} {
		r := record(s.attr)
		_, err := AppendRecord(nil, &r, nil, 0, &s.scope)
		require.ErrorIs(t, err, ErrLimit, name)
	}
	through(t, record(slog.Int("a", 1)), deep(MaxDepth))
}

func deep(n int) (s Scope) {
	for range n {
		s = s.WithGroup("g")
	}
	return s
}

func make20000() []slog.Attr {
	all := make([]slog.Attr, 20000)
	for i := range all {
		all[i] = slog.Int("a", i)
	}
	return all
}

// A change of the format needs a new version: this is what workers of another build send.
func TestFormatIsFixed(t *testing.T) {
	r := record(slog.Int("i", -1), slog.Group("g", slog.String("s", "x"), slog.Bool("b", true)), slog.Any("e", errors.New("z")))
	r.Message = "hello"
	s := Scope{}.WithAttrs([]slog.Attr{slog.Uint64("u", 300)})
	b, err := AppendRecord(nil, &r, AppendSource(nil, &slog.Source{Function: "f", File: "f.go", Line: 9}), 1, &s)
	require.NoError(t, err)
	require.Equal(t, "L\x01\x03"+"\x0a\x01"+"\xb4\x99\x9d\xb0\x0d\x95\x06\xb0\x54"+"\x01f\x04f.go\x09"+"\x05hello"+
		"\x05\x01u\xac\x02"+"\x04\x01i\x01"+"\x0d\x01g"+"\x07\x01s\x01x"+"\x03\x01b"+"\x00"+"\x0a\x01e\x01z", string(b))

	got, _, err := Decode(b)
	require.NoError(t, err)
	require.Equal(t, &slog.Source{Function: "f", File: "f.go", Line: 9}, attrs(got)[0].Value.Any())
}

func TestMalformed(t *testing.T) {
	head := "L\x01\x00\x00\x00\x00"
	_, _, err := Decode([]byte(head))
	require.NoError(t, err)
	for given, says := range map[string]string{
		"":                         "ends too early",
		"hello":                    "begins otherwise",
		"L\x02":                    "is of version 2, not 1",
		"L\x01\x04\x00\x00\x00":    "has flags 0x4",
		"L\x01\x00\x00\x00\x05abc": "ends too early",
		"L\x01\x01\x00\x00" + "\x00\xff\xff\xff\xff\xff\x01\x00" + "\x00": "no such time",
		head + "\x00":                            "end of a group where none is open",
		head + "\x0d\x00":                        "ends too early",
		head + "\x0e\x00":                        "kind of value unknown",
		head + "\x0b\x00\x01{":                   "bad JSON",
		head + "\x06\x00\x00":                    "ends too early",
		head + "\x07\xff\xff\xff\xff\xff\xff":    "ends too early",
		head + strings.Repeat("\x0d\x00", 65):    ErrLimit.Error(),
		head + strings.Repeat("\x01\x00", 65537): ErrLimit.Error(),
	} {
		_, _, err := Decode([]byte(given))
		require.ErrorIs(t, err, ErrMalformed, "%.20q", given)
		require.ErrorContains(t, err, says, "%.20q", given)
	}
}

// Bytes that cost the least to write and the most to read.
func TestReadingTakesMemoryInProportion(t *testing.T) {
	head := "L\x01\x00\x00\x00\x00"
	var before, after runtime.MemStats
	for _, given := range []string{
		head + strings.Repeat("\x01\x00", MaxAttrs),
		head + strings.Repeat("\x0d\x00", MaxDepth) + strings.Repeat("\x01\x00", 1<<20),
		head + strings.Repeat("\x07\x00\xff\xff\xff\xff\x0f", 1<<18),
		head + "\x0b\x00\x80\x80\x40" + strings.Repeat("[", 1<<20),
	} {
		runtime.ReadMemStats(&before)
		Decode([]byte(given))
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20+4*len(given)), "%.20q", given)
	}
}

func BenchmarkDecode(b *testing.B) {
	r := record(slog.String("path", "/index.html"), slog.Int("status", 200), slog.Duration("took", time.Millisecond))
	s := Scope{}.WithAttrs([]slog.Attr{slog.String("worker", "red"), slog.Int("pid", 4711)})
	data, err := AppendRecord(nil, &r, nil, 0, &s)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}
