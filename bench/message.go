package bench

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/shmrouter/shmrouter/ring"
)

// A message of the benchmarks, MinSize bytes or more:
//
//	offset  size  meaning
//	0       8     number of the message, from 0, in the low 48 bits; sender in the high 16
//	8       8     where messages are paced: the time of sending; else content
//	16      rest  content: a byte pattern that follows from the first word
//
// The content is written and checked only where an Order says Verify.

// MinSize is the smallest message in bytes.
const MinSize = 16

// MaxSenders bounds the number of sending processes in a Crew.
const MaxSenders = ring.MaxSlots

const (
	numberBits = 48
	lastMark   = 1 << (numberBits - 1) // in the number of a sender's last message, where only that tells
)

// ErrBadMessage is the error of a run in which a message came that should not
// have come, or not so, or not then.
var ErrBadMessage = errors.New("bench: wrong message")

// stamp writes sender and number.
func stamp(b []byte, sender int, number uint64) {
	binary.LittleEndian.PutUint64(b, number|uint64(sender)<<numberBits)
}

// stampTime and timeOf carry the instant of sending.
func stampTime(b []byte, now int64) { binary.LittleEndian.PutUint64(b[8:], uint64(now)) }
func timeOf(b []byte) int64         { return int64(binary.LittleEndian.Uint64(b[8:])) }

// fill writes the content that belongs to the stamp in b.
func fill(b []byte) {
	x := mix(binary.LittleEndian.Uint64(b))
	for b = b[8:]; len(b) >= 8; b = b[8:] {
		x = x*6364136223846793005 + 1442695040888963407
		binary.LittleEndian.PutUint64(b, x)
	}
	for i := range b {
		b[i] = byte(x >> (8 * i))
	}
}

// intact reports whether b has the content that fill writes.
func intact(b []byte) bool {
	x := mix(binary.LittleEndian.Uint64(b))
	for b = b[8:]; len(b) >= 8; b = b[8:] {
		x = x*6364136223846793005 + 1442695040888963407
		if binary.LittleEndian.Uint64(b) != x {
			return false
		}
	}
	for i := range b {
		if b[i] != byte(x>>(8*i)) {
			return false
		}
	}
	return true
}

// mix spreads neighbouring numbers over all bits (the finaliser of splitmix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// verifier checks what arrives: of each sender message 0, 1, 2 and so on, all
// of one size.
type verifier struct {
	size    int
	content bool
	next    [MaxSenders]uint64
	senders int
	latency *recorder // of messages that carry their time
	open    int       // senders whose last message is still to come
}

func newVerifier(size, senders int, content bool) *verifier {
	return &verifier{size: size, senders: senders, content: content}
}

// errAllEnded says that the last message of the last sender has come.
var errAllEnded = errors.New("bench: all senders have ended")

// follow has check do what else an order wants of messages that come from so
// many senders.
func (v *verifier) follow(o Order, senders int) {
	if o.Rate > 0 {
		r := newRecorder()
		v.latency = &r
	}
	if o.For > 0 {
		v.open = senders
	}
}

// merge adds what another one has seen.
func (v *verifier) merge(w *verifier) {
	for s, n := range w.next[:v.senders] {
		v.next[s] += n
	}
	if v.latency != nil {
		v.latency.h.Merge(w.latency.h)
	}
}

// check takes the next message as it came. Behind the last message of all
// senders, where that is marked, it returns errAllEnded.
func (v *verifier) check(b []byte) error {
	if len(b) != v.size {
		return fmt.Errorf("%w: %d bytes instead of %d", ErrBadMessage, len(b), v.size)
	}
	w := binary.LittleEndian.Uint64(b)
	sender, number := int(w>>numberBits), w&(1<<numberBits-1)
	if sender >= v.senders {
		return fmt.Errorf("%w: from sender %d, expected 0 to %d", ErrBadMessage, sender, v.senders-1)
	}
	last := false
	if number != v.next[sender] {
		if last = v.open > 0 && number == v.next[sender]|lastMark; !last {
			return fmt.Errorf("%w: number %d of sender %d, expected %d", ErrBadMessage, number, sender, v.next[sender])
		}
	}
	v.next[sender]++
	if v.latency != nil {
		v.latency.add(now() - timeOf(b))
	}
	if v.content && !intact(b) {
		return fmt.Errorf("%w: number %d of sender %d has other content than was sent", ErrBadMessage, number, sender)
	}
	if last {
		if v.open--; v.open == 0 {
			return errAllEnded
		}
	}
	return nil
}

// complete reports an error unless each expected sender's messages came up to
// its share.
func (v *verifier) complete(share func(sender int) uint64) error {
	for s := range v.senders {
		if v.next[s] != share(s) {
			return fmt.Errorf("%w: %d of %d messages of sender %d came", ErrBadMessage, v.next[s], share(s), s)
		}
	}
	return nil
}

// share divides n messages among senders, the first ones taking one more.
func share(n uint64, sender, senders int) uint64 {
	q, r := n/uint64(senders), n%uint64(senders)
	if uint64(sender) < r {
		q++
	}
	return q
}
