package ring

import (
	"math/bits"
	"sync/atomic"
	"unsafe"

	"github.com/shmrouter/shmrouter/shm"
)

// view is the segment as words and bytes. It is made once, by Format or Open,
// after the geometry has been checked; every later access goes through it, so
// that no index taken from shared memory can leave the mapping: positions are
// masked, and lengths are checked by the caller before bytes is called.
type view struct {
	table unsafe.Pointer // of H entries
	data  unsafe.Pointer // of H granules
	mask  uint64         // H-1
	size  uint64         // H, in granules
	lap   uint           // log2 H: position>>lap is the lap
	limit uint64         // largest record, in granules

	hint        *atomic.Uint64
	turn        *atomic.Uint64
	head        *atomic.Uint64
	sleep       *atomic.Uint64
	fence       *atomic.Uint32
	roomWaiters *atomic.Uint32
	roomEpisode *atomic.Uint32

	seg   *shm.Segment
	named bool           // somebody may truncate the file: guard accesses
	token unsafe.Pointer // heap address the race detector can follow
}

// entry is one row of the header table.
type entry struct {
	word atomic.Uint64
	info atomic.Uint64 // plain store before the word's commit, see storeRelaxed
}

func newView(seg *shm.Segment, capacity, dataOff int64) view {
	h := uint64(capacity) / Granule
	v := view{
		table: unsafe.Add(seg.Base(), tableAt),
		data:  unsafe.Add(seg.Base(), dataOff),
		mask:  h - 1,
		size:  h,
		lap:   uint(bits.TrailingZeros64(h)),
		limit: min(h/8, maxGranules),

		hint:        seg.Word64(offHint),
		turn:        seg.Word64(offTurn),
		head:        seg.Word64(offHead),
		sleep:       seg.Word64(offSleep),
		fence:       seg.Word32(offFence),
		roomWaiters: seg.Word32(offRoomWaiters),
		roomEpisode: seg.Word32(offRoomEpisode),

		seg:   seg,
		named: seg.Kind() == shm.Named,
		token: seg.RaceToken(),
	}
	return v
}

// entry returns the table row of a position.
func (v *view) entry(pos uint64) *entry {
	return (*entry)(unsafe.Add(v.table, (pos&v.mask)*entrySize))
}

// load reads a header word once; what follows works on the copy.
func (v *view) load(pos uint64) header { return header(v.entry(pos).word.Load()) }

func (v *view) cas(pos uint64, old, new header) bool {
	return v.entry(pos).word.CompareAndSwap(uint64(old), uint64(new))
}

// doorbellWord is the half of a header word that holds state and tag, the one
// on which the consumer sleeps.
func (v *view) doorbellWord(pos uint64) *atomic.Uint32 {
	return shm.Word32Low(&v.entry(pos).word)
}

// bytes is the payload space of n bytes from the granule at pos on, its
// capacity clipped. The caller has checked that it ends before the lap does.
func (v *view) bytes(pos uint64, n int) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(v.data, (pos&v.mask)*Granule)), n)
}

// tag is the tag that a record starting at pos carries. Masking the shift tells
// the compiler that it is in range.
func (v *view) tag(pos uint64) uint64 { return (pos>>(v.lap&63) + 1) & tagMask }

// rest is the number of granules from pos to the end of its lap.
func (v *view) rest(pos uint64) uint64 { return v.size - pos&v.mask }

// valid reports whether a record of g granules can start at pos.
func (v *view) valid(pos, g uint64) bool { return g != 0 && g <= v.rest(pos) }
