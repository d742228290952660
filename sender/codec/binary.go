package codec

import "encoding"

// Binary is the Codec of types that encode themselves: with the methods AppendBinary and UnmarshalBinary. P is
// *T, and the compiler finds it: codec.Binary[netip.Addr]().
//
// What UnmarshalBinary makes of hostile bytes is up to the type.
func Binary[T any, P interface {
	*T
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}]() Codec[T] {
	return binary[T, P]{}
}

type binary[T any, P interface {
	*T
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}] struct{}

func (binary[T, P]) Append(b []byte, v *T) ([]byte, error) { return P(v).AppendBinary(b) }

func (binary[T, P]) Decode(b []byte, v *T) error { return P(v).UnmarshalBinary(b) }
