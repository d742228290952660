package model

// access is what a step does to which shared word. Every step has exactly one; ring_test.go ties it to the place in
// the ring's source that it plays, and explore.go sees to it that no step changes another word.
type access struct{ op, word string }

func (a access) String() string {
	if a.op == "" {
		return a.word
	}
	return a.op + " " + a.word
}

// locked says whether the access is one that waits for the store buffer to drain: a locked instruction, or a system
// call.
func (a access) locked() bool { return a.op != "load" && a.op != "plain" && a.op != "" }

// The steps of a claimant.
const (
	pcDone       = iota // script at its end
	pcDead              // killed
	pcJoin              // process starting: a sibling sweeps
	pcHint              // t = max(hint, pos, head)
	pcNear              // head, because t is far ahead of the cached one
	pcLook              // w = T[t]
	pcHelp              // hint = t
	pcNewer             // head, after a newer tag or a word that was scrubbed
	pcTurn              // turn
	pcRoom              // head, because the cached one leaves too little room
	pcTurnLast          // turn once more, with the new head
	pcPad               // CAS T[t]: PAD
	pcClaim             // CAS T[t]: BUSY
	pcHelpOwn           // hint = end of the own claim
	pcHeader            // mutant: header by plain store
	pcFill              // one payload cell; info counts as one of them
	pcCommit            // CAS T[t]: COMMIT
	pcCheck             // T[t], before a commit by store
	pcStore             // T[t] = COMMIT
	pcAbort             // CAS T[t]: SKIP
	pcCleanup           // the same for a claim that the program has forgotten
	pcRing              // sleep
	pcRingAgain         // sleep, once more
	pcRingWord          // T[sleep.pos]
	pcRingWake          // FUTEX_WAKE(T[sleep.pos], 1)
	pcSeq               // roomSeq
	pcFlag              // roomWaiters = 1
	pcReleased          // head, waiting for it to pass the own position
	pcTake              // CAS turn: 0 -> me
	pcWait              // FUTEX_WAIT(roomSeq): compare and sleep
	pcAsleep            // in the kernel
	pcAskTurn           // after a timeout: turn
	pcAskLock           // its holder's byte
	pcDropTurn          // CAS turn: dead holder -> 0
	pcGiveTurn          // CAS turn: me -> 0
	pcUnname            // attach: pid = 0
	pcInstance          // attach: instance++
	pcName              // attach: pid
	pcSweepHead         // attach and leave: head
	pcSweepLook         // T[t]
	pcSweepNewer        // head, after a newer tag or a word that was scrubbed
	pcSweepSkip         // CAS T[t]: BUSY{me} -> SKIP
	pcSweepTurn         // turn
	pcSweepGive         // CAS turn: my slot -> 0
	pcCloseSeq          // leave: roomSeq++
	pcCloseWake         // leave: FUTEX_WAKE(roomSeq, all)
	pcSignOff           // leave: pid = 0
	pcUnlock            // leave: unlock the byte
)

var claimantSteps = [...]access{
	pcDone: {"", "done"}, pcDead: {"", "dead"}, pcJoin: {"", "join"}, pcAsleep: {"", "asleep for room"},
	pcHint: {"load", "hint"}, pcNear: {"load", "head"}, pcLook: {"load", "word"}, pcHelp: {"plain", "hint"},
	pcNewer: {"load", "head"}, pcTurn: {"load", "turn"}, pcRoom: {"load", "head"}, pcTurnLast: {"load", "turn"},
	pcPad: {"cas", "word"}, pcClaim: {"cas", "word"}, pcHelpOwn: {"plain", "hint"}, pcHeader: {"store", "word"},
	pcFill: {"plain", "payload"}, pcCommit: {"cas", "word"}, pcCheck: {"load", "word"}, pcStore: {"plain", "word"}, pcAbort: {"cas", "word"}, pcCleanup: {"cas", "word"},
	pcRing: {"load", "sleep"}, pcRingAgain: {"load", "sleep"}, pcRingWord: {"load", "word"}, pcRingWake: {"wake", "word"},
	pcSeq: {"load", "episode"}, pcFlag: {"store", "waiters"}, pcReleased: {"load", "head"}, pcTake: {"cas", "turn"},
	pcWait: {"wait", "episode"}, pcAskTurn: {"load", "turn"}, pcAskLock: {"ask", "lock"}, pcDropTurn: {"cas", "turn"},
	pcGiveTurn: {"cas", "turn"}, pcUnname: {"store", "pid"}, pcInstance: {"add", "instance"}, pcName: {"store", "pid"},
	pcSweepHead: {"load", "head"}, pcSweepLook: {"load", "word"}, pcSweepNewer: {"load", "head"}, pcSweepSkip: {"cas", "word"},
	pcSweepTurn: {"load", "turn"}, pcSweepGive: {"cas", "turn"}, pcCloseSeq: {"add", "episode"}, pcCloseWake: {"wake", "episode"},
	pcSignOff: {"store", "pid"}, pcUnlock: {"unlock", "lock"},
}

// The steps of the consumer.
const (
	csLook      = iota // w = T[r]
	csScrub            // one word inside the record renewed
	csRead             // one payload cell
	csHead             // head = r
	csRoomFlag         // roomWaiters
	csRoomLook         // how much is free?
	csRoomSwap         // swap roomWaiters to 0
	csRoomSeq          // roomSeq++
	csRoomWake         // FUTEX_WAKE(roomSeq, a few)
	csRoomMore         // CAS roomWaiters: 0 -> set
	csSleep            // sleep = {r, episode, mode}
	csBarrier          // membarrier, one claimant after the other
	csFutex            // FUTEX_WAIT(T[r]): compare and sleep
	csAsleep           // in the kernel
	csAwake            // sleep = {0, episode, awake}
	csLock             // the owner's byte
	csReload           // mutant: T[r] once more
	csSkip             // CAS T[r]: BUSY -> SKIP
	csTakeLoad         // successor: the episode in sleep
	csTakeSleep        // successor: sleep = {0, episode, awake}
	csTakeHead         // successor: head
	csTakeSeq          // successor: roomSeq++
	csTakeWake         // successor: FUTEX_WAKE(roomSeq, all)
)

var consumerSteps = [...]access{
	csAsleep: {"", "asleep"},
	csLook:   {"load", "word"}, csScrub: {"store", "word"}, csRead: {"load", "payload"}, csHead: {"store", "head"},
	csRoomFlag: {"load", "waiters"}, csRoomLook: {"load", "hint"}, csRoomSwap: {"swap", "waiters"}, csRoomSeq: {"add", "episode"},
	csRoomWake: {"wake", "episode"}, csRoomMore: {"cas", "waiters"}, csSleep: {"store", "sleep"}, csBarrier: {"membarrier", "buffers"}, csFutex: {"wait", "word"},
	csAwake: {"store", "sleep"}, csLock: {"ask", "lock"}, csReload: {"load", "word"}, csSkip: {"cas", "word"},
	csTakeLoad: {"load", "sleep"}, csTakeSleep: {"store", "sleep"}, csTakeHead: {"load", "head"}, csTakeSeq: {"add", "episode"},
	csTakeWake: {"wake", "episode"},
}

// The steps of a question whether a slot is alive.
const (
	asIdle = iota
	asTurn // turn
	asLock // the slot's byte
	asDrop // CAS turn: the slot's -> 0
)

// The steps of a look at a seat.
const (
	rdIdle     = iota
	rdInstance // instance
	rdPID      // pid
	rdAgain    // instance, once more
)

var (
	askerSteps  = [...]access{asTurn: {"load", "turn"}, asLock: {"ask", "lock"}, asDrop: {"cas", "turn"}}
	readerSteps = [...]access{rdInstance: {"load", "instance"}, rdPID: {"load", "pid"}, rdAgain: {"load", "instance"}}
)
