package ring_test

import (
	"context"
	"os"
	"reflect"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// No exported method of ring faults, panics or hangs because somebody has cut the segment's file off, whatever the
// party was doing. A claim's bytes are not touched: they are the one thing that may fault.
func TestEveryCallOnAFileThatWasCutOff(t *testing.T) {
	needFaults(t)
	parties := map[string]func(t *testing.T, r *ring.Ring) any{
		"ring":       func(_ *testing.T, r *ring.Ring) any { return r },
		"attachment": func(t *testing.T, r *ring.Ring) any { return attachUntilEnd(t, r) },
		"consumer": func(t *testing.T, r *ring.Ring) any {
			require.NoError(t, attachUntilEnd(t, r).NewProducer().TrySend([]byte("there"), 0))
			return consumeUntilEnd(t, r)
		},
		"consumer with manual release": func(t *testing.T, r *ring.Ring) any {
			return consumeUntilEnd(t, r, ring.WithManualRelease())
		},
		"producer": func(t *testing.T, r *ring.Ring) any {
			p := attachUntilEnd(t, r).NewProducer()
			require.NoError(t, p.TrySend([]byte("not published"), 0))
			return p
		},
		"claim": func(t *testing.T, r *ring.Ring) any {
			c, err := attachUntilEnd(t, r).NewProducer().TryClaim(10, 0)
			require.NoError(t, err)
			return c
		},
	}
	source, err := os.ReadFile("export_test.go")
	require.NoError(t, err)
	var ours []string // that only the tests have
	for _, m := range regexp.MustCompile(`(?m)^func \(.*?\) ([A-Z]\w*)\(`).FindAllSubmatch(source, -1) {
		ours = append(ours, string(m[1]))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	t.Cleanup(cancel)
	for name, party := range parties {
		for _, size := range []int64{0, 4096, 45056} {
			probe := party(t, ringtest.NewUnchecked(t, shm.Named, ringtest.Tiny))
			for i := range reflect.TypeOf(probe).NumMethod() {
				r := ringtest.NewUnchecked(t, shm.Named, ringtest.Tiny)
				v := reflect.ValueOf(party(t, r))
				called := v.Type().Method(i).Name
				if slices.Contains(ours, called) {
					continue
				}
				require.NoError(t, os.Truncate(r.Segment().Path(), size))
				brief, done := context.WithTimeout(ctx, 5*time.Millisecond)
				var args []reflect.Value
				for k := range v.Method(i).Type().NumIn() {
					args = append(args, argument(v.Method(i).Type().In(k), brief))
				}
				if v.Method(i).Type().IsVariadic() {
					args = args[:len(args)-1]
				}
				t.Logf("%s, %d bytes left: %s", name, size, called)
				for _, got := range v.Method(i).Call(args) {
					if got.Kind() == reflect.Pointer && got.IsNil() {
						continue
					}
					switch made := got.Interface().(type) {
					case *os.File:
						made.Close()
					case *ring.Attachment:
						made.Close()
					case *ring.Consumer:
						made.Close()
					}
				}
				done()
			}
		}
	}
}

// argument is a value that any method takes without complaint.
func argument(of reflect.Type, ctx context.Context) reflect.Value {
	switch {
	case of == reflect.TypeFor[context.Context]():
		return reflect.ValueOf(ctx)
	case of.Kind() == reflect.Func:
		return reflect.MakeFunc(of, func([]reflect.Value) (out []reflect.Value) {
			for i := range of.NumOut() {
				out = append(out, reflect.Zero(of.Out(i)))
			}
			return out
		})
	case of == reflect.TypeFor[[]byte]():
		return reflect.ValueOf([]byte("message"))
	case of == reflect.TypeFor[[][]byte]():
		return reflect.ValueOf([][]byte{[]byte("two"), []byte("messages")})
	case of.Kind() == reflect.Int, of.Kind() == reflect.Int64:
		return reflect.ValueOf(1).Convert(of)
	}
	return reflect.Zero(of)
}

func attachUntilEnd(t *testing.T, r *ring.Ring) *ring.Attachment {
	a, err := r.Attach()
	require.NoError(t, err)
	t.Cleanup(func() { a.Close() })
	return a
}

func consumeUntilEnd(t *testing.T, r *ring.Ring, opts ...ring.ConsumerOption) *ring.Consumer {
	c, err := r.Consume(opts...)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}
