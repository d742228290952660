package codec

import (
	"math"
	"structs"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shmrouter/shmrouter/internal/ringtest"
)

type point struct {
	_    structs.HostLayout
	X, Y float32
}

// everything has one of each thing that is allowed.
type everything struct {
	_      structs.HostLayout
	I8     int8
	_      [3]byte
	I32    int32
	I64    int64
	U16    uint16 // and padding that nobody wrote down
	U64    uint64
	F      float64
	C      complex64
	Took   time.Duration
	Flag   bool
	Flags  [3]bool
	Grid   [2][3]int16
	Points [2]point
	Nested struct {
		_    structs.HostLayout
		On   bool
		Also [2]struct {
			_ structs.HostLayout
			N int32
			B bool
		}
	}
	point
	hidden uint8
	_      [0]struct{ _ structs.HostLayout }
}

func TestLayoutOfEverything(t *testing.T) {
	l, err := Struct[everything]()
	require.NoError(t, err)
	v := everything{I8: -1, I64: math.MinInt64, C: complex(1, 2), Flag: true, point: point{X: 3}, hidden: 9}
	v.Flags[2], v.Grid[1][2], v.Points[1].Y, v.Nested.Also[1].B = true, -7, 0.5, true
	b, err := l.Append([]byte("before"), &v)
	require.NoError(t, err)
	require.Equal(t, "before", string(b[:6]))
	require.Len(t, b[6:], l.Size(&v))
	var got everything
	require.NoError(t, l.Decode(b[6:], &got))
	require.Equal(t, v, got)

	for _, other := range []any{MustStruct[[4]uint64](), MustStruct[float64](), MustStruct[bool](), MustStruct[[0]int32]()} {
		require.NotNil(t, other)
	}
}

// What has no fixed layout is refused, with the field's name and a way out.
func TestStructSaysWhatToDo(t *testing.T) {
	fails := func(name string, err error, says ...string) {
		t.Helper()
		require.ErrorIs(t, err, ErrLayout, name)
		for _, s := range says {
			assert.ErrorContains(t, err, s, name)
		}
	}
	check := func(err error) error { return err }
	of := func(_ any, err error) error { return check(err) }

	type bare struct{ N int32 }
	fails("no HostLayout", of(Struct[bare]()), "codec.bare (codec.bare): the compiler may move its fields: add the field _ structs.HostLayout")
	type inner struct {
		_ structs.HostLayout
		B struct{ N int32 }
	}
	fails("no HostLayout inside", of(Struct[inner]()), "codec.inner.B (struct): the compiler may move its fields")
	type foreign struct {
		_ structs.HostLayout
		N atomic.Int64
	}
	fails("a type of others", of(Struct[foreign]()), "codec.foreign.N (atomic.Int64)", "if it is not yours")
	type all struct {
		_     structs.HostLayout
		Name  string
		Bytes []byte
		Map   map[string]int
		Ptr   *int64
		Any   any
		Ch    chan int
		F     func()
		N     int
		U     uint
		P     uintptr
		At    time.Time
		List  [3][2]struct {
			_ structs.HostLayout
			S string
		}
	}
	err := of(Struct[all]())
	fails("all", err,
		"codec.all.Name (string)", "[32]byte",
		"codec.all.Bytes ([]uint8)", "an array, and perhaps a count",
		"codec.all.Map (map[string]int)", "codec.JSON",
		"codec.all.Ptr (*int64)", "codec.all.Any (interface {})", "codec.all.Ch (chan int)", "codec.all.F (func())",
		"codec.all.N (int): its size is not the same everywhere: say int64",
		"codec.all.U (uint)", "uint64", "codec.all.P (uintptr)",
		"codec.all.At (time.Time)", "UnixNano",
		"codec.all.List[][].S (string)")
	assert.NotContains(t, err.Error(), "all.At.", "a type with advice of its own is not taken apart")
	type blank struct {
		_ structs.HostLayout
		_ *int
	}
	fails("blank", of(Struct[blank]()), "codec.blank._ (*int)")
	fails("pointer", of(Struct[*point]()), "*codec.point (*codec.point)")
	fails("slice", of(Struct[[]byte]()), "[]uint8")
	require.PanicsWithError(t, of(Struct[bare]()).Error(), func() { MustStruct[bare]() })
}

func TestLayoutDecodeRefuses(t *testing.T) {
	l := MustStruct[everything]()
	good := l.Bytes(&everything{})
	for _, b := range [][]byte{nil, {}, good[1:], append(good[:len(good):len(good)], 0)} {
		var v everything
		err := l.Decode(b, &v)
		require.ErrorContains(t, err, "bytes, and a codec.everything has", "%d bytes", len(b))
		require.ErrorIs(t, err, ErrPayload)
		_, err = l.View(b)
		require.Error(t, err)
	}

	// The bytes of bools are found by setting bools.
	var v everything
	bytes := l.Bytes(&v)
	flags := []*bool{&v.Flag, &v.Flags[0], &v.Flags[2], &v.Nested.On, &v.Nested.Also[0].B, &v.Nested.Also[1].B}
	isBool := map[int]bool{}
	for _, f := range append(flags, &v.Flags[1]) {
		*f = true
		for at, b := range bytes {
			if b != 0 {
				isBool[at] = true
			}
		}
		*f = false
	}
	require.Len(t, isBool, 7)
	for at := range bytes {
		for _, x := range []byte{1, 2, 255} {
			bad := make([]byte, len(bytes))
			bad[at] = x
			_, err := l.View(bad)
			require.Equal(t, isBool[at] && x > 1, err != nil, "%d in byte %d: %v", x, at, err)
			if err != nil {
				require.ErrorContains(t, err, "where a bool is 0 or 1")
				require.ErrorIs(t, err, ErrPayload)
			}
		}
	}
}

// A view is the bytes themselves where they are aligned, and a copy where not.
func TestLayoutView(t *testing.T) {
	l := MustStruct[point]()
	var backing struct {
		_ structs.HostLayout
		_ uint64
		b [32]byte
	}
	for shift := range 9 {
		b := backing.b[shift : shift+l.Size(nil)]
		v, err := l.View(b)
		require.NoError(t, err)
		b[0]++
		same := &l.Bytes(v)[0] == &b[0]
		require.Equal(t, shift%4 == 0, same, "shifted by %d", shift)
	}
	type empty struct{ _ structs.HostLayout }
	e := MustStruct[empty]()
	v, err := e.View(nil)
	require.NoError(t, err)
	require.NotNil(t, v)
	require.Empty(t, e.Bytes(v))
}

func TestLayoutRoundTrip(t *testing.T) {
	type record struct {
		_     structs.HostLayout
		A     int8
		B     uint64
		C     float32
		D     [5]int16
		E     bool
		Inner [2]point
	}
	l := MustStruct[record]()
	ringtest.Rapid(t, 200, func(t *rapid.T) {
		v := record{
			A: rapid.Int8().Draw(t, "A"), B: rapid.Uint64().Draw(t, "B"), C: rapid.Float32().Draw(t, "C"),
			E: rapid.Bool().Draw(t, "E"),
		}
		for i := range v.D {
			v.D[i] = rapid.Int16().Draw(t, "D")
		}
		v.Inner[1].X = rapid.Float32().Draw(t, "X")
		b, err := l.Append(nil, &v)
		require.NoError(t, err)
		var got record
		require.NoError(t, l.Decode(b, &got))
		require.Equal(t, v, got)
		seen, err := l.View(b)
		require.NoError(t, err)
		require.Equal(t, v, *seen)
	})
}

// Any bytes are refused, or are a value that has these bytes.
func FuzzLayout(f *testing.F) {
	l := MustStruct[everything]()
	f.Add(l.Bytes(&everything{Flag: true}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := l.View(b)
		var got everything
		require.Equal(t, err == nil, l.Decode(b, &got) == nil)
		if err != nil {
			require.Nil(t, v)
			require.Equal(t, everything{}, got)
			return
		}
		require.Equal(t, b, l.Bytes(v))
		require.Equal(t, b, l.Bytes(&got))
		for _, f := range []bool{v.Flag, v.Flags[0], v.Flags[1], v.Flags[2], v.Nested.On, v.Nested.Also[0].B, v.Nested.Also[1].B} {
			require.Contains(t, []bool{true, false}, f)
		}
	})
}
