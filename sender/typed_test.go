package sender

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"structs"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/sender/codec"
	"github.com/shmrouter/shmrouter/shm"
)

// reading is what tests send as it lies in memory.
type reading struct {
	_     structs.HostLayout
	N     uint64
	Value float64
	Good  bool
	Name  [15]byte
}

// blobs is a codec whose Append a test can get into.
type blobs struct {
	s      *Sender
	size   func(v *[]byte) int
	append func(b []byte, v *[]byte) ([]byte, error)
	inRing int // how many times Append had space in the ring
}

func (c *blobs) Append(b []byte, v *[]byte) ([]byte, error) {
	c.inRing += c.s.Stats().Claims
	if c.append != nil {
		return c.append(b, v)
	}
	return append(b, *v...), nil
}

func (c *blobs) Decode(b []byte, v *[]byte) error {
	*v = b
	return nil
}

type sizedBlobs struct{ *blobs }

func (c sizedBlobs) Size(v *[]byte) int { return c.size(v) }

const typedCapacity = 1 << 20 // frames of 128 KiB: more than inPlaceMin

func newTypedRouter(t testing.TB, kind shm.Kind) *testRouter {
	t.Helper()
	return newRouterOf(t, kind, typedCapacity, wire.Config{MaxMessage: 1 << 20})
}

func TestTypedSend(t *testing.T) {
	onEach(t, func(t *testing.T, kind shm.Kind) {
		r := newRouter(t, kind)
		s := r.started()
		readings := NewTyped(s, codec.MustStruct[reading]())
		texts := NewTyped(s, codec.JSON[[]string]())
		addrs := NewTyped(s, codec.Binary[netip.Addr]())
		require.Same(t, s, texts.Sender())
		v := reading{N: 7, Value: 1.5, Good: true}
		long := []string{strings.Repeat("long ", 5000)} // several frames
		addr := netip.MustParseAddr("192.0.2.1")

		require.NoError(t, readings.Send(t.Context(), &v))
		require.NoError(t, readings.TrySend(&v))
		require.NoError(t, texts.Send(t.Context(), &[]string{"a", "b"}))
		require.NoError(t, addrs.TrySend(&addr))
		wantErr(t, texts.TrySend(&long), ErrTooLarge) // than one frame
		ms := r.poll()
		require.NoError(t, texts.Send(t.Context(), &long))
		ms = append(ms, r.poll()...)

		require.Len(t, ms, 5)
		l := codec.MustStruct[reading]()
		for i, m := range ms {
			require.EqualValues(t, i+1, m.seq)
			switch i {
			case 0, 1:
				got, err := l.View([]byte(m.data))
				require.NoError(t, err)
				require.Equal(t, v, *got)
			case 2:
				require.Equal(t, `["a","b"]`, m.data)
			case 3:
				require.Equal(t, "\xc0\x00\x02\x01", m.data)
			case 4:
				want, _ := json.Marshal(long)
				require.Equal(t, string(want), m.data)
			}
		}
		require.NoError(t, s.Stop())
		var state *StateError
		require.ErrorAs(t, texts.Send(t.Context(), &long), &state)
		require.ErrorAs(t, readings.TrySend(&v), &state)
		r.poll()
	})
}

// What the codec refuses is not sent, costs no number, and the error is the codec's. A context that has ended
// keeps it from being asked.
func TestTypedAppendFails(t *testing.T) {
	r := newRouter(t, shm.Heap)
	s := r.started()
	asked := 0
	c := &blobs{s: s, append: func(b []byte, v *[]byte) ([]byte, error) {
		if asked++; string(*v) == "panic" {
			panic(os.ErrProcessDone)
		}
		return append(b, "half"...), fmt.Errorf("refused: %w", os.ErrInvalid)
	}}
	in := NewTyped(s, c)
	for range 3 {
		v := []byte("refuse")
		err := in.Send(t.Context(), &v)
		wantErr(t, err, os.ErrInvalid)
		require.EqualError(t, err, "sender: encoding a []uint8: refused: invalid argument")
		wantErr(t, in.TrySend(&v), os.ErrInvalid)
		v = []byte("panic")
		require.PanicsWithError(t, os.ErrProcessDone.Error(), func() { in.Send(t.Context(), &v) })
	}
	require.Equal(t, 9, asked)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	v := []byte("refuse")
	wantErr(t, in.Send(ended, &v), context.Canceled)
	require.Equal(t, 9, asked)
	c.append = nil
	require.NoError(t, in.Send(t.Context(), &v))
	ms := r.poll()
	require.Len(t, ms, 1)
	require.EqualValues(t, 1, ms[0].seq)
	require.Equal(t, "refuse", ms[0].data)
	require.NoError(t, s.Stop())
	r.poll()
}

// Long values of a codec that knows their length are encoded in the ring, once the values before were long, too;
// whatever the length that it said, they arrive whole.
func TestTypedEncodesInTheRing(t *testing.T) {
	exact := func(v *[]byte) int { return len(*v) }
	for _, c := range []struct {
		name   string
		size   func(v *[]byte) int
		append func(b []byte, v *[]byte) ([]byte, error)
		long   int
		inRing int // of three long values
		lost   uint64
	}{
		{name: "exact", size: exact, long: 70_000, inRing: 2},
		{name: "as long as a frame", size: exact, long: typedCapacity / 8, inRing: 2},
		{name: "longer than a frame", size: exact, long: typedCapacity/8 + 1},
		{name: "more than needed", size: func(v *[]byte) int { return len(*v) + 5000 }, long: 70_000, inRing: 2},
		{name: "absurdly much", size: func(v *[]byte) int { return 1 << 50 }, long: 70_000},
		{name: "negative", size: func(v *[]byte) int { return -1 }, long: 70_000},
		{name: "outgrown", size: func(v *[]byte) int { return len(*v) - 1 }, long: 70_000, inRing: 2, lost: 2},
		{name: "outgrown beyond a frame", size: func(v *[]byte) int { return 70_000 }, long: 300_000, inRing: 2, lost: 2},
		{name: "a part of the space", size: func(v *[]byte) int { return len(*v) + 8 }, long: 70_000, inRing: 2, lost: 2,
			append: func(b []byte, v *[]byte) ([]byte, error) { return append(append(b, "01234567"...), *v...)[8:], nil }},
		{name: "not append", size: exact, long: 70_000, inRing: 2, lost: 2,
			append: func(b []byte, v *[]byte) ([]byte, error) { return bytes.Clone(*v), nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newTypedRouter(t, shm.Heap)
			s := r.started()
			own := &blobs{s: s, size: c.size, append: c.append}
			in := NewTyped(s, codec.Codec[[]byte](sizedBlobs{own}))
			seq := uint64(0)
			send := func(size int, lost uint64) {
				v := bytes.Repeat([]byte{byte(size), 'x'}, size/2+1)[:size]
				must(t, in.Send(t.Context(), &v))
				ms := r.poll()
				require.Len(t, ms, 1)
				require.Equal(t, string(v), ms[0].data)
				seq += 1 + lost
				require.EqualValues(t, seq, ms[0].seq)
				require.Zero(t, s.Stats().Claims)
			}
			send(c.long, 0)
			send(c.long, c.lost/2)
			send(c.long, c.lost/2)
			require.Equal(t, c.inRing, own.inRing)
			if c.append == nil && c.name != "outgrown beyond a frame" {
				for _, size := range []int{0, 100, 100} {
					before := own.inRing
					in.long.Store(false)
					send(size, 0)
					require.Equal(t, before, own.inRing, "short values are not worth it")
				}
			}
			require.NoError(t, s.Stop())
			r.poll()
		})
	}
}

// Any number of goroutines send through one Typed: nobody's buffer or claim is another's.
func TestTypedConcurrently(t *testing.T) {
	r := newTypedRouter(t, shm.Memfd)
	s := r.started()
	got := r.consume()
	in := NewTyped(s, codec.WithSize(codec.JSON[[]string](), func(v *[]string) int { return len(*v)*12 + 2 }))
	var wg sync.WaitGroup
	want := make(map[string]int)
	for g := range 4 {
		for i := range 15 {
			v := slices.Repeat([]string{fmt.Sprintf("%d.%07d", g, i)}, 1+i%3*7000) // a third of them in the ring
			b, _ := json.Marshal(v)
			want[string(b)]++
		}
		wg.Go(func() {
			for i := range 15 {
				v := slices.Repeat([]string{fmt.Sprintf("%d.%07d", g, i)}, 1+i%3*7000)
				if err := in.Send(t.Context(), &v); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, s.Stop())
	for _, m := range got() {
		if m.kind != wire.End {
			want[m.data]--
		}
	}
	for text, n := range want {
		if n != 0 {
			t.Errorf("%.20s, %d bytes: %d too few", text, len(text), n)
		}
	}
}

// What outgrew its claim is sent from elsewhere: the claim has ended by then, and its space may be another's.
func TestTypedOutgrownIsCopied(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	s := r.started()
	in := NewTyped(s, codec.Codec[[]byte](&blobs{s: s, append: func(b []byte, v *[]byte) ([]byte, error) {
		return append(b, *v...)[1:], nil
	}}))
	c, err := s.TryClaim(100)
	require.NoError(t, err)
	space := c.Bytes()
	v := []byte("-value")
	sent := false
	require.NoError(t, in.sendIn(c, &v, func(b []byte) error {
		sent = true
		require.Zero(t, s.Stats().Claims)
		clear(space)
		require.Equal(t, "value", string(b))
		return nil
	}))
	require.True(t, sent)
	r.poll()
	require.NoError(t, s.Stop())
	r.poll()
}

// An Append that fails or panics in the ring leaves nothing there that holds up others.
func TestTypedAppendFailsInTheRing(t *testing.T) {
	onEach(t, func(t *testing.T, kind shm.Kind) {
		r := newTypedRouter(t, kind)
		s := r.started()
		c := &blobs{s: s, size: func(v *[]byte) int { return len(*v) }}
		in := NewTyped(s, codec.Codec[[]byte](sizedBlobs{c}))
		v := bytes.Repeat([]byte("x"), 70_000)
		require.NoError(t, in.Send(t.Context(), &v))
		for _, fail := range []func(b []byte, v *[]byte) ([]byte, error){
			func(b []byte, v *[]byte) ([]byte, error) { return append(b, "half"...), os.ErrInvalid },
			func(b []byte, v *[]byte) ([]byte, error) { panic(os.ErrInvalid) },
		} {
			in.long.Store(true)
			c.append, c.inRing = fail, 0
			err := func() (err error) {
				defer func() {
					if p := recover(); p != nil {
						err = p.(error)
					}
				}()
				return in.Send(t.Context(), &v)
			}()
			wantErr(t, err, os.ErrInvalid)
			require.Equal(t, 1, c.inRing)
			require.Zero(t, s.Stats().Claims)
		}
		require.NoError(t, s.Send(t.Context(), []byte("behind")))
		ms := r.poll()
		require.Len(t, ms, 2)
		require.Equal(t, "behind", ms[1].data)
		require.NoError(t, s.Stop())
		r.poll()
	})
}

// A buffer that one value made very long is not kept for the short ones after it.
func TestTypedBuffersShrink(t *testing.T) {
	r := newTypedRouter(t, shm.Heap)
	s := r.started()
	caps := []int{}
	in := NewTyped(s, codec.Codec[[]byte](&blobs{s: s, append: func(b []byte, v *[]byte) ([]byte, error) {
		caps = append(caps, cap(b))
		if len(*v) == 1 {
			return append(make([]byte, 0, 1<<20), *v...), nil // of what it grew on its way
		}
		return append(b, *v...), nil
	}}))
	for _, v := range [][]byte{[]byte("x"), []byte("short"), []byte("short")} {
		must(t, in.Send(t.Context(), &v))
	}
	require.Len(t, caps, 3)
	require.LessOrEqual(t, caps[1], bufferKept)
	require.LessOrEqual(t, caps[2], bufferKept)
	r.poll()
	require.NoError(t, s.Stop())
	r.poll()
}

func TestTypedClaim(t *testing.T) {
	onEach(t, func(t *testing.T, kind shm.Kind) {
		r := newRouter(t, kind)
		s := r.started()
		in := NewTyped(s, codec.MustStruct[reading]())
		// A lap of other bytes first: what is claimed is zero all the same.
		for i := 0; i < 2*testCapacity; i += 4096 {
			must(t, s.Send(t.Context(), bytes.Repeat([]byte{0xff}, 4096)))
			r.poll()
		}
		a, err := in.Claim(t.Context())
		require.NoError(t, err)
		defer a.Abort()
		b, err := in.TryClaim()
		require.NoError(t, err)
		require.Equal(t, reading{}, *a.Value())
		require.Equal(t, reading{}, *b.Value())
		want := reading{N: 1, Value: 2, Good: true}
		*a.Value() = want
		require.Empty(t, r.poll())
		require.NoError(t, a.Commit())
		require.Nil(t, a.Value())
		wantErr(t, a.Commit(), ErrClaimDone)
		b.Abort()
		require.Nil(t, b.Value())
		ms := r.poll()
		require.Len(t, ms, 1)
		got, err := codec.MustStruct[reading]().View([]byte(ms[0].data))
		require.NoError(t, err)
		require.Equal(t, want, *got)

		_, err = NewTyped(s, codec.JSON[reading]()).Claim(t.Context())
		wantErr(t, err, errors.ErrUnsupported)
		_, err = NewTyped(s, codec.MustStruct[[testCapacity]byte]()).Claim(t.Context())
		wantErr(t, err, ErrTooLarge)
		nothing, err := NewTyped(s, codec.MustStruct[[0]int64]()).TryClaim()
		require.NoError(t, err)
		require.NotNil(t, nothing.Value())
		nothing.Abort()
		r.fill(s)
		_, err = in.TryClaim()
		wantErr(t, err, ErrFull)
		r.poll()
		require.NoError(t, s.Stop())
		_, err = in.TryClaim()
		wantErr(t, err, ErrState)
		r.poll()
	})
}

// Who truncates the file of a named segment cannot kill a worker that encodes in it.
func TestTypedTruncated(t *testing.T) {
	r := newTypedRouter(t, shm.Named)
	s := r.started()
	c := &blobs{s: s, size: func(v *[]byte) int { return len(*v) }}
	in := NewTyped(s, codec.Codec[[]byte](sizedBlobs{c}))
	v := bytes.Repeat([]byte("x"), 70_000)
	require.NoError(t, in.Send(t.Context(), &v))
	c.append = func(b []byte, v *[]byte) ([]byte, error) {
		must(t, os.Truncate(r.ring.Segment().Path(), 4096))
		return append(b, *v...), nil
	}
	wantErr(t, in.Send(t.Context(), &v), shm.ErrFault)
	require.Equal(t, 1, c.inRing)
	require.Zero(t, s.Stats().Claims)
	require.ErrorIs(t, s.Stop(), shm.ErrFault)
	r.consumer.Close()
	r.consumer = nil
}

func TestTypedAllocs(t *testing.T) {
	onEach(t, func(t *testing.T, kind shm.Kind) {
		r := newTypedRouter(t, kind)
		s := r.started()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		readings := NewTyped(s, codec.MustStruct[reading]())
		addrs := NewTyped(s, codec.Binary[netip.Addr]())
		texts := NewTyped(s, codec.JSON[[]string]())
		own := &blobs{s: s, size: func(v *[]byte) int { return len(*v) }}
		longs := NewTyped(s, codec.Codec[[]byte](sizedBlobs{own}))
		v, addr, text, long := reading{}, netip.MustParseAddr("::1"), []string{"a", "b"}, make([]byte, 70_000)
		for _, c := range []struct {
			name   string
			pooled bool
			do     func() error
		}{
			{"struct", false, func() error { return readings.Send(ctx, &v) }},
			{"struct, if there is room", false, func() error { return readings.TrySend(&v) }},
			{"binary", true, func() error { return addrs.Send(ctx, &addr) }},
			{"binary, if there is room", true, func() error { return addrs.TrySend(&addr) }},
			{"JSON", true, func() error { return texts.Send(ctx, &text) }},
			{"in the ring", true, func() error { return longs.Send(ctx, &long) }},
			{"claim", false, func() error {
				c, err := readings.Claim(ctx)
				if err != nil {
					return err
				}
				defer c.Abort()
				c.Value().N++
				return c.Commit()
			}},
		} {
			if c.pooled && raceEnabled {
				continue // where sync.Pool forgets on purpose
			}
			require.Zero(t, testing.AllocsPerRun(500, func() {
				if err := c.do(); err != nil {
					t.Fatal(err)
				}
				r.consumer.Poll(10, func(ring.Frame) ring.Action { return ring.Continue })
			}), c.name)
		}
		if !raceEnabled {
			require.Positive(t, own.inRing)
		}
		require.NoError(t, s.Stop())
		r.poll()
	})
}
