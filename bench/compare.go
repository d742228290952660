package bench

import (
	"errors"
	"time"
)

// Contest is a question of the kind "how many times faster": this transport
// against that one, between the same processes.
type Contest struct {
	RoundTrip bool // else a stream from all senders
	Size      int
	Wait      Wait // of the ring
	Ours      Transport
	Theirs    Transport
}

// Pair is one answer: both runs, one after the other, with the floor before,
// between and after.
type Pair struct {
	Ours, Theirs Result
	Floor        [3]float64 // ns, 0 where it cannot be measured
}

// Bout is a Contest on a Crew, with runs long enough to measure.
type Bout struct {
	crew         *Crew
	ours, theirs Order
	trip         bool
	pairs        []Pair
}

// NewBout finds out how many messages take each transport about the given
// time, and warms both up with that.
func (c *Crew) NewBout(k Contest, each time.Duration) (*Bout, error) {
	b := &Bout{crew: c, trip: k.RoundTrip}
	for _, via := range []Transport{k.Ours, k.Theirs} {
		o := Order{Via: via, Size: k.Size, N: 100}
		if via == Ring {
			o.Wait = k.Wait
		}
		for {
			r, err := b.run(o)
			if err != nil {
				return nil, err
			}
			if r.Elapsed > each/4 {
				o.N = max(1, uint64(float64(o.N)*float64(each)/float64(r.Elapsed)))
				break
			}
			o.N = uint64(float64(o.N) * min(20, max(2, float64(each)/2/float64(r.Elapsed))))
		}
		if via == k.Ours {
			b.ours = o
		} else {
			b.theirs = o
		}
	}
	return b, nil
}

func (b *Bout) run(o Order) (Result, error) {
	if b.trip {
		return b.crew.RoundTrip(o)
	}
	return b.crew.Stream(o)
}

// Pair runs one more pair.
func (b *Bout) Pair() error {
	var p Pair
	var err [5]error
	p.Floor[0], err[0] = b.crew.Floor()
	p.Ours, err[1] = b.run(b.ours)
	p.Floor[1], err[2] = b.crew.Floor()
	p.Theirs, err[3] = b.run(b.theirs)
	p.Floor[2], err[4] = b.crew.Floor()
	if err := errors.Join(err[:]...); err != nil {
		return err
	}
	b.pairs = append(b.pairs, p)
	return nil
}

// Comparison sums up the pairs of a Bout.
type Comparison struct {
	// Ratio is how many times faster ours is: messages per second of a stream,
	// the median of round trips. Its median is that of the pairs' ratios.
	Ratio Spread
	// Ours and Theirs are nanoseconds for a message, or the medians of round
	// trips.
	Ours, Theirs Spread
	// Floor is the round trip of two cache lines in nanoseconds.
	Floor Spread
}

// Comparison of the pairs so far.
func (b *Bout) Comparison() Comparison {
	var ratio, ours, theirs, floor []float64
	for _, p := range b.pairs {
		x, y := p.Ours.PerMessage(), p.Theirs.PerMessage()
		if b.trip {
			x, y = float64(p.Ours.Latency.P50), float64(p.Theirs.Latency.P50)
		}
		ratio = append(ratio, y/x)
		ours, theirs = append(ours, x), append(theirs, y)
		floor = append(floor, p.Floor[:]...)
	}
	return Comparison{spreadOf(ratio), spreadOf(ours), spreadOf(theirs), spreadOf(floor)}
}
