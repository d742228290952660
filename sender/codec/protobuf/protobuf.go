// Package protobuf is the codec of protocol buffers, for sender.Typed and router.Typed. It is a module of its
// own, so that programs without protocol buffers do not depend on them.
package protobuf

import (
	"google.golang.org/protobuf/proto"

	"github.com/shmrouter/shmrouter/sender/codec"
)

// New returns the Codec of a generated message type. P is *T, and the compiler finds it:
//
//	c := protobuf.New[pb.Job]()
//
// It is also a codec.Sizer: long messages are encoded in the ring itself, which needs nothing but the message.
// Unknown fields are kept, missing ones are zero; a missing required field (proto2), a string that is not
// UTF-8, and malformed bytes are errors.
func New[T any, P interface {
	*T
	proto.Message
}]() codec.Codec[T] {
	return messages[T, P]{}
}

type messages[T any, P interface {
	*T
	proto.Message
}] struct{}

func (messages[T, P]) Size(v *T) int { return proto.Size(P(v)) }

func (messages[T, P]) Append(b []byte, v *T) ([]byte, error) {
	return proto.MarshalOptions{}.MarshalAppend(b, P(v))
}

func (messages[T, P]) Decode(b []byte, v *T) error { return proto.Unmarshal(b, P(v)) }
