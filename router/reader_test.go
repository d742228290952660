package router

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/sender"
)

func init() { roles["stream"] = streamRole }

// stream is so many bytes that say where they stand.
func stream(size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{1}), size)
}

// streamRole copies a stream of so many bytes to its pipe, as kind says; "killed" ends without stopping.
func streamRole(arg string) error {
	var kind string
	var size int64
	if _, err := fmt.Sscan(arg, &kind, &size); err != nil {
		return err
	}
	s, err := sender.FromEnv()
	if err != nil {
		return err
	}
	if err := s.Start(); err != nil {
		return err
	}
	w := sender.NewWriter(s.Context(), s)
	switch kind {
	case "plain", "killed":
		_, err = io.Copy(w, stream(size))
	case "bufio":
		b := bufio.NewWriterSize(w, 5000)
		if _, err = io.Copy(b, iotest.HalfReader(stream(size))); err == nil {
			err = b.Flush()
		}
	case "whole":
		var b []byte
		if b, err = io.ReadAll(stream(size)); err == nil {
			_, err = w.Write(b)
		}
	case "gzip":
		z := gzip.NewWriter(w)
		if _, err = io.Copy(z, stream(size)); err == nil {
			err = z.Close()
		}
	case "json":
		e := json.NewEncoder(w)
		for i := range size {
			if err = e.Encode(map[string]int64{"n": i}); err != nil {
				break
			}
		}
	}
	if err != nil {
		return err
	}
	if kind == "killed" {
		os.Exit(9)
	}
	return s.Stop()
}

// Megabytes pass from a worker's io.Copy to the main process's, whatever is put around either end.
func TestStreamBetweenProcesses(t *testing.T) {
	const size = 6_000_007
	h := sha256.New()
	_, err := io.Copy(h, stream(size))
	must(t, err)
	want := h.Sum(nil)
	for _, c := range []struct {
		kind string
		read func(r io.Reader, to io.Writer) error
	}{
		{"plain", func(r io.Reader, to io.Writer) error { // by WriteTo
			n, err := io.Copy(to, r)
			if n != size {
				return fmt.Errorf("%d bytes, %w", n, err)
			}
			return err
		}},
		{"whole", func(r io.Reader, to io.Writer) error { // by Read
			_, err := io.CopyBuffer(to, struct{ io.Reader }{r}, make([]byte, 7001))
			return err
		}},
		{"bufio", func(r io.Reader, to io.Writer) error {
			_, err := bufio.NewReaderSize(r, 300).WriteTo(to)
			return err
		}},
		{"gzip", func(r io.Reader, to io.Writer) error {
			z, err := gzip.NewReader(r)
			if err != nil {
				return err
			}
			_, err = io.Copy(to, z)
			return err
		}},
	} {
		t.Run(c.kind, func(t *testing.T) {
			guard(t)
			r := begin(t, WithCapacity(256<<10))
			s, rcv := pipe(t, r)
			w, err := r.Launch(command(t, "stream", fmt.Sprint(c.kind, " ", size)), s)
			must(t, err)
			in := NewReader(background, rcv)
			h := sha256.New()
			must(t, c.read(in, h))
			require.Equal(t, want, h.Sum(nil))
			n, err := in.Read(make([]byte, 1))
			require.Zero(t, n)
			require.Equal(t, io.EOF, err)
			must(t, w.Wait())
			must(t, in.Close())
		})
	}
}

// A stream that its worker did not finish ends with its death, behind every byte; one of JSON values is read by
// a decoder.
func TestStreamEnds(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	w, err := r.Launch(command(t, "stream", "killed 100000"), s)
	must(t, err)
	b, err := io.ReadAll(NewReader(background, rcv))
	var died *PeerError
	require.ErrorAs(t, err, &died)
	require.Equal(t, w.PID(), died.PID)
	want, _ := io.ReadAll(stream(100_000))
	require.Equal(t, want, b)
	_, err = NewReader(background, rcv).WriteTo(io.Discard)
	require.ErrorAs(t, err, &died)
	w.Wait()
	must(t, rcv.Close())

	s, rcv = pipe(t, r)
	w, err = r.Launch(command(t, "stream", "json 1000"), s)
	must(t, err)
	dec := json.NewDecoder(NewReader(background, rcv))
	for i := range int64(1000) {
		var v map[string]int64
		must(t, dec.Decode(&v))
		require.Equal(t, i, v["n"])
	}
	require.Equal(t, io.EOF, dec.Decode(new(any)))
	must(t, w.Wait())
	must(t, rcv.Close())
}

// However writes and reads are cut, the bytes are the same; none of a writer that fails or falls short are lost.
func TestStreamIsItsBytes(t *testing.T) {
	guard(t)
	r := begin(t, WithCapacity(64<<10), WithQueue(1<<20)) // frames of 8 KiB
	ringtest.Rapid(t, 50, func(rt *rapid.T) {
		s, rcv := pipe(t, r)
		must(t, s.Start())
		w, in := sender.NewWriter(background, s), NewReader(background, rcv)
		var want, got bytes.Buffer
		for _, size := range rapid.SliceOfN(rapid.IntRange(0, 20_000), 0, 20).Draw(rt, "writes") {
			b := make([]byte, size)
			for i := range b {
				b[i] = byte(want.Len() + i)
			}
			n, err := w.Write(b)
			must(t, err)
			require.Equal(t, size, n)
			want.Write(b)
		}
		must(t, s.Stop())
		for _, size := range rapid.SliceOfN(rapid.IntRange(-10_000, 10_000), 0, 20).Draw(rt, "reads") {
			if size >= 0 {
				b := make([]byte, size)
				n, err := in.Read(b)
				got.Write(b[:n])
				if err == io.EOF {
					break
				}
				must(t, err)
				continue
			}
			_, err := in.WriteTo(&shortWriter{to: &got, room: -size})
			if err != nil {
				require.ErrorIs(t, err, io.ErrShortWrite)
			}
		}
		n, err := io.Copy(&got, in)
		must(t, err)
		require.LessOrEqual(t, n, int64(want.Len()))
		require.Equal(t, want.Bytes(), got.Bytes())
		must(t, in.Close())
	})
}

// shortWriter takes room bytes, and then less than it is given.
type shortWriter struct {
	to   io.Writer
	room int
}

func (w *shortWriter) Write(b []byte) (int, error) {
	n := min(len(b), w.room)
	w.room -= n
	return w.to.Write(b[:n])
}

func TestReaderErrors(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	must(t, s.Start())
	must(t, s.Send(background, []byte("held")))
	in := NewReader(t.Context(), rcv)
	n, err := in.Read(nil)
	require.Zero(t, n)
	must(t, err)
	_, err = in.WriteTo(writerFunc(func(b []byte) (int, error) { return 2, errors.New("torn") }))
	require.EqualError(t, err, "torn")
	_, err = in.WriteTo(writerFunc(func(b []byte) (int, error) { return len(b) + 1, nil }))
	require.ErrorContains(t, err, "a writer of 2 bytes says it wrote 3")
	rest := make([]byte, 10)
	n, err = in.Read(rest)
	must(t, err)
	require.Equal(t, "ld", string(rest[:n]))

	other, rcv := pipe(t, r)
	must(t, other.Start())
	must(t, other.Send(background, []byte("held")))
	closed := NewReader(background, rcv)
	_, err = io.ReadFull(closed, rest[:1])
	must(t, err)
	must(t, closed.Close())
	n, err = closed.Read(rest)
	require.Zero(t, n)
	wantIs(t, "Read after Close", err, os.ErrClosed)
	wantIs(t, "second Close", closed.Close(), os.ErrClosed)
	must(t, other.Stop())

	must(t, r.Stop())
	_, err = in.Read(rest)
	wantIs(t, "Read after Stop", err, ErrStopped)
	_, err = in.WriteTo(io.Discard)
	wantIs(t, "WriteTo after Stop", err, ErrStopped)
	s.Stop()
	require.True(t, strings.HasPrefix(err.Error(), "router: "))
}

type writerFunc func(b []byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
