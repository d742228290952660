package ring

import (
	"errors"
	"fmt"
)

// Sending.
var (
	// ErrFull is returned by the Try methods when the ring has no room now.
	ErrFull = errors.New("ring: full")
	// ErrTooLarge is returned for a message longer than Ring.MaxFrame, or a
	// batch whose messages together take more granules than that.
	ErrTooLarge = errors.New("ring: message too large")
	// ErrMeta is returned for a meta value of more than MetaBits bits.
	ErrMeta = errors.New("ring: meta value out of range")
	// ErrNoConsumer is returned by a sender that would have to wait for room
	// while no process holds the consumer's seat.
	ErrNoConsumer = errors.New("ring: no consumer is alive")
	// ErrClaimDone is returned by the second Commit of a claim, by a Commit
	// after Abort, and by methods of the zero Claim.
	ErrClaimDone = errors.New("ring: claim already committed, aborted, or never made")
	// ErrFenced is returned by a send or Commit that finds its claim taken away,
	// which only damage or a Resync does to a living producer. The message was
	// not sent.
	ErrFenced = errors.New("ring: claim was taken away before it was committed")
	// ErrRosterFull is returned by Attach when MaxSlots processes hold a slot.
	ErrRosterFull = errors.New("ring: all producer slots are taken")
)

// Consuming.
var (
	// ErrConsumerBusy is returned by Consume while another consumer is alive.
	ErrConsumerBusy = errors.New("ring: another consumer holds the segment")
	// ErrWaiting is returned by Consume for a Waiting that there is not.
	ErrWaiting = errors.New("ring: no such way of waiting")
	// ErrInterrupted is returned by Wait after Interrupt.
	ErrInterrupted = errors.New("ring: wait interrupted")
	// ErrNotManual is returned by Release on a consumer that releases by
	// itself.
	ErrNotManual = errors.New("ring: consumer was not opened with manual release")
	// ErrRelease is returned by Release for a position that is behind head or
	// ahead of what was polled.
	ErrRelease = errors.New("ring: release of a position that was not polled")
	// ErrNoSlot is returned for the number of a slot that is not 0 to MaxSlots-1.
	ErrNoSlot = errors.New("ring: no such slot")
)

// Making and opening a segment.
var (
	// ErrCapacity is wrapped by the three errors about Options.Capacity.
	ErrCapacity = errors.New("ring: capacity")
	// ErrCapacityNotPower is returned for one that is not a power of two.
	ErrCapacityNotPower = fmt.Errorf("%w is not a power of two", ErrCapacity)
	// ErrCapacityTooSmall is returned for one below MinCapacity.
	ErrCapacityTooSmall = fmt.Errorf("%w is below 64 KiB", ErrCapacity)
	// ErrCapacityTooLarge is returned for one above MaxCapacity.
	ErrCapacityTooLarge = fmt.Errorf("%w is above 1 GiB", ErrCapacity)
	// ErrUserSize is returned for a negative or absurd user area.
	ErrUserSize = errors.New("ring: user area size out of range")
	// ErrTruncated is returned when a segment is smaller than it says, or too
	// small to hold any ring.
	ErrTruncated = errors.New("ring: segment is truncated")
	// ErrUnfinished is returned for a segment without its magic, which is
	// written last: its creator has not finished, or died before it had.
	ErrUnfinished = errors.New("ring: segment was never finished")
	// ErrNotSegment is returned for bytes that are not a ring segment.
	ErrNotSegment = errors.New("ring: not a ring segment")
	// ErrVersion is returned for a segment of another layout version; the
	// text names both.
	ErrVersion = errors.New("ring: segment has another layout version")
	// ErrByteOrder is returned for a segment of a host of other byte order.
	ErrByteOrder = errors.New("ring: segment has another byte order")
	// ErrGeometry is returned when the fixed fields of a segment contradict
	// each other or their checksum.
	ErrGeometry = errors.New("ring: segment geometry is damaged")
)

// ErrCorrupt is the class of every *CorruptError, for errors.Is.
var ErrCorrupt = errors.New("ring: segment is corrupt")

// CorruptError says where the ring's words contradict the protocol. Position
// is that of the record; of a batch, messages before the damage may have been
// delivered. Consumer.Resync goes on behind it.
type CorruptError struct {
	Position uint64 // granules
	Word     uint64 // the header word, or other word, as it was read
	Reason   string // what is wrong with it, for people
}

// Error says where, what, and what the word says.
func (e *CorruptError) Error() string {
	h := header(e.Word)
	return fmt.Sprintf("ring: segment is corrupt at position %d: %s (word %#016x: %v tag %d owner %d granules %d)",
		e.Position, e.Reason, e.Word, h.state(), h.tag(), h.owner(), h.granules())
}

// Unwrap makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Unwrap() error { return ErrCorrupt }

func corrupt(pos uint64, w header, reason string) error {
	return &CorruptError{Position: pos, Word: uint64(w), Reason: reason}
}
