package wire

import (
	"encoding/binary"
	"fmt"
)

// Kind says what a frame is.
type Kind uint8

const (
	Data  Kind = 1 // a whole message
	First Kind = 2 // begins a large message: its length in bytes as a little-endian uint64, then the first piece, which may be empty
	More  Kind = 3 // the next piece
	Last  Kind = 4 // the last piece; the message is numbered here
	End   Kind = 5 // the sender stopped, and nothing follows; see EndPayload
)

// String returns the kind in lower case.
func (k Kind) String() string {
	switch k {
	case Data:
		return "data"
	case First:
		return "first"
	case More:
		return "more"
	case Last:
		return "last"
	case End:
		return "end"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// A meta value has 39 bits, from the highest:
//
//	kind   3 bits
//	index 20 bits  the pipe's entry in the directory
//	seq   16 bits  the low bits of the message's number
const (
	seqBits    = 16
	indexBits  = 20
	kindBits   = 3
	indexShift = seqBits
	kindShift  = seqBits + indexBits
)

// Meta packs a frame's kind, its pipe's index, and the number of the message, of which the low 16 bits
// travel. First and More carry 0. End carries the number of the last message before it.
func Meta(kind Kind, index uint32, seq uint64) uint64 {
	return uint64(kind)<<kindShift | uint64(index)<<indexShift | seq&(1<<seqBits-1)
}

// UnpackMeta undoes Meta. ok is false for a kind that does not exist or bits that mean nothing: somebody else
// wrote it. The index is below MaxPipes.
func UnpackMeta(meta uint64) (kind Kind, index uint32, seq uint16, ok bool) {
	kind = Kind(meta >> kindShift & (1<<kindBits - 1))
	ok = meta>>(kindShift+kindBits) == 0 && Data <= kind && kind <= End
	return kind, uint32(meta >> indexShift & (MaxPipes - 1)), uint16(meta), ok
}

// ExtendSeq returns the number whose low 16 bits are seq, given the last number delivered from the same pipe.
// A sender numbers its messages 1, 2, 3, …, by the order of their claims, which is the order of delivery;
// last is 0 before the first. Aborted claims leave gaps: 65536 or more in a row make a gap look shorter than
// it was, and change nothing else.
func ExtendSeq(last uint64, seq uint16) uint64 {
	return last + uint64(seq-uint16(last))
}

// EndPayload is what an End frame says: the id of the pipe that ends, as a little-endian uint64. The index alone
// would do in a segment that nobody damages. In another, an End that an earlier pipe with that index left behind
// may be met late.
func EndPayload(id uint64) []byte { return binary.LittleEndian.AppendUint64(nil, id) }

// Ends reports whether an End frame with that payload is the end of the pipe with that id.
func Ends(payload []byte, id uint64) bool {
	return len(payload) == 8 && binary.LittleEndian.Uint64(payload) == id
}
