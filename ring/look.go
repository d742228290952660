package ring

import (
	"errors"
	"fmt"
)

// Looking at a ring from outside: for tools that read a segment, live or dead,
// which is other processes' affair. Besides the methods here, those of Ring that
// only read are Stats, SlotInfo, Head, Frontier and Check; all of them work on a
// Ring that was opened on a shm.View, and none stores, locks or wakes.

var (
	// ErrUnclaimed says that nobody has claimed the position yet.
	ErrUnclaimed = errors.New("ring: position is not claimed yet")
	// ErrReleased says that the position lies behind head: whatever was there
	// may have been written over.
	ErrReleased = errors.New("ring: position was released")
)

// HasMagic reports whether the first bytes of a file, eight or more, are those of
// a segment of any version. Whether it is well-formed, Open tells.
func HasMagic(b []byte) bool { return len(b) >= len(magic) && [8]byte(b[:8]) == magic }

// SlotHeld asks the kernel whether a process holds a producer's slot, 0 to
// MaxSlots-1, without taking a lock. Errors: ErrNoSlot, and those of
// shm.Segment.LockHeld.
func (r *Ring) SlotHeld(slot int) (bool, error) {
	if slot < 0 || slot >= MaxSlots {
		return false, fmt.Errorf("%w: %d", ErrNoSlot, slot)
	}
	return r.lockHeld(int64(slot))
}

// ConsumerHeld asks the kernel whether a process holds the consumer's seat.
// Errors: os.ErrClosed, and the kernel's.
func (r *Ring) ConsumerHeld() (bool, error) { return r.lockHeld(lockConsumer) }

func (r *Ring) lockHeld(b int64) (held bool, err error) {
	err = r.access(func() (err error) {
		held, err = r.seg.LockHeld(b)
		return err
	})
	return held, err
}

// RecordState says how far a record has come.
type RecordState uint8

const (
	RecordBusy      = RecordState(busy)   // claimed, and not yet complete
	RecordCommitted = RecordState(commit) // to be delivered
	RecordSkipped   = RecordState(skip)   // to be stepped over
)

// String returns the state in capitals, as the protocol's description has it.
func (s RecordState) String() string { return state(s).String() }

// Record is a header word, decoded.
type Record struct {
	Position uint64      // in granules
	Word     uint64      // as it was read
	State    RecordState // of the word
	Slot     int         // of the producer that claimed it; -1 for a pad
	Granules uint64      // length
	Lap      uint64      // of its position
}

// RecordMessage is one message of a record.
type RecordMessage struct {
	Meta uint64 // as it was sent
	Data []byte // a copy
}

// RecordAt reads the record that starts at pos, in granules. Records follow each
// other from Head on, each where the last one ends. Errors: ErrUnclaimed at the
// frontier, ErrReleased behind head, *CorruptError, shm.ErrFault, os.ErrClosed.
func (r *Ring) RecordAt(pos uint64) (rec Record, err error) {
	err = r.access(func() error {
		w := r.load(pos)
		if int64(pos-r.head.Load()) < 0 {
			return ErrReleased
		}
		if w.age(r.tag(pos)) < 0 {
			return ErrUnclaimed
		}
		if what := r.wrong(pos, w); what != "" {
			return corrupt(pos, w, what)
		}
		rec = Record{Position: pos, Word: uint64(w), State: RecordState(w.state()), Slot: w.owner(), Granules: w.granules(), Lap: pos >> r.lap}
		if rec.Slot == ownerNone {
			rec.Slot = -1
		}
		return nil
	})
	return rec, err
}

// MessagesOf copies the messages of a committed record that RecordAt returned; of
// any other it returns none. Errors are those of RecordAt; ErrReleased if the
// consumer released the record meanwhile, so that what was copied may be torn.
func (r *Ring) MessagesOf(rec Record) (msgs []RecordMessage, err error) {
	if rec.State != RecordCommitted || !r.valid(rec.Position, rec.Granules) {
		return nil, nil
	}
	err = r.access(func() error {
		pos, end := rec.Position, rec.Position+rec.Granules
		for at := pos; at < end; {
			length, meta := splitInfo(r.entry(at).info.Load())
			if length == void && at > pos {
				break
			}
			if length > maxFrame || at+granulesFor(length) > end {
				err = corrupt(pos, header(rec.Word), "message does not fit its record")
				break
			}
			msgs = append(msgs, RecordMessage{Meta: meta, Data: append([]byte{}, r.bytes(at, length)...)})
			at += granulesFor(length)
		}
		// Space is used again only behind head.
		if int64(pos-r.head.Load()) < 0 {
			msgs, err = nil, ErrReleased
		}
		return err
	})
	return msgs, err
}

// NextRecord finds where to go on behind damage at pos, the way that
// Consumer.Resync does: at the next word that can be a record's start; where
// there is none, at the hint, or one lap on. Errors: shm.ErrFault, os.ErrClosed.
func (r *Ring) NextRecord(pos uint64) (next uint64, err error) {
	err = r.access(func() error {
		next = r.nextRecord(pos)
		return nil
	})
	return next, err
}
