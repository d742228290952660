package protobuf

import (
	"context"
	"fmt"
	"io"
	"log"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/sender/codec"
)

func openPipe(t testing.TB) (*router.Router, *sender.Sender, *router.Receiver) {
	t.Helper()
	r, err := router.New()
	require.NoError(t, err)
	require.NoError(t, r.Start())
	t.Cleanup(func() { r.Stop() })
	s, rcv, err := r.Pipe()
	require.NoError(t, err)
	require.NoError(t, s.Start())
	return r, s, rcv
}

func document(t testing.TB, size int) *structpb.Struct {
	t.Helper()
	s, err := structpb.NewStruct(map[string]any{
		"text": strings.Repeat("x", size), "n": 1.5, "list": []any{true, nil, "a"},
	})
	require.NoError(t, err)
	return s
}

// Short, long (in the ring), and longer than a frame: they arrive as they were, and a bad one between them is an
// error of its own.
func TestThroughARouter(t *testing.T) {
	_, s, rcv := openPipe(t)
	c := New[structpb.Struct]()
	out, in := sender.NewTyped(s, c), router.NewTyped(rcv, c)
	sizes := []int{0, 10, 100_000, 100_000, 100_000, 1 << 20, 1 << 20, 10}
	go func() {
		for _, size := range sizes {
			if err := out.Send(context.Background(), document(t, size)); err != nil {
				t.Error(err)
			}
			if err := s.Send(context.Background(), []byte{0x0a, 0xff}); err != nil {
				t.Error(err)
			}
		}
		s.Stop()
	}()
	for i, size := range sizes {
		got, err := in.Recv(t.Context())
		require.NoError(t, err)
		require.True(t, proto.Equal(document(t, size), got), "%d", size)
		_, err = in.Recv(t.Context())
		var bad *router.DecodeError
		require.ErrorAs(t, err, &bad)
		require.Equal(t, []byte{0x0a, 0xff}, bad.Data)
		require.ErrorIs(t, err, proto.Error)
		require.EqualValues(t, 2*i+2, bad.Seq, "nothing was numbered that was not sent")
	}
	_, err := in.Recv(t.Context())
	require.Equal(t, io.EOF, err)
}

func TestAppendRefuses(t *testing.T) {
	_, s, _ := openPipe(t)
	out := sender.NewTyped(s, New[structpb.Value]())
	err := out.Send(t.Context(), structpb.NewStringValue("\xff"))
	require.ErrorContains(t, err, "sender: encoding a structpb.Value: ")
	require.ErrorContains(t, err, "UTF-8")
	require.NoError(t, s.Stop())
}

func TestSizeIsExact(t *testing.T) {
	c := New[structpb.Struct]()
	for _, size := range []int{0, 1, 127, 128, 70_000} {
		v := document(t, size)
		n := c.(codec.Sizer[structpb.Struct]).Size(v)
		space := make([]byte, n)
		b, err := c.Append(space[:0:n], v)
		require.NoError(t, err)
		require.Len(t, b, n)
		require.Same(t, &space[0], &b[0], "it is encoded where it was told")
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	_, s, rcv := openPipe(t)
	rcv.Handle(func(router.Message) {}, nil)
	out := sender.NewTyped(s, New[timestamppb.Timestamp]())
	v := timestamppb.Now()
	c := New[timestamppb.Timestamp]()
	b := make([]byte, 0, 100)
	require.Zero(t, testing.AllocsPerRun(100, func() { c.Append(b, v) }))
	require.NoError(t, out.Send(t.Context(), v))
	require.NoError(t, s.Stop())
}

// Hostile bytes are an error, or a message that can be encoded again.
func FuzzDecode(f *testing.F) {
	c := New[structpb.Struct]()
	good, err := c.Append(nil, document(f, 10))
	require.NoError(f, err)
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var v, again structpb.Struct
		if c.Decode(b, &v) != nil {
			return
		}
		b, err := c.Append(nil, &v)
		require.NoError(t, err)
		require.Len(t, b, c.(codec.Sizer[structpb.Struct]).Size(&v))
		require.NoError(t, c.Decode(b, &again))
	})
}

func Example() {
	r, err := router.New()
	if err != nil {
		log.Fatal(err)
	}
	if err := r.Start(); err != nil {
		log.Fatal(err)
	}
	defer r.Stop()
	s, rcv, err := r.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	defer rcv.Close()
	if err := s.Start(); err != nil {
		log.Fatal(err)
	}

	stamps := New[timestamppb.Timestamp]()
	out := sender.NewTyped(s, stamps)
	out.Send(context.Background(), &timestamppb.Timestamp{Seconds: 1})
	s.Stop()

	for at, err := range router.NewTyped(rcv, stamps).Messages(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(at.AsTime())
	}
	// Output: 1970-01-01 00:00:01 +0000 UTC
}

// BenchmarkSend is a message beside its bytes.
func BenchmarkSend(b *testing.B) {
	_, s, rcv := openPipe(b)
	rcv.Handle(func(router.Message) {}, nil)
	v := timestamppb.Now()
	raw, err := proto.Marshal(v)
	require.NoError(b, err)
	out := sender.NewTyped(s, New[timestamppb.Timestamp]())
	b.Run("codec=raw", func(b *testing.B) {
		for b.Loop() {
			if err := s.Send(context.Background(), raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("codec=protobuf", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := out.Send(context.Background(), v); err != nil {
				b.Fatal(err)
			}
		}
	})
	require.NoError(b, s.Stop())
}
