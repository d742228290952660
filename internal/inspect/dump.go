package inspect

import (
	"errors"
	"fmt"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
)

// Range is what to dump. From is a position in granules, nil for head; Count the largest number of records, 0
// for no limit.
type Range struct {
	From  *uint64
	Count int
}

// Piece is a record, or a stretch of damage or of what was released meanwhile.
type Piece struct {
	Position uint64    `json:"position"` // granules
	Granules uint64    `json:"granules"`
	Kind     string    `json:"kind"` // record, damage, or released: the consumer was faster
	Word     string    `json:"word"` // the header word, in hexadecimal
	State    string    `json:"state"`
	Slot     int       `json:"slot"` // -1: nobody's
	Lap      uint64    `json:"lap"`
	Messages []Message `json:"messages"`
	Text     string    `json:"text"` // what is wrong, or what is not shown
}

// Message is one message of a record. Frame is nil in a ring that is used without a router.
type Message struct {
	Meta  uint64 `json:"meta"`
	Frame *Frame `json:"frame"`
	Data  []byte `json:"-"`
}

// Frame is a meta value as router and senders use it.
type Frame struct {
	Kind  string `json:"kind"`
	Index uint32 `json:"index"` // of the pipe's entry
	Seq   uint16 `json:"seq"`   // low bits of the message's number
	Pipe  uint64 `json:"pipe"`  // the id that the entry holds now
}

// Dump gives each record of the range to f, in order, up to the frontier as it was found when Dump began, until
// f returns false. Payload is a copy. Behind damage it goes on where Consumer.Resync would. A consumer that
// releases meanwhile leaves gaps, which are pieces too. Errors: ring.ErrReleased and ring.ErrUnclaimed for a
// From outside of what is there; shm.ErrFault.
func (s *Segment) Dump(r Range, f func(Piece) bool) error {
	pos := s.Ring.Head()
	end, err := s.Ring.Frontier()
	if damage := (*ring.CorruptError)(nil); errors.As(err, &damage) {
		end = pos + uint64(s.Ring.Capacity()/ring.Granule) // where nothing is known, all of it
	} else if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	if r.From != nil {
		switch {
		case int64(*r.From-pos) < 0:
			return fmt.Errorf("%s: position %d: %w, head is %d", s.Name, *r.From, ring.ErrReleased, pos)
		case int64(*r.From-end) >= 0:
			return fmt.Errorf("%s: position %d: %w, the frontier is %d", s.Name, *r.From, ring.ErrUnclaimed, end)
		}
		pos = *r.From
	}
	for n := 0; int64(pos-end) < 0 && (r.Count == 0 || n < r.Count); n++ {
		p, err := s.piece(pos, end)
		if err == ring.ErrUnclaimed {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		if !f(p) {
			return nil
		}
		pos = p.Position + p.Granules
	}
	return nil
}

func (s *Segment) piece(pos, end uint64) (Piece, error) {
	rec, err := s.Ring.RecordAt(pos)
	p := Piece{Position: pos, Granules: rec.Granules, Kind: "record", State: rec.State.String(), Slot: rec.Slot, Lap: rec.Lap, Messages: []Message{}}
	var msgs []ring.RecordMessage
	if err == nil {
		p.Word = fmt.Sprintf("%016x", rec.Word)
		msgs, err = s.Ring.MessagesOf(rec)
	}
	damage := (*ring.CorruptError)(nil)
	switch {
	case err == ring.ErrReleased:
		head := s.Ring.Head()
		return Piece{
			Position: pos, Granules: head - pos, Kind: "released", Slot: -1, Messages: []Message{},
			Text: fmt.Sprintf("the consumer released positions %d to %d while they were looked at", pos, head),
		}, nil
	case errors.As(err, &damage):
		next, err := s.Ring.NextRecord(pos)
		if err != nil {
			return p, err
		}
		if int64(next-end) > 0 {
			next = end
		}
		p.Kind, p.Granules, p.Word = "damage", next-pos, fmt.Sprintf("%016x", damage.Word)
		p.State, p.Slot = "", -1
		p.Text = fmt.Sprintf("%s; goes on at %d", damage.Reason, next)
		return p, nil
	case err != nil:
		return p, err
	}
	for _, m := range msgs {
		p.Messages = append(p.Messages, Message{Meta: m.Meta, Frame: s.frame(m.Meta), Data: m.Data})
	}
	return p, nil
}

func (s *Segment) frame(meta uint64) (f *Frame) {
	if s.Dir == nil {
		return nil
	}
	kind, index, seq, ok := wire.UnpackMeta(meta)
	if !ok || int(index) >= s.Dir.Len() {
		return nil
	}
	f = &Frame{Kind: kind.String(), Index: index, Seq: seq}
	// The page exists: the entry's pipe had a sender.
	if s.hasPage(s.Dir.Offset(index) &^ int64(s.Ring.Segment().PageSize()-1)) {
		s.Ring.Segment().Guarded(func() error {
			f.Pipe = s.Dir.Word(index).ID()
			return nil
		})
	}
	return f
}
