package wire

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// One pipe's way through its entry:
//
//	           Publish (router)       Attach (sender)           End (sender)
//	PipeFree ──────────────────▶ PipeOpen ───────────▶ PipeAttached ───────────▶ PipeEnded
//	   ▲                            │                       │                        │
//	   └────────────────────────────┴───────────────────────┴──────── Free (router) ─┘
//
// and, where the process that was given the sender is known to be gone, from PipeOpen to PipeEnded by Abandon
// (router), in nobody's name.
//
// Every arrow is one CAS of the word, so of two senders one attaches, and of a sender that attaches and a
// router that closes, one comes first. The word names its owner from the instant of that CAS on: slot and the
// low bits of the slot's instance number. The whole instance number follows in a word of its own, and is 0
// until then.

// The word has 64 bits, from the highest:
//
//	id       40 bits  the pipe's connection id
//	slot      8 bits  the sender's seat in the roster; 0 before there is one
//	instance 13 bits  low bits of that slot's instance number
//	state     3 bits
const (
	stateBits    = 3
	instanceBits = 13
	slotBits     = 8
	idBits       = 40

	instanceShift = stateBits
	slotShift     = instanceShift + instanceBits
	idShift       = slotShift + slotBits

	// NoSlot is the slot of a pipe that ended without a sender.
	NoSlot = 1<<slotBits - 1

	// MaxID is the largest connection id.
	MaxID = 1<<idBits - 1
)

// PipeState is how far a pipe has come.
type PipeState uint8

const (
	PipeFree     PipeState = 0 // no pipe
	PipeOpen     PipeState = 1 // no sender yet
	PipeAttached PipeState = 2
	PipeEnded    PipeState = 3 // the sender stopped
)

// String returns the state in lower case.
func (s PipeState) String() string {
	switch s {
	case PipeFree:
		return "free"
	case PipeOpen:
		return "open"
	case PipeAttached:
		return "attached"
	case PipeEnded:
		return "ended"
	}
	return fmt.Sprintf("PipeState(%d)", uint8(s))
}

// Flags are what the router tells a pipe's sender.
type Flags uint32

const (
	Cancelled Flags = 1 // the receiver wants no more
	Closed    Flags = 2 // the receiver is gone; what is sent is discarded
)

var (
	// ErrTaken says that the pipe has, or had, a sender already.
	ErrTaken = errors.New("wire: pipe has a sender already")

	// ErrGone says that the entry does not hold that pipe any more.
	ErrGone = errors.New("wire: pipe is closed")
)

// Word is an entry's word as it was read.
type Word uint64

func makeWord(id uint64, slot int, instance uint32, s PipeState) Word {
	return Word(id<<idShift | uint64(uint8(slot))<<slotShift | uint64(instance)&(1<<instanceBits-1)<<instanceShift | uint64(s))
}

// ID returns the connection id.
func (w Word) ID() uint64 { return uint64(w >> idShift) }

// Slot returns the sender's slot. It means something if State is PipeAttached or PipeEnded, where it may be
// NoSlot.
func (w Word) Slot() int { return int(uint8(w >> slotShift)) }

// State returns the pipe's state; a value without a name means that somebody else wrote the word.
func (w Word) State() PipeState { return PipeState(w & (1<<stateBits - 1)) }

func (w Word) withState(s PipeState) Word { return w&^(1<<stateBits-1) | Word(s) }

// Entry is a copy of one entry.
type Entry struct {
	Word
	Instance uint32 // 0 while its sender has attached but not stored it yet
	Flags    Flags
	Released uint64
}

// HeldBy reports whether the sender attached here is, or was, the process that held that slot as that
// instance. Until the whole number is stored the low bits decide, which a later holder of the slot shares
// only after a multiple of 8192 others.
func (e Entry) HeldBy(slot int, instance uint32) bool {
	if s := e.State(); s != PipeAttached && s != PipeEnded {
		return false
	}
	return e.Word == makeWord(e.ID(), slot, instance, e.State()) && (e.Instance == 0 || e.Instance == instance)
}

// at returns an offset within the segment. The mask keeps any index inside the table.
func (d *Directory) at(index uint32, field int64) int64 {
	return d.off + offTable + int64(index&uint32(d.entries-1))*entrySize + field
}

func (d *Directory) word(index uint32) *atomic.Uint64 { return d.seg.Word64(d.at(index, entryWord)) }
func (d *Directory) instance(index uint32) *atomic.Uint32 {
	return d.seg.Word32(d.at(index, entryInstance))
}
func (d *Directory) flags(index uint32) *atomic.Uint32 { return d.seg.Word32(d.at(index, entryFlags)) }
func (d *Directory) released(index uint32) *atomic.Uint64 {
	return d.seg.Word64(d.at(index, entryReleased))
}

// Word returns the word of an entry below Len: one load, enough to see whether anything changed.
func (d *Directory) Word(index uint32) Word { return Word(d.word(index).Load()) }

// Load returns a copy of an entry below Len. Its fields belong to one pipe: the word is the same before and
// after the others were read. Should it change more often than anybody has reason to change it, the copy is
// what was read last.
func (d *Directory) Load(index uint32) (e Entry) {
	for range 100 {
		e.Word = d.Word(index)
		e.Instance = d.instance(index).Load()
		e.Flags = Flags(d.flags(index).Load())
		e.Released = d.released(index).Load()
		if d.Word(index) == e.Word {
			break
		}
	}
	return e
}

// Publish is the router's: it makes a free entry the pipe id, open for a sender. It returns false if the
// entry is not free, and must not be called by two goroutines for one entry.
func (d *Directory) Publish(index uint32, id uint64) bool {
	old := d.Word(index)
	if old.State() != PipeFree {
		return false
	}
	// While it is free, nobody else writes these, and who still watches the last pipe sees by the word that
	// it is gone.
	d.instance(index).Store(0)
	d.flags(index).Store(0)
	d.released(index).Store(0)
	return d.cas(index, old, makeWord(id, 0, 0, PipeOpen))
}

// Attach is the sender's: it takes the pipe for the process that holds slot as that instance. The error is
// nil, ErrTaken, or ErrGone.
func (d *Directory) Attach(index uint32, id uint64, slot int, instance uint32) error {
	open := makeWord(id, 0, 0, PipeOpen)
	if !d.cas(index, open, makeWord(id, slot, instance, PipeAttached)) {
		if now := d.Word(index); now.ID() == id && now.Slot() != NoSlot && (now.State() == PipeAttached || now.State() == PipeEnded) {
			return ErrTaken
		}
		return ErrGone
	}
	d.instance(index).Store(instance)
	return nil
}

// End is the sender's: it marks the pipe that it attached as ended. It returns false if the router has freed
// the entry meanwhile.
func (d *Directory) End(index uint32, id uint64, slot int, instance uint32) bool {
	w := makeWord(id, slot, instance, PipeAttached)
	return d.cas(index, w, w.withState(PipeEnded))
}

// Abandon is the router's: it ends a pipe that nobody has attached and nobody will, if its word is still old. It
// stays one of the pipes that a router which resumes finds.
func (d *Directory) Abandon(index uint32, old Word) bool {
	return old.State() == PipeOpen && d.cas(index, old, makeWord(old.ID(), NoSlot, 0, PipeEnded))
}

// Free is the router's: it gives the entry up if its word is still old, which the router has seen to need no
// more attention. An index must not be published again while a sender of the old pipe may still send: its
// frames carry nothing but the index.
func (d *Directory) Free(index uint32, old Word) bool {
	return d.cas(index, old, old.withState(PipeFree))
}

// Flag is the router's: it sets flags of a pipe. Notify makes them known.
func (d *Directory) Flag(index uint32, f Flags) { d.flags(index).Or(uint32(f)) }

// SetReleased is the router's: how many messages of the pipe were released, or whatever it keeps there for
// one that resumes.
func (d *Directory) SetReleased(index uint32, n uint64) { d.released(index).Store(n) }

func (d *Directory) cas(index uint32, old, new Word) bool {
	return d.word(index).CompareAndSwap(uint64(old), uint64(new))
}
