package codec

import (
	"fmt"
	"unsafe"
)

// Layout is the Codec that Struct returns: the payload is the value's memory. Sending is one copy, into the
// ring; or none, where sender.Typed.Claim lets the value be filled in there. It is safe for concurrent use.
type Layout[T any] struct {
	size  int
	bools *bools // nil if there are none
}

func newLayout[T any](size int, bools *bools) *Layout[T] { return &Layout[T]{size, bools} }

// Size returns the size of a T in bytes, which is the length of every payload. v may be nil.
func (l *Layout[T]) Size(v *T) int { return l.size }

// Append appends the memory of v. The error is always nil.
func (l *Layout[T]) Append(b []byte, v *T) ([]byte, error) { return append(b, l.Bytes(v)...), nil }

// Decode copies b to *v. The error is an ErrPayload: b has another length than a T, or a byte that is no bool in the
// place of one.
func (l *Layout[T]) Decode(b []byte, v *T) error {
	if err := l.check(b); err != nil {
		return err
	}
	copy(l.Bytes(v), b)
	return nil
}

// Bytes returns the memory of v, for reading and writing. Writing anything else than 0 and 1 to a bool's byte
// makes v unusable.
func (l *Layout[T]) Bytes(v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), l.size)
}

// View returns b as a T: the same memory if b is aligned for one, as Message.Data always is, else a copy. The
// errors are those of Decode.
func (l *Layout[T]) View(b []byte) (*T, error) {
	if err := l.check(b); err != nil {
		return nil, err
	}
	p := unsafe.Pointer(unsafe.SliceData(b))
	if l.size > 0 && uintptr(p)%unsafe.Alignof(*new(T)) == 0 {
		return (*T)(p), nil
	}
	v := new(T)
	copy(l.Bytes(v), b)
	return v, nil
}

func (l *Layout[T]) check(b []byte) error {
	if len(b) != l.size {
		return payloadError(fmt.Sprintf("codec: %d bytes, and a %T has %d", len(b), *new(T), l.size))
	}
	if at := l.bools.wrong(b); at >= 0 {
		return payloadError(fmt.Sprintf("codec: byte %d of a %T is %d, where a bool is 0 or 1", at, *new(T), b[at]))
	}
	return nil
}
