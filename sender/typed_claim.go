package sender

import (
	"context"
	"errors"
	"fmt"
	"reflect"
)

// TypedClaim is a T in the ring that its holder fills in place. What is said of Claim is true of it, too: it is
// a value, Commit or Abort ends it, `defer c.Abort()` is the idiom, and nothing behind it is delivered while it
// is open.
type TypedClaim[T any] struct {
	claim Claim
	v     *T
}

// Claim claims space for a T, waiting for room until ctx ends, for the caller to fill in there. It is for codecs
// from codec.Struct only; with another the error matches errors.ErrUnsupported. The other errors are those of
// Sender.Claim; ErrTooLarge says that a T is longer than a frame.
//
// It saves a copy, and costs, beside that, as much as a few short sends: it pays off for values of many KiB that
// are made piece by piece. For short ones Send is faster.
func (t *Typed[T]) Claim(ctx context.Context) (TypedClaim[T], error) {
	return t.claim(func(n int) (Claim, error) { return t.s.Claim(ctx, n) })
}

// TryClaim is Claim that returns ErrFull if there is no room now.
func (t *Typed[T]) TryClaim() (TypedClaim[T], error) { return t.claim(t.s.TryClaim) }

func (t *Typed[T]) claim(claim func(int) (Claim, error)) (TypedClaim[T], error) {
	if t.layout == nil {
		return TypedClaim[T]{}, fmt.Errorf("sender: claim of a %v whose codec is not codec.Struct: %w",
			reflect.TypeFor[T](), errors.ErrUnsupported)
	}
	c, err := claim(t.layout.Size(nil))
	if err != nil {
		return TypedClaim[T]{}, err
	}
	space := c.Bytes()
	err = t.s.link.seg.Guarded(func() error {
		clear(space) // of what an earlier message left there
		return nil
	})
	var v *T
	if err == nil {
		v, err = t.layout.View(space)
	}
	if err == nil && len(space) > 0 && &t.layout.Bytes(v)[0] != &space[0] {
		err = fmt.Errorf("sender: a %v is not aligned in the ring", reflect.TypeFor[T]())
	}
	if err != nil {
		c.Abort()
		return TypedClaim[T]{}, err
	}
	return TypedClaim[T]{c, v}, nil
}

// Value returns the claimed T, all of it zero at first; nil once the claim has ended. It is the holder's until
// Commit or Abort; writing to it later damages another message.
func (c TypedClaim[T]) Value() *T {
	if c.claim.Bytes() == nil {
		return nil
	}
	return c.v
}

// Commit sends the value. The errors are those of Claim.Commit.
func (c TypedClaim[T]) Commit() error { return c.claim.Commit() }

// Abort gives the space back, and sends nothing. On a claim that has ended it does nothing.
func (c TypedClaim[T]) Abort() { c.claim.Abort() }
