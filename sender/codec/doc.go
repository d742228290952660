// Package codec turns values into messages and back, for sender.Typed and router.Typed: the two ends of a pipe
// use the same one.
//
//   - [Struct]: fixed-layout structs, whose memory is the message. Nothing is encoded, and the receiver's value
//     is the message's own memory. For what is sent often.
//   - [Binary]: types that encode themselves (encoding.BinaryAppender and BinaryUnmarshaler), as time.Time,
//     netip.Addr and url.URL do.
//   - [JSON]: everything that encoding/json takes. For what is sent now and then, and for maps, strings and
//     optional parts.
//   - Protocol buffers: sender/codec/protobuf, a module of its own.
//
// # Structs
//
// Both programs must have the same struct: the payload's length is checked, and bools are; nothing else can
// be. Sender and receiver are on one machine, so byte order is no matter. What has no fixed size, or means
// something in one process only, cannot be sent so, and Struct says which field that is, and what to do:
//
//	type Progress struct {
//		_     structs.HostLayout // fields lie in memory in this order
//		Job   int64
//		Done  float64
//		Stage [16]byte // not string
//	}
//
//	var progress = codec.MustStruct[Progress]()
//
// To be able to change a struct while old workers run, begin with a version, and only use up reserved bytes at
// its end.
package codec
