// Package model is an explicit-state model of the ring protocol: it plays every interleaving of a few claimants and
// one consumer on a ring of four granules, kills whoever may be killed before every single step, and checks in each
// state what the ring promises.
//
// A state is the whole of the shared memory, the local variables of every party and a few ghosts that the checks
// need. One step is one access to shared memory (or one question to the kernel); purely local work belongs to the
// step before it. Memory is sequentially consistent, as Go's atomics are.
//
// Read in the order in which a message travels:
//
//	word.go      the header word, positions and laps
//	state.go     shared words, locals, ghosts; where a run begins
//	config.go    what one run explores: scripts, slots, bounds
//	mutant.go    protocols that are broken on purpose, by name
//	claim.go     claim: search, room, PAD, the claiming CAS
//	commit.go    fill, commit, abort
//	doorbell.go  ring and wait: both halves of the consumer's sleep
//	room.go      waiting for space: both halves, and the turn
//	consume.go   consume: deliver, step over, release
//	roster.go    attach, sweep, leave, kill; the consumer's successor
//	check.go     invariants, and what drained means
//	store.go     the set of states seen, and those to be visited
//	explore.go   every state, every step
//	progress.go  from which states the end can still be reached; traces
package model
