package inspect

import (
	"errors"
	"fmt"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
)

// Severity says what a finding means.
type Severity string

const (
	// Damage contradicts the protocol: a bug, or somebody who wrote into the memory.
	Damage Severity = "damage"
	// Remnant is what the dead leave behind and the living clean up: no damage, and worth knowing.
	Remnant Severity = "remnant"
)

// Finding is one thing that Check found.
type Finding struct {
	Severity Severity `json:"severity"`
	What     string   `json:"what"`     // the invariant, in one word: records, messages, roster, ...
	Position uint64   `json:"position"` // in granules, where it has one
	Text     string   `json:"text"`
}

// maxFindings bounds what is told of one segment.
const maxFindings = 100

// report collects findings.
type report struct {
	found []Finding
}

func (r *report) add(s Severity, what string, pos uint64, format string, args ...any) {
	if len(r.found) < maxFindings {
		r.found = append(r.found, Finding{s, what, pos, fmt.Sprintf(format, args...)})
	}
}

// confirmed reports damage only if two looks agree: on a ring that runs, what is seen between two stores of
// another process is not damage.
func (r *report) confirmed(what string, look func() string) {
	text := look()
	for range 20 {
		again := look()
		if text == "" || again != text {
			return
		}
	}
	r.add(Damage, what, 0, "%s", text)
}

// Check looks for anything that the protocol does not allow. What Open checked is known by then: magic, version,
// byte order, checksum, geometry and size. It may be called while the ring runs, raises no false alarm then, and
// sees all of what follows where nobody is alive. That is not every bit: no figure can be told from another one.
//
//	records   one ends at head; between head and frontier each follows the last, fits its lap, has a state and an
//	          owner that there was; words inside keep older tags; the hint is a record's start; behind head nothing
//	          is open
//	messages  each fits its record; in a router's ring its meta value names a kind and an entry
//	control   sleep word, turn and waiters' flag are in range
//	roster    a slot that was never taken names no process and has no figures
//	consumer  without a consumer nothing was consumed
//	pipes     entries have a state, an id that was given out, none twice, and a seat; what is laid out as a
//	          directory begins as one
//
// Errors: shm.ErrFault and the kernel's: it could not look.
func (s *Segment) Check() ([]Finding, error) {
	r := &report{found: []Finding{}}
	steps := []func(*report) error{s.checkRing, s.checkMeta, s.checkRoster, s.checkPipes}
	for _, step := range steps {
		if err := step(r); err != nil {
			return r.found, fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return r.found, nil
}

func (s *Segment) checkRing(r *report) error {
	err := s.Ring.Check()
	if c := (*ring.CorruptError)(nil); errors.As(err, &c) {
		r.add(Damage, "records", c.Position, "%v", c)
		return nil
	}
	return err
}

// checkMeta walks over the records, and past damage. It tells of messages only what checkRing does not.
func (s *Segment) checkMeta(r *report) error {
	consumer, err := s.Ring.ConsumerHeld()
	if err != nil {
		return err
	}
	pos := s.Ring.Head()
	for walked := uint64(0); walked < uint64(s.Ring.Capacity()/ring.Granule); {
		rec, err := s.Ring.RecordAt(pos)
		if err == nil && rec.State == ring.RecordCommitted {
			err = s.checkMessages(r, rec)
		}
		damage := (*ring.CorruptError)(nil)
		switch {
		case err == ring.ErrUnclaimed:
			return nil
		case err == ring.ErrReleased:
			next := s.Ring.Head()
			walked += next - pos
			pos = next
			continue
		case errors.As(err, &damage):
			next, err := s.Ring.NextRecord(pos)
			if err != nil {
				return err
			}
			if int64(s.Ring.Head()-pos) > 0 {
				continue
			}
			if !told(r.found, damage.Position) {
				r.add(Damage, "messages", damage.Position, "%v", damage)
			}
			walked += next - pos
			pos = next
			continue
		case err != nil:
			return err
		}
		if rec.Slot >= 0 && s.Ring.SlotInfo(rec.Slot).Instance == 0 {
			r.add(Damage, "records", pos, "a record at position %d by slot %d, which was never taken", pos, rec.Slot)
		}
		if rec.State == ring.RecordBusy && !consumer {
			if held, err := s.Ring.SlotHeld(rec.Slot); err == nil && !held {
				r.add(Remnant, "claim", pos, "a claim of %d bytes at position %d by slot %d, whose process is dead: the next consumer skips it",
					rec.Granules*ring.Granule, pos, rec.Slot)
			}
		}
		walked += rec.Granules
		pos += rec.Granules
	}
	return nil
}

func told(found []Finding, pos uint64) bool {
	for _, f := range found {
		if f.Position == pos {
			return true
		}
	}
	return false
}

// checkMessages looks at the meta values, which are the router's business.
func (s *Segment) checkMessages(r *report, rec ring.Record) error {
	msgs, err := s.Ring.MessagesOf(rec)
	if err != nil || s.Dir == nil {
		return err
	}
	for i, m := range msgs {
		if _, index, _, ok := wire.UnpackMeta(m.Meta); !ok || int(index) >= s.Dir.Len() {
			r.add(Damage, "messages", rec.Position, "message %d of the record at position %d by slot %d has meta value %#x, which no sender writes",
				i, rec.Position, rec.Slot, m.Meta)
		}
	}
	return nil
}

func (s *Segment) checkRoster(r *report) error {
	st, err := s.Ring.Stats()
	if err != nil {
		return err
	}
	for slot := range ring.MaxSlots {
		r.confirmed("roster", func() string {
			if i := s.Ring.SlotInfo(slot); i.Instance == 0 && (i.PID != 0 || i.Joined != 0 || i.Records != 0) {
				return fmt.Sprintf("slot %d was never taken, and names process %d, %d records", slot, i.PID, i.Records)
			}
			return ""
		})
	}
	r.confirmed("consumer", func() string {
		if st, err := s.Ring.Stats(); err == nil && st.Consumers == 0 && (st.PID != 0 || st.Head != 0 || st.Consumer.Records != 0) {
			return fmt.Sprintf("no consumer was ever counted, and yet there are a process %d, head %d, %d records consumed", st.PID, st.Head, st.Consumer.Records)
		}
		return ""
	})
	if st.Turn >= ring.MaxSlots {
		r.confirmed("control", func() string {
			if st, err := s.Ring.Stats(); err == nil && st.Turn >= ring.MaxSlots {
				return fmt.Sprintf("the turn is slot %d's, which does not exist", st.Turn)
			}
			return ""
		})
	}
	return nil
}

func (s *Segment) checkPipes(r *report) error {
	if s.Dir == nil {
		switch {
		case s.DirErr == nil:
		case !errors.Is(s.DirErr, wire.ErrNoDirectory):
			r.add(Damage, "pipes", 0, "%v", s.DirErr)
		case s.likeDirectory():
			r.add(Damage, "pipes", 0, "%v, and is laid out as one", s.DirErr)
		}
		return nil
	}
	return s.Ring.Segment().Guarded(func() error {
		r.confirmed("pipes", func() string {
			if st := s.Dir.State(); st > wire.Stopped {
				return fmt.Sprintf("the router's state is %d, which has no meaning", st)
			}
			return ""
		})
		seen := map[uint64]uint32{}
		s.eachEntry(func(i uint32, w wire.Word) {
			r.confirmed("pipes", func() string { return s.strange(i) })
			if w.State() == wire.PipeFree {
				return
			}
			if other, twice := seen[w.ID()]; twice {
				r.confirmed("pipes", func() string {
					a, b := s.Dir.Word(i), s.Dir.Word(other)
					if a.ID() == b.ID() && a.State() != wire.PipeFree && b.State() != wire.PipeFree {
						return fmt.Sprintf("entries %d and %d hold the same pipe %d", other, i, a.ID())
					}
					return ""
				})
			}
			seen[w.ID()] = i
		})
		return nil
	})
}

// likeDirectory tells whether the area without a directory's first word has one behind it.
func (s *Segment) likeDirectory() (like bool) {
	off, size := s.Ring.User()
	if size == 0 || !s.hasPage(off) {
		return false
	}
	s.Ring.Segment().Guarded(func() error {
		like = wire.LooksLikeDirectory(s.Ring.Segment(), off, size)
		return nil
	})
	return like
}

// strange says what is wrong with an entry of the directory. The next id is read after the word: ids are given
// out before they are published.
func (s *Segment) strange(i uint32) string {
	w := s.Dir.Word(i)
	next := s.Dir.NextID()
	switch {
	case w.State() > wire.PipeEnded:
		return fmt.Sprintf("entry %d has state %d, which has no meaning", i, w.State())
	case w.State() != wire.PipeFree && (w.ID() == 0 || w.ID() >= next):
		return fmt.Sprintf("entry %d holds pipe %d, and the next id is %d", i, w.ID(), next)
	case w.State() == wire.PipeAttached && w.Slot() >= ring.MaxSlots:
		return fmt.Sprintf("entry %d is attached to slot %d, which does not exist", i, w.Slot())
	}
	return ""
}
