package router

// Message is one message, as its sender gave it to Send.
type Message struct {
	// Data is the receiver's for good: nothing else refers to these bytes. It is
	// empty, not nil, for an empty message. Up to 2 KiB it is a part of a slab of
	// at most 64 KiB that it shares with messages that came about the same time,
	// so keeping a few small messages for long may keep 64 KiB each; clone those.
	// Appending to Data never overwrites a neighbour. It starts at an address that
	// is a multiple of 8, so that any value without pointers may lie in it.
	Data []byte
	// Seq numbers the messages of one pipe from 1. A gap says that the sender
	// gave up a message of its own (an aborted claim, a large message cancelled
	// half-way), or that damage was stepped over.
	Seq uint64
	// Redelivered says that an earlier life of the router may have delivered this
	// message already. It is false without WithResume.
	Redelivered bool
}

const (
	slabShare = 2 << 10  // up to this a message shares a slab
	slabMax   = 64 << 10 // a slab's size once messages are frequent
	slabMin   = 4 << 10  // and after a silence
	slabAlign = 8        // where messages start in one; the allocator aligns it as well
)

// slab cuts small messages' memory from larger pieces, so that a message costs
// a small part of an allocation. One goroutine uses it.
type slab struct {
	free []byte
	size int
}

// clone returns a copy of b that is the caller's for good.
func (s *slab) clone(b []byte) []byte {
	if len(b) > slabShare {
		own := make([]byte, len(b))
		copy(own, b)
		return own
	}
	if len(b) == 0 {
		return []byte{}
	}
	if len(s.free) < len(b) {
		s.size = min(max(2*s.size, slabMin), slabMax)
		s.free = make([]byte, s.size)
	}
	own := s.free[:len(b):len(b)] // clipped: an append must not reach the neighbour
	s.free = s.free[min(len(s.free), (len(b)+slabAlign-1)&^(slabAlign-1)):]
	copy(own, b)
	return own
}

// rest is told that messages have become rare: the next slab is small again, and
// the one begun is left to those that have a part of it.
func (s *slab) rest() { s.free, s.size = nil, 0 }
