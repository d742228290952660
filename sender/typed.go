package sender

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/shmrouter/shmrouter/sender/codec"
)

// Typed sends values of type T through a Sender, each as one message, for a router.Typed with the same codec
// at the other end. Its methods may be called concurrently. It holds nothing that has to be closed: the Sender
// is started and stopped as ever, and may be used beside it.
type Typed[T any] struct {
	s      *Sender
	codec  codec.Codec[T]
	layout *codec.Layout[T] // what codec is, or nil
	sizer  codec.Sizer[T]   // what codec is, too, or nil

	long    atomic.Bool // the last value was of inPlaceMin bytes at least
	buffers sync.Pool   // of *[]byte
}

// inPlaceMin is the length from which values are encoded in claimed space. A claim is dearer than a copy up to some
// 8 KiB; but it also holds up everybody behind it for as long as the codec takes, which is many times as long as a
// copy: it has to save a third of a send or so to be worth that. See BenchmarkTypedWays.
const inPlaceMin = 64 << 10

// bufferKept is the capacity up to which a buffer is kept whatever was in it last.
const bufferKept = inPlaceMin

// NewTyped returns a Typed that sends through s. It may be made before s is started.
func NewTyped[T any](s *Sender, c codec.Codec[T]) *Typed[T] {
	t := &Typed[T]{s: s, codec: c}
	t.layout, _ = c.(*codec.Layout[T])
	t.sizer, _ = c.(codec.Sizer[T])
	t.buffers.New = func() any { return new([]byte) }
	return t
}

// Sender returns the Sender that it sends through.
func (t *Typed[T]) Sender() *Sender { return t.s }

// Send sends *v, and waits for room until ctx ends, like Sender.Send. v stays the caller's, who must not change
// it before Send returns.
//
// The codec runs on this goroutine. An error of its Append is returned wrapped, and nothing is sent; nor if it
// panics. The other errors are those of Sender.Send.
//
// Append runs before anything is claimed, so it may take its time. Only values of 64 KiB and more whose codec is
// a codec.Sizer are encoded in the ring itself: what anybody sends behind such a one is delivered after Append
// has returned, which therefore must not wait for anything.
func (t *Typed[T]) Send(ctx context.Context, v *T) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return t.send(v,
		func(n int) (Claim, error) { return t.s.Claim(ctx, n) },
		func(b []byte) error { return t.s.Send(ctx, b) })
}

// TrySend sends *v if there is room now, else it returns ErrFull, like Sender.TrySend: it takes one frame at
// most, and never sleeps unless the codec does. Otherwise it is as Send.
func (t *Typed[T]) TrySend(v *T) error {
	return t.send(v, t.s.TryClaim, t.s.TrySend)
}

func (t *Typed[T]) send(v *T, claim func(int) (Claim, error), send func([]byte) error) error {
	if t.layout != nil {
		return send(t.layout.Bytes(v))
	}
	if t.sizer != nil && t.long.Load() {
		if n := t.sizer.Size(v); n >= inPlaceMin {
			c, err := claim(n)
			if err == nil {
				return t.sendIn(c, v, send)
			}
			if err != ErrTooLarge { // than a frame
				return err
			}
		}
	}
	buf := t.buffers.Get().(*[]byte)
	b, err := t.append((*buf)[:0], v)
	if err != nil {
		t.buffers.Put(buf)
		return err
	}
	err = send(b)
	// One value that was far longer than others must not keep its memory.
	if cap(b) <= max(bufferKept, 4*len(b)) {
		*buf = b
		t.buffers.Put(buf)
	}
	return err
}

// sendIn encodes v in the claim's space.
func (t *Typed[T]) sendIn(c Claim, v *T, send func([]byte) error) error {
	open := true
	defer func() {
		if open {
			c.Abort()
		}
	}()
	space := c.Bytes()
	var b []byte
	err := t.s.link.seg.Guarded(func() (err error) {
		b, err = t.append(space[:0:len(space)], v)
		return err
	})
	if err != nil {
		return err
	}
	if len(b) == 0 || &b[0] == &space[0] {
		open = false
		return c.CommitN(len(b))
	}
	// It outgrew the size that was said; what Append returned may still be a part of the space. The claim's
	// number is lost.
	b = slices.Clone(b)
	open = false
	c.Abort()
	return send(b)
}

// append encodes v, and remembers whether that was long.
func (t *Typed[T]) append(b []byte, v *T) ([]byte, error) {
	b, err := t.codec.Append(b, v)
	if err != nil {
		return nil, fmt.Errorf("sender: encoding a %v: %w", reflect.TypeFor[T](), err)
	}
	if long := len(b) >= inPlaceMin; long != t.long.Load() {
		t.long.Store(long)
	}
	return b, nil
}
