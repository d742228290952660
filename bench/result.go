package bench

import (
	"time"
)

// Result is one run as all its processes saw it.
type Result struct {
	N        uint64        // messages, or round trips
	Elapsed  time.Duration // first send to last receipt
	Latency  *Latency      // of round trips, of paced messages one way, or of bursts
	Counts   []uint64      // of each sender's messages, where an Order says For
	Mallocs  uint64        // in all processes
	Switches int64         // times that any of them slept
	CPU      time.Duration // of all of them; without a paced sender's spinning

	SenderCPU, ReceiverCPU time.Duration // of these
}

// PerMessage is the time for a message, or round trip, in nanoseconds.
func (r Result) PerMessage() float64 { return float64(r.Elapsed) / float64(r.N) }

func (r *Result) add(p Report) {
	r.Mallocs += p.Mallocs
	r.Switches += p.Switches
	r.CPU += time.Duration(p.CPU)
}

func (r *Result) sent(p Report) {
	r.add(p)
	r.SenderCPU += time.Duration(p.CPU)
}

func (r *Result) received(p Report) {
	r.add(p)
	r.ReceiverCPU += time.Duration(p.CPU)
	if p.Latency != nil {
		r.Latency = p.Latency
	}
	if r.Counts = p.Counts; r.Counts != nil {
		r.N = 0
		for _, n := range r.Counts {
			r.N += n
		}
	}
}
