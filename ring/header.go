package ring

// The header word of a record: the only word of the table that is ever CASed,
// and the claim itself. From the low bit up:
//
//	bits  0–1   state: free, busy, commit or skip
//	bits  2–36  tag: lap + 1, modulo 2³⁵; 0 in a word that was never written
//	bits 37–44  owner: the slot of the producer that claimed, 255 for a pad
//	bits 45–63  granules: the record's length in granules, 1 or more
//
// State and the low 30 bits of the tag are the half that FUTEX_WAIT compares.
type header uint64

type state uint8

const (
	free   state = iota // never claimed, or an inner granule
	busy                // claimed: the owner is filling it
	commit              // filled: the consumer delivers it
	skip                // aborted, padding, or its owner died: stepped over
)

const (
	tagShift     = 2
	tagBits      = 35
	ownerShift   = tagShift + tagBits
	ownerBits    = 8
	granuleShift = ownerShift + ownerBits

	tagMask     = 1<<tagBits - 1
	ownerMask   = 1<<ownerBits - 1
	maxGranules = maxFrame / Granule
)

func makeHeader(s state, tag uint64, owner int, granules uint64) header {
	return header(uint64(s) | tag<<tagShift | uint64(owner)<<ownerShift | granules<<granuleShift)
}

// sized completes a blank word, which has no tag and no granules yet.
func (h header) sized(tag, granules uint64) header {
	return h | header(tag<<tagShift|granules<<granuleShift)
}

func (h header) state() state        { return state(h & 3) }
func (h header) tag() uint64         { return uint64(h) >> tagShift & tagMask }
func (h header) owner() int          { return int(uint64(h) >> ownerShift & ownerMask) }
func (h header) granules() uint64    { return uint64(h) >> granuleShift }
func (h header) with(s state) header { return h&^3 | header(s) }
func (h header) low() uint32         { return uint32(h) }
func (h header) is(s state) bool     { return state(h&3) == s }

// age compares the word's tag with the tag of the lap that is looked for: 0
// is this lap's, below 0 an older one, above 0 a newer one. The difference is
// taken modulo 2³⁵, so a word must not stay untouched for 2³⁴ laps; the
// consumer sees to that (scrub in poll.go).
func (h header) age(tag uint64) int64 {
	return int64((h.tag()-tag)<<(64-tagBits)) >> (64 - tagBits)
}

func (s state) String() string {
	return [...]string{"FREE", "BUSY", "COMMIT", "SKIP"}[s&3]
}

// The info word beside a header: length of one message in bytes in the low 25
// bits, the user's meta in the upper 39. It is valid once the record is
// committed. A record holds one message, or several (a batch), each starting
// on a granule: the info of a message stands in the entry of its first
// granule. The length void says that the rest of the record holds nothing.
const (
	lengthBits = 64 - MetaBits
	void       = 1<<lengthBits - 1
)

func makeInfo(length int, meta uint64) uint64 { return uint64(length) | meta<<lengthBits }

func splitInfo(info uint64) (length int, meta uint64) {
	return int(info & void), info >> lengthBits
}

// granulesFor is the space of a message of n bytes: at least one granule, so
// that an empty message has a place of its own.
func granulesFor(n int) uint64 {
	if n == 0 {
		return 1
	}
	return (uint64(n) + Granule - 1) / Granule
}
