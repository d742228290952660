package model

// Mutant names a protocol that differs from the ring's in one respect.
type Mutant string

// Mutants that lose, tear, refuse or forget something. Each must be found out.
const (
	TailFirst       Mutant = "tail first"                          // claim moves a tail, then writes the header
	NoLapTag        Mutant = "no lap tag"                          // a word is free or not; the consumer zeroes what it has read
	SkipLiving      Mutant = "skip a living owner"                 // BUSY is skipped without asking the kernel
	DeathRemembered Mutant = "a death is remembered"               // the lock's answer serves for later words of the slot
	NoSweep         Mutant = "no sweep"                            // attach leaves its predecessor's claims
	WakeOwnRecord   Mutant = "wake only at my own record"          // ring compares the sleeper's position with its own
	WaitWithoutCmp  Mutant = "FUTEX_WAIT without compare"          // the consumer sleeps whatever the word has become
	HintOnly        Mutant = "hint without largest of"             // the search begins at the hint, and so does every new start
	PadStore        Mutant = "pad by plain store"                  // no compare when the PAD is written
	QuietAbort      Mutant = "abort without ringing"               // what waits behind the claim is not told
	HeadFirst       Mutant = "head published before read"          // a record's space is released, then its payload read
	CommitFirst     Mutant = "commit before fill"                  // a record is visible, then filled
	NoRecheck       Mutant = "no second look after roomWaiters"    // the waiter sleeps on what it saw before it set the flag
	SeqAfterFlag    Mutant = "roomSeq loaded after roomWaiters"    // the waiter's two steps the other way round
	WakeOneWaiter   Mutant = "wake a few room waiters"             // the others sleep on, and their flag is gone
	RestUnminded    Mutant = "rest with waiters left"              // who was woken may be dead, and nobody wakes the others
	TurnForever     Mutant = "turn never cleared after death"      // neither by a waiter nor by the slot's next holder
	EpisodeRestart  Mutant = "episodes start anew after takeover"  // a new consumer counts from 1
	QuietTakeover   Mutant = "takeover does not wake room waiters" // whom the dead consumer may have owed a wake
	ShortSleepLap   Mutant = "sleep position without its high lap" // compared modulo two laps, and settled whatever FUTEX_WAKE says
	LeaveEarly      Mutant = "leave while a sibling still fills"   // the sweep takes a living claim
	NameLate        Mutant = "instance raised before pid is 0"     // a reader takes the dead holder's pid for the new one's
	NoMembarrier    Mutant = "commit by store, no membarrier"      // the commit waits in the buffer while the sleep word is loaded
	Unregistered    Mutant = "a process that is not registered"    // commits by store, and the membarrier passes it by
)

// Mutants that are harmless: the rule they leave out is there for speed, or another one suffices.
const (
	HintStart        Mutant = "search begins at the hint alone"    // but a newer tag leads to head
	NoHelp           Mutant = "nobody moves the hint"              // the search walks from its own end, or from head
	QuietPad         Mutant = "a full TrySend does not ring"       // not even behind a PAD of its own
	RungUnheeded     Mutant = "rung, woken or not"                 // the episode is settled whatever FUTEX_WAKE says
	ShortSleepHeeded Mutant = "short sleep lap, FUTEX_WAKE heeded" // ShortSleepLap, but settled only by a wake that arrived
	ReloadBeforeSkip Mutant = "reload the word before the skip"    // word, lock, word again, CAS: at r it is the same record
)
