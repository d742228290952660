package router

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"structs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/sender/codec"
)

// reading is what tests send as it lies in memory.
type reading struct {
	_     structs.HostLayout
	N     uint64
	Value float64
	Good  bool
	Name  [15]byte
}

// typed makes a pipe of a running router, whose sender is started.
func typedPipe[T any](t testing.TB, r *Router, c codec.Codec[T]) (*sender.Typed[T], *Typed[T]) {
	t.Helper()
	s, rcv := pipe(t, r)
	must(t, s.Start())
	return sender.NewTyped(s, c), NewTyped(rcv, c)
}

func TestTypedRecv(t *testing.T) {
	guard(t)
	r := begin(t)
	out, in := typedPipe(t, r, codec.MustStruct[reading]())
	const n = 100
	for i := range n {
		must(t, out.Send(background, &reading{N: uint64(i), Good: i%2 == 0}))
	}
	must(t, out.Sender().Stop())
	var kept []*reading
	for i := range n / 2 {
		v, err := in.Recv(background)
		must(t, err)
		require.EqualValues(t, i, v.N)
		kept = append(kept, v)
	}
	for v, err := range in.Messages(background) {
		must(t, err)
		kept = append(kept, v)
	}
	require.Len(t, kept, n)
	for i, v := range kept { // they are the receiver's for good
		require.Equal(t, reading{N: uint64(i), Good: i%2 == 0}, *v)
	}
	_, err := in.Recv(background)
	require.Equal(t, io.EOF, err)
	must(t, in.Receiver().Close())
	_, err = in.Recv(background)
	wantIs(t, "after Close", err, ErrPipeClosed)
	for v, err := range in.Messages(background) {
		require.Nil(t, v)
		wantIs(t, "after Close", err, ErrPipeClosed)
	}
}

// explosive is a codec that panics on some bytes, as codecs of others may.
type explosive struct{ codec.Codec[string] }

func (c explosive) Decode(b []byte, v *string) error {
	switch string(b) {
	case `"boom"`:
		panic("boom")
	case `"error"`:
		panic(io.ErrUnexpectedEOF)
	case `"index"`:
		_ = b[len(b)]
	}
	return c.Codec.Decode(b, v)
}

// A payload that is no value is an error for that message, with its bytes; the next is received as if it had not
// been, by each of the three ways.
func TestTypedBadPayloads(t *testing.T) {
	send := func(t *testing.T, s *sender.Sender) {
		for _, b := range []string{`"one"`, `{`, `"boom"`, ``, `"error"`, `"index"`, `"two"`} {
			must(t, s.Send(background, []byte(b)))
		}
		must(t, s.Stop())
	}
	check := func(t *testing.T, got []string, bad []*DecodeError, id uint64) {
		require.Equal(t, []string{"one", "two"}, got)
		require.Len(t, bad, 5)
		var syntax *json.SyntaxError
		require.ErrorAs(t, bad[0], &syntax)
		for i, want := range []string{`{`, `"boom"`, ``, `"error"`, `"index"`} {
			require.Equal(t, want, string(bad[i].Data))
			require.EqualValues(t, i+2, bad[i].Seq)
			require.Equal(t, id, bad[i].Pipe)
			require.Equal(t, strings.HasPrefix(want, `"`), bad[i].Stack != nil, "where it panicked: %s", bad[i].Stack)
		}
		require.EqualError(t, bad[0], fmt.Sprintf(
			"router: pipe %d: message 2, of 1 bytes, is no string: unexpected end of JSON input", id))
		require.ErrorContains(t, bad[1], "codec panicked: boom")
		require.Contains(t, string(bad[1].Stack), "explosive")
		require.ErrorIs(t, bad[3], io.ErrUnexpectedEOF)
		var index runtime.Error
		require.ErrorAs(t, bad[4], &index)
	}
	c := codec.Codec[string](explosive{codec.JSON[string]()})

	t.Run("Recv", func(t *testing.T) {
		guard(t)
		out, in := typedPipe(t, begin(t), c)
		send(t, out.Sender())
		var got []string
		var bad []*DecodeError
		for {
			v, err := in.Recv(background)
			if err == io.EOF {
				break
			}
			if e, ok := errors.AsType[*DecodeError](err); ok {
				require.Nil(t, v)
				bad = append(bad, e)
				continue
			}
			must(t, err)
			got = append(got, *v)
		}
		check(t, got, bad, in.Receiver().ID())
	})
	t.Run("Messages", func(t *testing.T) {
		guard(t)
		out, in := typedPipe(t, begin(t), c)
		send(t, out.Sender())
		var got []string
		var bad []*DecodeError
		for v, err := range in.Messages(background) {
			if e, ok := errors.AsType[*DecodeError](err); ok {
				require.Nil(t, v)
				bad = append(bad, e)
				continue
			}
			must(t, err)
			got = append(got, *v)
		}
		check(t, got, bad, in.Receiver().ID())
	})
	t.Run("Handle", func(t *testing.T) {
		guard(t)
		r := begin(t)
		out, in := typedPipe(t, r, c)
		var got []string
		var bad []*DecodeError
		ended := make(chan error, 1)
		in.Handle(func(v *string, m Message) {
			require.Contains(t, []uint64{1, 7}, m.Seq)
			got = append(got, *v)
		}, func(e *DecodeError) { bad = append(bad, e) }, func(err error) { ended <- err })
		send(t, out.Sender())
		must(t, within(t, "the end", ended))
		check(t, got, bad, in.Receiver().ID())
		require.Zero(t, r.Stats().Panics)
	})
}

// Whom nobody tells of bad payloads finds them in the log; taking the handlers away gives the pipe back to Recv.
func TestTypedHandlers(t *testing.T) {
	guard(t)
	var log journal
	r := begin(t, WithLogger(log.logger()))
	out, in := typedPipe(t, r, codec.MustStruct[reading]())
	got := make(chan reading, 10)
	in.Handle(func(v *reading, _ Message) { got <- *v }, nil, nil)
	must(t, out.Sender().Send(background, []byte("no reading")))
	must(t, out.Send(background, &reading{N: 1}))
	require.EqualValues(t, 1, within(t, "a value", got).N)
	lines := log.matching("cannot be decoded")
	require.Len(t, lines, 1)
	require.Contains(t, lines[0], "10 bytes, and a router.reading has 32")

	in.Handle(nil, nil, nil)
	must(t, out.Send(background, &reading{N: 2}))
	v, err := in.Recv(background)
	must(t, err)
	require.EqualValues(t, 2, v.N)
	must(t, out.Sender().Stop())
}

// A struct is the message's own memory, whatever else goes through the router, and receiving it allocates
// nothing.
func TestTypedStructIsNotCopied(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	must(t, s.Start())
	l := codec.MustStruct[reading]()
	in := NewTyped(rcv, codec.Codec[reading](l))
	for i := range 2000 {
		must(t, s.Send(background, make([]byte, i%300))) // lengths that would leave the next one unaligned
		must(t, s.Send(background, l.Bytes(&reading{N: uint64(i)})))
		_, err := rcv.Recv(background)
		must(t, err)
		m, err := rcv.Recv(background)
		must(t, err)
		v, err := in.Decode(m)
		must(t, err)
		require.EqualValues(t, i, v.N)
		require.Same(t, &m.Data[0], &l.Bytes(v)[0], "message %d", i)
		if i == 0 {
			require.Zero(t, testing.AllocsPerRun(100, func() { in.Decode(m) }))
		}
	}
	must(t, s.Stop())
}
