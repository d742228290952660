package main

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/shmrouter/shmrouter/bench"
	"github.com/shmrouter/shmrouter/shm"
)

// A message's first eight bytes are its number in the low 48 bits and its
// sender above. In paced runs the next eight are the instant of sending; in
// runs that verify, everything behind the first eight is content that follows
// from them.
const (
	numberBits = 48
	minSize    = 16
)

func put(b []byte, sender int, number uint64) {
	binary.LittleEndian.PutUint64(b, number|uint64(sender)<<numberBits)
}

func putTime(b []byte, now int64) { binary.LittleEndian.PutUint64(b[8:], uint64(now)) }

// sequence checks what arrives: of each sender 0, 1, 2 and so on, all of one
// size. In timed runs from one sender that is one comparison of the message's
// first word.
type sequence struct {
	size    int
	want    uint64 // the next word, where that is all there is to check
	next    []uint64
	content bool
	late    *bench.Recorder // of paced runs
	ends    int             // of senders that stop by the clock
}

const slowly = ^uint64(0) // no message's word

func newSequence(a args, senders int) *sequence {
	s := &sequence{size: a.Size, want: slowly, next: make([]uint64, senders), content: a.Verify}
	if a.Rate > 0 {
		s.late = bench.NewRecorder()
	}
	if senders == 1 && !a.Verify && s.late == nil {
		s.want = 0
	}
	return s
}

func (s *sequence) check(b []byte) error {
	if len(b) == s.size && binary.LittleEndian.Uint64(b) == s.want {
		s.want++
		return nil
	}
	return s.checkAll(b)
}

func (s *sequence) checkAll(b []byte) error {
	if len(b) != s.size {
		return fmt.Errorf("%w: %d bytes instead of %d", bench.ErrBadMessage, len(b), s.size)
	}
	w := binary.LittleEndian.Uint64(b)
	if s.want != slowly {
		return fmt.Errorf("%w: %#x came instead of %#x", bench.ErrBadMessage, w, s.want)
	}
	if s.late != nil {
		s.late.Add(shm.Now() - int64(binary.LittleEndian.Uint64(b[8:])))
	}
	from, number := int(w>>numberBits), w&(1<<numberBits-1)
	if number == lastOfAll {
		if s.ends++; s.ends == len(s.next) {
			return errAllEnded
		}
		return nil
	}
	if from >= len(s.next) || number != s.next[from] {
		return fmt.Errorf("%w: number %d of sender %d came", bench.ErrBadMessage, number, from)
	}
	s.next[from]++
	if s.content && !bench.Intact(b) {
		return fmt.Errorf("%w: number %d of sender %d has other content than was sent", bench.ErrBadMessage, number, from)
	}
	return nil
}

// lastOfAll is the number in the message with which a sender that stops by the
// clock ends.
const lastOfAll = uint64(1)<<numberBits - 1

// errAllEnded ends a receive when all of them have.
var errAllEnded = errors.New("all senders have ended")

// complete reports an error unless every sender's share has come.
func (s *sequence) complete(n uint64) error {
	if s.want != slowly {
		if s.want != n {
			return fmt.Errorf("%w: %d of %d came", bench.ErrBadMessage, s.want, n)
		}
		return nil
	}
	for from, got := range s.next {
		if want := share(n, from, len(s.next)); got != want {
			return fmt.Errorf("%w: %d of %d messages of sender %d came", bench.ErrBadMessage, got, want, from)
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
