package ring

import "github.com/shmrouter/shmrouter/shm"

// counts are the consumer's figures: kept in the process, published to the
// segment before the consumer waits, and every publishEvery polls.
type counts struct {
	records, messages, bytes, skippedDead, skippedAborted, pads, sleeps, resyncs uint64
}

// skipped counts a record that is stepped over; dead if the consumer itself
// took it from a dead owner.
func (n *counts) skipped(w header, dead bool) {
	switch {
	case dead:
		n.skippedDead++
	case w.owner() == ownerNone:
		n.pads++
	default:
		n.skippedAborted++
	}
}

func (n *counts) words() [8]*uint64 {
	return [8]*uint64{&n.records, &n.messages, &n.bytes, &n.skippedDead, &n.skippedAborted, &n.pads, &n.sleeps, &n.resyncs}
}

func (n *counts) publish(seg *shm.Segment) {
	for i, w := range n.words() {
		storeRelaxed(seg.Word64(offCounters+int64(i)*8), *w)
	}
}

func (n *counts) load(seg *shm.Segment) {
	for i, w := range n.words() {
		*w = seg.Word64(offCounters + int64(i)*8).Load()
	}
}

// ConsumerStats are what consumers of the segment have done, all of them
// together since it was formatted.
type ConsumerStats struct {
	Records        uint64 `json:"records"`                 // committed records consumed
	Messages       uint64 `json:"messages"`                // messages in them
	Bytes          uint64 `json:"bytes"`                   // payload bytes in them
	SkippedDead    uint64 `json:"skipped_dead_claims"`     // claims of dead producers that the consumer skipped
	SkippedAborted uint64 `json:"skipped_aborted_records"` // records that were aborted, by their producer or by the sweep of its slot
	Pads           uint64 `json:"pads"`                    // ends of laps left empty
	Sleeps         uint64 `json:"sleeps"`                  // times Wait slept
	Resyncs        uint64 `json:"resyncs"`                 // times Resync went on behind damage
}

func (n *counts) stats() ConsumerStats {
	return ConsumerStats{
		Records: n.records, Messages: n.messages, Bytes: n.bytes, SkippedDead: n.skippedDead,
		SkippedAborted: n.skippedAborted, Pads: n.pads, Sleeps: n.sleeps, Resyncs: n.resyncs,
	}
}

// Stats returns the figures up to now. It is for the consumer's goroutine;
// Ring.Stats is for others.
func (c *Consumer) Stats() ConsumerStats { return c.counts.stats() }

// Stats is a picture of a segment. Its parts are read one after the other while
// the ring runs.
type Stats struct {
	Capacity  int64  `json:"capacity_bytes"`    // bytes of data
	Head      uint64 `json:"head_granules"`     // first position not released, in granules
	Hint      uint64 `json:"hint_granules"`     // lower bound of the first position not claimed, in granules
	Used      int64  `json:"used_bytes"`        // bytes claimed and not released, up to the hint
	Sleeping  bool   `json:"consumer_sleeping"` // the consumer sleeps
	Waiters   bool   `json:"room_waiters"`      // somebody waits for room
	Turn      int    `json:"turn_slot"`         // slot that others leave room for, -1 if none
	Consumers uint64 `json:"consumers"`         // consumers so far
	PID       int    `json:"consumer_pid"`      // the consumer's, as it sees itself; 0 if none came or it left
	PageSize  int    `json:"page_size_bytes"`   // of the memory (shm.Segment.PageSize)

	ConsumerStart        uint64 `json:"consumer_start_ticks"`   // its start time in clock ticks since boot; 0 where it could not be read, as without /proc
	ConsumerPIDNamespace uint64 `json:"consumer_pid_namespace"` // inode number; the pid means something only within it

	// Consumer is as of its last sleep, or a while ago where it has been busy.
	Consumer ConsumerStats `json:"consumer"`
	// Swept counts claims of dead producers that the next holder of their slot
	// skipped.
	Swept uint64 `json:"swept_claims"`
	// Dropped counts claims that programs forgot, of the present holders.
	Dropped uint64 `json:"dropped_claims"`
	// Slots has an entry for every slot that was ever held.
	Slots []SlotInfo `json:"slots"`
}

// SlotInfo describes a seat of the roster as its holder, or last holder, wrote
// it. Whether that is alive, only the lock tells (Consumer.SlotAlive).
type SlotInfo struct {
	Slot         int    `json:"slot"`               // from 0
	Instance     uint32 `json:"instance"`           // holders so far
	PID          int    `json:"pid"`                // as it sees itself; 0 after it left in order
	Start        uint64 `json:"start_ticks"`        // its start time in clock ticks since boot; 0 where /proc was missing
	PIDNamespace uint64 `json:"pid_namespace"`      // inode number; pids mean something only within one
	Joined       int64  `json:"joined_nanoseconds"` // nanoseconds on the clock of shm.Now
	Records      uint64 `json:"sent_records"`       // sent, up to 255 behind
	Bytes        uint64 `json:"sent_bytes"`         // sent, likewise
	Dropped      uint64 `json:"dropped_claims"`     // that the holder's program forgot
	Swept        uint64 `json:"swept_claims"`       // of dead holders that the next ones skipped, of all holders so far
}

// Stats reads the segment. Any process that has it open may do so at any time:
// it takes no lock and changes nothing. Error: shm.ErrFault where a file was
// truncated, os.ErrClosed.
func (r *Ring) Stats() (s Stats, err error) {
	err = r.access(func() error {
		var n counts
		n.load(r.seg)
		s = Stats{
			Capacity:  r.capacity,
			PageSize:  r.seg.PageSize(),
			Head:      r.head.Load(),
			Hint:      r.hint.Load(),
			Sleeping:  sleepWord(r.sleep.Load()).mode() != awake,
			Waiters:   r.roomWaiters.Load() != 0,
			Turn:      int(r.turn.Load()&0xff) - 1,
			Consumers: r.seg.Word64(offLife).Load(),
			PID:       int(r.seg.Word32(offConsumerPID).Load()),
			Consumer:  n.stats(),

			ConsumerStart:        r.seg.Word64(offConsumerStart).Load(),
			ConsumerPIDNamespace: r.seg.Word64(offConsumerPIDNS).Load(),
		}
		if used := int64(s.Hint - s.Head); used > 0 {
			s.Used = min(used, int64(r.size)) * Granule
		}
		for slot := range MaxSlots {
			if info := r.slotInfo(slot); info.Instance != 0 {
				s.Slots = append(s.Slots, info)
				s.Swept += info.Swept
				s.Dropped += info.Dropped
			}
		}
		return nil
	})
	return s, err
}

// SlotInfo reads one seat of the roster. It is zero for a number that is not
// one of 0 to MaxSlots-1, and where the segment cannot be read any more.
func (r *Ring) SlotInfo(slot int) (info SlotInfo) {
	if slot < 0 || slot >= MaxSlots {
		return info
	}
	r.access(func() error {
		info = r.slotInfo(slot)
		return nil
	})
	return info
}

// slotInfo reads a seat whose holder may change meanwhile: the words are of one
// instance, unless seats change faster than they can be read.
func (r *Ring) slotInfo(slot int) (info SlotInfo) {
	for range 8 {
		info = r.readSlot(slot)
		if r.seg.Word32(rosterAt(slot)+slotInstance).Load() == info.Instance {
			break
		}
	}
	return info
}

func (r *Ring) readSlot(slot int) SlotInfo {
	word := func(off int64) uint64 { return r.seg.Word64(rosterAt(slot) + off).Load() }
	return SlotInfo{
		Slot:         slot,
		Instance:     r.seg.Word32(rosterAt(slot) + slotInstance).Load(),
		PID:          int(r.seg.Word32(rosterAt(slot) + slotPID).Load()),
		Start:        word(slotStart),
		PIDNamespace: word(slotPIDNS),
		Joined:       int64(word(slotJoined)),
		Records:      word(slotRecords),
		Bytes:        word(slotBytes),
		Dropped:      word(slotDropped),
		Swept:        word(slotSwept),
	}
}

// Head is the first position that is not released, in granules; 0 where the
// segment cannot be read any more.
func (r *Ring) Head() (pos uint64) {
	r.access(func() error {
		pos = r.head.Load()
		return nil
	})
	return pos
}

// Frontier is the first position that nobody had claimed at some instant
// during the call, in granules: every record that was committed before the
// call lies before it. It walks the table from the hint on. Any goroutine may
// call it. Errors: *CorruptError, shm.ErrFault, os.ErrClosed.
func (r *Ring) Frontier() (pos uint64, err error) {
	err = r.access(func() error {
		pos = r.hint.Load()
		if h := r.head.Load(); pos-h > r.size { // behind head, or somebody has scribbled on it
			pos = h
		}
		for range r.patience() {
			w := r.load(pos)
			switch age := w.age(r.tag(pos)); {
			case age < 0:
				// Who waits for it must be able to come there.
				if int64(pos-r.head.Load()) > int64(r.size) {
					return corrupt(pos, w, "records reach into the lap behind head")
				}
				return nil
			case age > 0 || !r.valid(pos, w.granules()): // gone by, or scrubbed
				h := r.head.Load()
				if int64(h-pos) <= 0 {
					return corrupt(pos, w, "newer lap, or record does not fit its lap")
				}
				pos = h
			default:
				pos += w.granules()
			}
		}
		return nil // moving faster than this walk: a position of the present
	})
	return pos, err
}

// count keeps the slot's figures in the producer and publishes them to the
// roster when the ring has gone on by tellEvery granules since it last did, so
// that a send does not write one more line. By the ring's progress and not by
// its own, because the figures of one who sends seldom would stand still.
func (p *Producer) count(records, bytes uint64) {
	p.records += records
	p.bytes += bytes
	if p.pos-p.told >= tellEvery {
		p.publish()
	}
}

const tellEvery = 256

// publishGuarded is publish where no send is around it that a truncated file ends.
func (p *Producer) publishGuarded() error {
	return p.a.ring.seg.Guarded(func() error {
		p.publish()
		return nil
	})
}

func (p *Producer) publish() {
	p.told = p.pos
	if p.records != 0 {
		p.a.slotWord(slotRecords).Add(p.records)
		p.a.slotWord(slotBytes).Add(p.bytes)
		p.records, p.bytes = 0, 0
	}
}
