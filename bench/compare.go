package bench

import (
	"errors"
	"time"
)

// Contest is a question of the kind "how many times faster": this transport
// against that one, between the same processes.
type Contest struct {
	RoundTrip bool // else a stream from all senders
	Size      int  // of a message in bytes
	Batch     int  // messages at once, in a stream
	Rate      int  // messages per second of a paced stream
	Wait      Wait // of the ring
	// Ours is compared with Theirs.
	Ours   Transport
	Theirs Transport
}

// Side is one of two that are compared: how it is run, and with what.
type Side struct {
	Run   func(Order) (Paced, error) // once, for as many messages as ordered
	Order Order                      // N is found out
}

// Pair is one answer: both runs, one right after the other, with the floor before,
// between and after.
type Pair struct {
	Ours, Theirs Paced      // their figures
	Floor        [3]float64 // ns, 0 where it cannot be measured
}

// State of the processors throughout the pair.
func (p Pair) State() State { return StateOf(p.Floor[:]...) }

// Bout is two sides, with runs long enough to measure. It is for one goroutine.
type Bout struct {
	floor        func() (float64, error)
	ours, theirs Side
	figure       func(Paced) float64
	pairs        []Pair
}

// NewBout has a Contest between the transports of a crew; see NewBoutOf, also
// for the error.
func (c *Crew) NewBout(k Contest, each time.Duration) (*Bout, error) {
	side := func(via Transport) Side {
		o := Order{Via: via, Size: k.Size, Batch: k.Batch, Rate: k.Rate}
		if via == Ring {
			o.Wait = k.Wait
		}
		switch {
		case k.RoundTrip:
			return Side{Unpaced(c.RoundTrip), o}
		case k.Rate > 0:
			return Side{c.Paced, o}
		}
		return Side{Unpaced(c.Stream), o}
	}
	figure := PerMessage
	if k.RoundTrip || k.Rate > 0 {
		figure = MedianLatency
	}
	return NewBoutOf(c.Floor, side(k.Ours), side(k.Theirs), figure, each)
}

// Unpaced makes a Side's Run of what has no pace.
func Unpaced(run func(Order) (Result, error)) func(Order) (Paced, error) {
	return func(o Order) (Paced, error) {
		r, err := run(o)
		return Paced{Result: r}, err
	}
}

// PerMessage is what a Bout of streams compares, in nanoseconds.
func PerMessage(p Paced) float64 { return p.Result.PerMessage() }

// MedianLatency is what a Bout of round trips, or paced messages, compares, in
// nanoseconds.
func MedianLatency(p Paced) float64 { return float64(p.Latency.P50) }

// NewBoutOf finds out how many messages take each side about the given time,
// and warms both up with that. The errors are those of the sides' runs.
func NewBoutOf(floor func() (float64, error), ours, theirs Side, figure func(Paced) float64, each time.Duration) (*Bout, error) {
	b := &Bout{floor: floor, ours: ours, theirs: theirs, figure: figure}
	return b, errors.Join(b.ours.fit(each), b.theirs.fit(each))
}

// fit sets N.
func (s *Side) fit(each time.Duration) error {
	o := &s.Order
	if o.Rate > 0 {
		o.N = max(1, uint64(float64(o.Rate)*each.Seconds()))
		_, err := s.Run(*o)
		return err
	}
	for o.N = 100; ; {
		r, err := s.Run(*o)
		if err != nil {
			return err
		}
		if r.Elapsed > each/4 {
			o.N = max(1, uint64(float64(o.N)*float64(each)/float64(r.Elapsed)))
			return nil
		}
		o.N = uint64(float64(o.N) * min(20, max(2, float64(each)/2/float64(r.Elapsed))))
	}
}

// Verify has both sides send a few messages of which every byte is checked, if
// they are not paced. The error is that of the first run that failed.
func (b *Bout) Verify(n uint64) error {
	for _, s := range []Side{b.ours, b.theirs} {
		if s.Order.Rate > 0 {
			continue
		}
		o := s.Order
		o.N, o.Verify = n, true
		if _, err := s.Run(o); err != nil {
			return err
		}
	}
	return nil
}

// Pair runs one more pair. Who is first changes from pair to pair. With an error
// of a run, or of the floor, the pair does not count.
func (b *Bout) Pair() error {
	var p Pair
	var err [5]error
	run := func(theirs bool) (err error) {
		if theirs {
			p.Theirs, err = b.theirs.Run(b.theirs.Order)
		} else {
			p.Ours, err = b.ours.Run(b.ours.Order)
		}
		return err
	}
	theirsFirst := len(b.pairs)%2 == 1
	p.Floor[0], err[0] = b.floor()
	err[1] = run(theirsFirst)
	p.Floor[1], err[2] = b.floor()
	err[3] = run(!theirsFirst)
	p.Floor[2], err[4] = b.floor()
	if err := errors.Join(err[:]...); err != nil {
		return err
	}
	b.pairs = append(b.pairs, p)
	return nil
}

// Pairs are those so far.
func (b *Bout) Pairs() []Pair { return b.pairs }

// Comparison sums up the pairs of a Bout.
type Comparison struct {
	// Ratio is how many times faster ours is: messages per second of a stream,
	// the median of round trips, or of the way of paced messages. Its median is
	// that of the pairs' ratios.
	Ratio Spread
	// Ours and Theirs are nanoseconds for a message, or such medians.
	Ours, Theirs Spread
	// Floor is the round trip of two cache lines in nanoseconds.
	Floor Spread
}

// Comparison of the pairs so far.
func (b *Bout) Comparison() Comparison {
	var ratio, ours, theirs, floor []float64
	for _, p := range b.pairs {
		x, y := b.figure(p.Ours), b.figure(p.Theirs)
		ratio = append(ratio, y/x)
		ours, theirs = append(ours, x), append(theirs, y)
		floor = append(floor, p.Floor[:]...)
	}
	return Comparison{spreadOf(ratio), spreadOf(ours), spreadOf(theirs), spreadOf(floor)}
}
