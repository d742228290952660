package stress

import (
	"errors"
	"fmt"
	"os"

	"github.com/edsrzf/mmap-go"
	"golang.org/x/sys/unix"
)

// segment is a router's memory as somebody sees it who knows docs/protocol.md and none
// of the code: read only, and with a file description of its own to ask the kernel about
// locks.
type segment struct {
	file  *os.File
	mem   mmap.MMap
	size  uint64 // of the ring, in granules
	table uint64
}

// Of docs/protocol.md.
const (
	atCapacity = 24
	atTable    = 32
	atHint     = 4096
	atHead     = 8192
	atSleep    = 8320
	atRoster   = 12288
	rosterSize = 128
	slots      = 255

	rosterInstance = 0
	rosterPID      = 4

	granule  = 64
	entry    = 16
	tagMask  = 1<<35 - 1
	modeIdle = 1
)

const (
	stateBusy   = 1
	stateCommit = 2
	stateSkip   = 3
)

// openSegment maps f, which stays the caller's.
func openSegment(f *os.File) (*segment, error) {
	own, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return nil, err
	}
	mem, err := mmap.Map(own, mmap.RDONLY, 0)
	if err != nil {
		own.Close()
		return nil, err
	}
	s := &segment{file: own, mem: mem, size: load64(mem, atCapacity) / granule, table: load64(mem, atTable)}
	if s.size == 0 || s.table+s.size*entry > uint64(len(mem)) {
		s.close()
		return nil, errors.New("not a segment")
	}
	return s, nil
}

func (s *segment) close() {
	s.mem.Unmap()
	s.file.Close()
}

func (s *segment) head() uint64           { return load64(s.mem, atHead) }
func (s *segment) word(pos uint64) uint64 { return load64(s.mem, s.table+pos%s.size*entry) }

// fill is how many bytes are claimed and not given back, as the ring's own Stats reckons it.
func (s *segment) fill() int64 {
	used := int64(load64(s.mem, atHint) - s.head())
	return min(max(used, 0), int64(s.size)) * granule
}

// current reports whether w, read at pos, is of a record there, in this lap.
func (s *segment) current(w, pos uint64) bool { return w>>2&tagMask == (pos/s.size+1)&tagMask }

func stateOf(w uint64) uint64    { return w & 3 }
func ownerOf(w uint64) int       { return int(w >> 37 & 0xff) }
func granulesOf(w uint64) uint64 { return w >> 45 }

// held asks the kernel whether anybody has the slot.
func (s *segment) held(slot int) (bool, error) {
	lk := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(slot), Len: 1}
	err := unix.FcntlFlock(s.file.Fd(), unix.F_OFD_GETLK, &lk)
	return lk.Type != unix.F_UNLCK, err
}

// heldBy asks whether the holder that has this instance number has the slot still; the next one raises it.
func (s *segment) heldBy(slot int, instance uint32) (bool, error) {
	if s.instance(slot) != instance {
		return false, nil
	}
	return s.held(slot)
}

func (s *segment) instance(slot int) uint32 {
	return load32(s.mem, atRoster+uint64(slot)*rosterSize+rosterInstance)
}

// slotOf returns the slot that a living process has, -1 if none.
func (s *segment) slotOf(pid int) int {
	for slot := range slots {
		if load32(s.mem, atRoster+uint64(slot)*rosterSize+rosterPID) != uint32(pid) {
			continue
		}
		if held, err := s.held(slot); held && err == nil {
			return slot
		}
	}
	return -1
}

// claimOf looks for an open claim of a slot. It may overlook one where the ring runs on
// meanwhile.
func (s *segment) claimOf(slot int) (pos, w uint64, ok bool) {
	const most = 4096 // records
	pos = s.head()
	for range most {
		switch w = s.word(pos); {
		case !s.current(w, pos) || granulesOf(w) == 0:
			return 0, 0, false
		case stateOf(w) == stateBusy && ownerOf(w) == slot:
			return pos, w, true
		}
		pos += granulesOf(w)
	}
	return 0, 0, false
}

// unlooked reports whether the consumer has no reason to look at the claim at pos: it has not
// come there; or it sleeps there since before the claim, and nobody has put anything
// behind it.
func (s *segment) unlooked(pos, w uint64) bool {
	if int64(s.head()-pos) < 0 {
		return true
	}
	next := pos + granulesOf(w)
	return load64(s.mem, atSleep)&3 == modeIdle && !s.current(s.word(next), next)
}
