package codec

import (
	"encoding/json"
	"errors"
	"math"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shmrouter/shmrouter/internal/ringtest"
)

// order is what JSON is for.
type order struct {
	Name  string            `json:"name"`
	Lines []string          `json:"lines,omitempty"`
	Tags  map[string]string `json:"tags,omitempty"`
	Note  *string           `json:"note,omitempty"`
}

func orders() *rapid.Generator[order] {
	return rapid.Custom(func(t *rapid.T) order {
		o := order{Name: rapid.String().Draw(t, "name")}
		if lines := rapid.SliceOf(rapid.String()).Draw(t, "lines"); len(lines) > 0 {
			o.Lines = lines
		}
		if tags := rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "tags"); len(tags) > 0 {
			o.Tags = tags
		}
		o.Note = rapid.Ptr(rapid.String(), true).Draw(t, "note")
		return o
	})
}

// The bytes are json.Marshal's, behind what was there.
func TestJSONRoundTrip(t *testing.T) {
	c := JSON[order]()
	ringtest.Rapid(t, 200, func(t *rapid.T) {
		v := orders().Draw(t, "order")
		want, err := json.Marshal(v)
		require.NoError(t, err)
		before := rapid.SliceOf(rapid.Byte()).Draw(t, "before")
		b, err := c.Append(before, &v)
		require.NoError(t, err)
		require.Equal(t, string(before)+string(want), string(b))
		var got order
		require.NoError(t, c.Decode(b[len(before):], &got))
		require.Equal(t, v, got)
	})
}

// A value that cannot be encoded is an error, and does no harm to the next, nor does one that panics.
func TestJSONAfterFailures(t *testing.T) {
	c := JSON[any]()
	for range 3 {
		for _, v := range []any{math.NaN(), func() {}, map[string]any{"a": "x", "b": make(chan int)}} {
			b, err := c.Append([]byte("before"), &v)
			require.Error(t, err)
			require.Nil(t, b)
		}
		v := any(bomb{})
		require.Panics(t, func() { c.Append(nil, &v) })
		v = any("well")
		b, err := c.Append([]byte("before "), &v)
		require.NoError(t, err)
		require.Equal(t, `before "well"`, string(b))
	}
}

type bomb struct{}

func (bomb) MarshalJSON() ([]byte, error) { panic(errors.New("boom")) }

func TestJSONConcurrently(t *testing.T) {
	c := JSON[[]int]()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			v := []int{g, g, g}
			want, _ := json.Marshal(v)
			for range 200 {
				if b, err := c.Append(nil, &v); err != nil || string(b) != string(want) {
					t.Errorf("%s, %v, want %s", b, err, want)
				}
			}
		})
	}
	wg.Wait()
}

func TestBinaryRoundTrip(t *testing.T) {
	times, addrs, urls := Binary[time.Time](), Binary[netip.Addr](), Binary[url.URL]()
	ringtest.Rapid(t, 200, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(-1<<33, 1<<33).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
		b, err := times.Append([]byte("x"), &at)
		require.NoError(t, err)
		var gotAt time.Time
		require.NoError(t, times.Decode(b[1:], &gotAt))
		require.True(t, at.Equal(gotAt))

		addr := netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "addr")))
		b, err = addrs.Append(nil, &addr)
		require.NoError(t, err)
		var gotAddr netip.Addr
		require.NoError(t, addrs.Decode(b, &gotAddr))
		require.Equal(t, addr, gotAddr)
	})
	u, err := url.Parse("https://example.org/a?b=c#d")
	require.NoError(t, err)
	b, err := urls.Append(nil, u)
	require.NoError(t, err)
	var got url.URL
	require.NoError(t, urls.Decode(b, &got))
	require.Equal(t, *u, got)
}

func TestWithSize(t *testing.T) {
	c := WithSize(JSON[string](), func(v *string) int { return len(*v) + 2 })
	s := "hello"
	require.Equal(t, 7, c.(Sizer[string]).Size(&s))
	b, err := c.Append(nil, &s)
	require.NoError(t, err)
	require.Equal(t, `"hello"`, string(b))
}

func TestAppendAllocatesNothing(t *testing.T) {
	b := make([]byte, 0, 1000)
	p, at, addr, o := point{}, time.Now(), netip.MustParseAddr("::1"), order{Name: strings.Repeat("x", 100)}
	structs, times, addrs, orders := MustStruct[point](), Binary[time.Time](), Binary[netip.Addr](), JSON[order]()
	for name, f := range map[string]func(){
		"struct": func() { structs.Append(b, &p) },
		"view":   func() { structs.View(structs.Bytes(&p)) },
		"time":   func() { times.Append(b, &at) },
		"addr":   func() { addrs.Append(b, &addr) },
		"JSON":   func() { orders.Append(b, &o) },
	} {
		if name == "JSON" && raceEnabled {
			continue // where sync.Pool forgets on purpose
		}
		require.Zero(t, testing.AllocsPerRun(200, f), name)
	}
}

// Hostile bytes are an error, or a value that can be encoded again.
func FuzzJSON(f *testing.F) {
	c := JSON[order]()
	f.Add([]byte(`{"name":"a","lines":["b"],"tags":{"c":"d"},"note":null}`))
	f.Add([]byte(strings.Repeat("[", 1000)))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v order
		if c.Decode(b, &v) != nil {
			return
		}
		_, err := c.Append(nil, &v)
		require.NoError(t, err)
	})
}

func FuzzBinary(f *testing.F) {
	times, addrs := Binary[time.Time](), Binary[netip.Addr]()
	f.Add([]byte{})
	f.Add([]byte{1, 0, 0, 0, 14, 187, 75, 55, 229, 0, 0, 0, 0, 255, 255})
	f.Add([]byte("\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01eth0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var at time.Time
		if times.Decode(b, &at) == nil {
			again, err := times.Append(nil, &at)
			require.NoError(t, err)
			var second time.Time
			require.NoError(t, times.Decode(again, &second))
			require.True(t, at.Equal(second))
		}
		var addr netip.Addr
		if addrs.Decode(b, &addr) == nil {
			again, err := addrs.Append(nil, &addr)
			require.NoError(t, err)
			require.Equal(t, string(b), string(again))
		}
	})
}
