package ring

import "time"

// Waiting is how a consumer waits in Wait: what it gives, in processor time,
// for how soon it sees a message. A sleep costs the consumer some 10 µs of
// processor time and the producer that ends it some 5 µs, and a message that
// ends it arrives 20 to 60 µs later than one that is watched for. Who watches
// takes a whole processor meanwhile.
//
// In every mode Interrupt, the end of a context and a deadline end a Wait, and
// the owner of a claim in front is asked for in time. Where the process may use
// one processor only (shm.CanSpin), no mode spins: all are Thrift then.
type Waiting int

const (
	// Adaptive watches for up to 50 µs, less where that did not pay lately, then
	// sleeps. Streams are left to gather for 10 µs, so that they go faster.
	Adaptive Waiting = iota
	// LowLatency watches for 5 ms before it sleeps: messages that come more often
	// than that are seen at once, for a whole processor.
	LowLatency
	// Thrift sleeps at once: no processor time is spent between messages.
	Thrift
)

// spinMax is the longest time that Wait spins before it sleeps.
func (w Waiting) spinMax() time.Duration {
	switch w {
	case LowLatency:
		return 5 * time.Millisecond
	case Thrift:
		return 0
	}
	return 50 * time.Microsecond
}
