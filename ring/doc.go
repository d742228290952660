// Package ring is a lock-free ring buffer in shared memory: many processes
// write messages of any length into it, one reads them. A producer may be
// killed at any machine instruction: what it had sent is delivered, nothing
// torn is, and the others wait a bounded time at most.
//
//	r, err := ring.New(ring.Options{})       // a sealed memory file
//	a, err := r.Attach()                     // a seat among the producers
//	err = a.NewProducer().Send(ctx, msg, 0)  // committed when it returns
//
//	c, err := r.Consume()                    // the one consumer's seat
//	for c.Wait(ctx) == nil {
//		c.Poll(64, func(f ring.Frame) ring.Action { use(f.Data); return ring.Continue })
//	}
//
// # The parts
//
// A segment holds a header table T and data. Space is counted in granules of
// 64 bytes; a position counts granules and never wraps, its index is the
// position modulo H, the number of granules, and its lap the position divided
// by H. T has an entry per granule, {word, info}. A record of g granules at
// position p has its header in T[p]; the words of its inner granules stay as
// they were, with tags of older laps. Headers never share memory with payload,
// so no payload can look like one, and nothing has to be zeroed.
//
// A claim is one CAS on the word of the first free granule: {BUSY, tag of the
// lap, owner, granules}. The producer fills payload and info, and commits with
// a second CAS, BUSY→COMMIT. The consumer walks from word to word and stores
// head behind what it has consumed. The hint, which lets producers start their
// search near the free granule, may lag by any amount.
//
// # Who is dead
//
// Each producer process locks a byte of the segment's file, and the kernel
// frees it when the process is gone. A BUSY word names its owner's byte, so the
// consumer can prove an owner dead and skip exactly its record. Nothing is
// ever taken from a living process: one that is stopped delays the others for
// as long as it is stopped, and the consumer is told which (WithOnStall).
//
// # Order and delivery
//
// Messages of one Producer arrive in order; a Send that began after another
// returned, in any process, arrives after it. Each arrives once, unless a
// consumer dies: then its successor gets again what was not released.
//
// docs/protocol.md has every byte and every ordering; internal/model explores
// the protocol's states.
package ring
