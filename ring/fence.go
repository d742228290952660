package ring

import "github.com/shmrouter/shmrouter/shm"

// The end of a claim, and how it is known that the claim is still there.
//
// Nobody but its owner may commit a claim, so a store does, and leaves the
// processor's store buffer alone. Two things are asked before:
//
// Is the claim still there? It is taken from a living owner only by mistake:
// one whose lock was lost with its descriptors, or by a Resync. Whoever takes
// a claim changes the fence word before (fenceOff). So a send that finds there
// what it found when it last compared a claim has lost none since; to load the
// claim's own word, just after the CAS on it, costs a sixth of a send.
//
// Does the consumer see to the order of the store and of the look at the sleep
// word that follows? The store may be seen after that look. A consumer that
// sleeps behind a claim has the processes that registered pass a barrier
// (Consumer.nap); it says so in the fence word. Where it does not, or this
// process has not registered, the commit is a CAS.
const (
	hasBarriers = 1 // in the fence word: the consumer has barriers
	fencedOnce  = 2 // what taking a claim adds

	never = 1 << 63 // no fence word
)

// fenceOff comes before a claim is taken from its owner.
func (v *view) fenceOff() { v.fence.Add(fencedOnce) }

// end turns the claim w at e into a record, at one instruction; false: it was
// fenced. The payload comes before the state (pairs with the load in
// Consumer.Poll).
//
//go:noinline
func (p *Producer) end(e *entry, w header) bool {
	raceRelease(p.token)
	fence := p.fence.Load() // before the claim's word
	if storesLate && (fence&hasBarriers == 0 || !shm.BarriersJoined()) {
		p.unfenced = never
		return e.word.CompareAndSwap(uint64(w), uint64(w.with(commit)))
	}
	if header(e.word.Load()) != w {
		return false
	}
	p.unfenced = uint64(fence)
	storeRelease(&e.word, uint64(w.with(commit)))
	return true
}
