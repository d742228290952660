package codec

// Codec encodes values of type T as payloads, and decodes them. Its methods are called concurrently.
type Codec[T any] interface {
	// Append appends the encoding of v to b and returns the extended slice, as append does. It must neither
	// change nor keep v, nor keep b, which may be memory that other processes can write to: what Append has
	// written there it should not believe when it reads it again. If there is an error the value is not sent.
	Append(b []byte, v *T) ([]byte, error)

	// Decode sets *v, which is the zero value before, to the value that b encodes; all of b, not a part. Any
	// bytes at all may arrive, and what is no encoding of a T is an error. b is v's for good: v may refer to
	// it.
	Decode(b []byte, v *T) error
}

// Sizer is what a Codec may be besides. Where it says how long large values are, of 64 KiB or more, they are
// encoded in the ring itself instead of being copied there. A codec that is slow better is none: while it encodes
// in the ring, nothing behind it is delivered.
type Sizer[T any] interface {
	// Size returns how many bytes Append will append for v, or more. More costs as much room in the ring; if
	// Append outgrows it, the value is sent all the same, but copied, and one of the pipe's numbers
	// (Message.Seq) is skipped. It is called before Append, for the same v, and not at all for values that are
	// likely to be short.
	Size(v *T) int
}

// WithSize returns a Codec that does what c does, and is a Sizer by the given function, for types with a cheap
// way to know.
func WithSize[T any](c Codec[T], size func(v *T) int) Codec[T] { return sized[T]{c, size} }

type sized[T any] struct {
	Codec[T]
	size func(v *T) int
}

func (c sized[T]) Size(v *T) int { return c.size(v) }
