package ring

import (
	"github.com/shmrouter/shmrouter/shm"
)

// The doorbell: how the consumer sleeps, and who wakes it.
//
// The consumer publishes the sleep word, {position r, mode, episode}, and then
// waits in FUTEX_WAIT on the half of T[r]'s word that holds state and tag,
// with the value it saw. Producers never write the sleep word, so one that
// dies cannot swallow a wake; each only remembers the episode it last rang
// for, so there is at most one wake per producer and episode.
//
// Whoever stores COMMIT or SKIP, and every sender about to wait for room, then
// loads the sleep word and looks at T[s]: a record that is there and not BUSY
// is reason to wake. So is a BUSY one, if the consumer sleeps in idle mode,
// not knowing of it: it then waits in busy mode, with a short time limit, and
// asks whether the owner is alive.
//
// Why no wake is lost: the store of COMMIT and the load of the sleep word (in
// ring) stand against the store of the sleep word and the kernel's load of
// T[r] (in nap). Were all four in one order, either the kernel would see the
// changed word and not sleep, or the producer the sleeper. The store of COMMIT
// is not: it may wait in its processor's store buffer while the sleep word is
// loaded (fence.go). So a consumer that sleeps behind a claim has
// every process that commits that way pass a barrier between its store and its
// sleep: whose load came before it has its COMMIT seen by the kernel, and whose
// load comes after it sees the sleeper. The one who acts rarely pays. A
// consumer that sleeps at a free granule does not: what changes that is a CAS,
// and who claimed there after the kernel's load looks at the sleep word after
// its CAS.
//
// The kernel's compare is the second look; without it the wake would be lost
// between the consumer's last load and its sleep. It is not enough to wake
// the sleeper at one's own record: in front of it may stand a pad or a
// skipped record that nobody rings for again. A producer that dies between
// its COMMIT and its wake leaves the wake to the next one that rings, or to
// the time limit of the idle sleep.
type sleepWord uint64

// The sleep word:
//
//	bits  0–1   mode: 0 awake, 1 idle, 2 stuck
//	bits  2–35  episode: raised with each sleep, and never taken back
//	bits 36–63  position, modulo 2²⁸: sixteen rounds of the largest ring
const (
	awake sleepWord = 0
	idle  sleepWord = 1 // T[r] was empty: sleeps up to 100 ms
	stuck sleepWord = 2 // T[r] is BUSY: sleeps up to a few ms, then asks for the owner

	modeBits     = 2
	episodeBits  = 34
	episodeMask  = 1<<episodeBits - 1
	sleepPosBits = 64 - modeBits - episodeBits
)

func makeSleep(pos, episode uint64, mode sleepWord) sleepWord {
	return mode | sleepWord(episode&episodeMask)<<modeBits | sleepWord(pos)<<(modeBits+episodeBits)
}

func (s sleepWord) mode() sleepWord { return s & (1<<modeBits - 1) }
func (s sleepWord) episode() uint64 { return uint64(s) >> modeBits & episodeMask }

// position completes the sleeper's position from one that is known to be near.
func (s sleepWord) position(near uint64) uint64 {
	d := int64(uint64(s)>>(modeBits+episodeBits)-near) << (64 - sleepPosBits) >> (64 - sleepPosBits)
	return near + uint64(d)
}

// ring wakes the consumer if it sleeps and there is something for it to do.
func (p *Producer) ring() {
	if sleepWord(p.sleep.Load()).mode() != awake {
		p.ringSleeper()
	}
}

// ringSleeper stands apart so that ring is inlined in a send.
//
//go:noinline
func (p *Producer) ringSleeper() {
	p.ringFor(max(p.pos, p.seen), &p.rung)
	p.told = p.pos - tellEvery // its figures are due: there is time for them
}

// ringFor is the slow half of ring. near is a position of the present, rung
// the caller's memory of the last episode rung for, nil if it has none.
func (v *view) ringFor(near uint64, rung *uint64) {
	s := sleepWord(v.sleep.Load())
	if s.mode() == awake || rung != nil && *rung == s.episode() {
		return
	}
	pos := s.position(near)
	w := v.load(pos)
	age := w.age(v.tag(pos))
	if age > 0 || age == 0 && (!w.is(busy) || s.mode() == idle) {
		// A sleeper on its way into the kernel is not there to be woken
		// yet; only a wake that arrived settles the episode.
		if shm.FutexWake(v.doorbellWord(pos), 1) > 0 && rung != nil {
			*rung = s.episode()
		}
	}
}

// nap is the consumer's half: it sleeps on the word w that it saw at pos until
// that word changes, somebody rings, or the deadline (shm.Now nanoseconds)
// passes. It may return early; the caller looks again.
func (c *Consumer) nap(pos uint64, w header, mode sleepWord, deadline int64) error {
	c.episode++
	c.sleep.Store(uint64(makeSleep(pos, c.episode, mode)))
	if mode == stuck && c.drains && shm.Barrier() != nil {
		c.drains = false // forbidden meanwhile: from here on commits are CASes again
		c.fence.And(^uint32(hasBarriers))
	}
	err := shm.FutexWait(c.doorbellWord(pos), w.low(), deadline)
	// The episode stays in the word, for a consumer that takes over.
	c.sleep.Store(uint64(makeSleep(0, c.episode, awake)))
	c.counts.sleeps++
	return err
}
