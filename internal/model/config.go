package model

// Msg is one message of a claimant's script.
type Msg struct {
	Granules uint8
	Abort    bool // aborted instead of committed
	Claim    bool // handed out to be filled in place, as one that is aborted or dropped is
	Drop     bool // claimed and forgotten: the cleanup aborts it
	Try      bool // TrySend: one attempt, then given up
	Cancel   bool // a wait for room may be cancelled
	Await    bool // no message: waits until the consumer has released what was claimed before
}

// isClaim says whether the message is a claim in its caller's hands, which keeps the slot while it is open.
func (g Msg) isClaim() bool { return g.Claim || g.Abort || g.Drop }

// Script is what one claimant sends, at most eight messages.
type Script []Msg

// Sends is a script of plain messages of the given granules.
func Sends(granules ...uint8) Script {
	s := make(Script, len(granules))
	for i, n := range granules {
		s[i].Granules = n
	}
	return s
}

// Config bounds one exploration. Everything within the bounds is explored.
type Config struct {
	Name    string
	Scripts []Script
	Slots   []uint8 // slot of each claimant; nil gives each its own
	Start   uint8   // position at which the ring begins
	Batch   uint8   // records per release at most
	Help    uint8   // a claimant stores the hint when it crosses a multiple of this

	Bell     bool // the consumer sleeps and is rung; otherwise it polls
	Room     bool // a full ring is waited for; otherwise tried again at once
	Timeouts bool // timed waits may end by themselves
	NoSpin   bool // a waiter for room does not look once more before it announces itself
	Scrub    bool // the consumer renews the words inside every record, not only in one lap of 2³²
	Leave    bool // the first claimant of a process that is done closes the attachment, once its siblings are at rest
	Names    bool // processes write instance and pid to their seat, and somebody reads them

	Kills    uint8 // producer processes killed, at most
	Rebirths uint8 // slots taken again after a kill or a leave, at most
	Crashes  uint8 // consumers killed, at most; each has a successor
	Asks     uint8 // questions whether a slot is alive, by the consumer's process, at most

	Quarter uint8 // what the turn keeps free, and what a release must have freed to wake waiters
	Large   uint8 // frames from this size on take the turn after their first wake

	Buffers uint8  // store buffer entries of a claimant, for plain stores: 0 makes them sequentially consistent
	Commit  Commit // how a record is committed

	Mutant Mutant
}

// Commit is the instruction by which a claimant commits.
type Commit uint8

const (
	ByCAS   Commit = iota // where there are no barriers, and on every processor whose atomic stores are in order with loads
	ByStore               // a plain store, with a membarrier on the sleeper's side
)

// model is a configuration in exploration.
type model struct {
	Config
	fault     *Violation
	successor state // the one that successors yields
}

func newModel(c Config) *model {
	if c.Batch == 0 {
		c.Batch = 2
	}
	if c.Help == 0 {
		c.Help = 2
	}
	if c.Quarter == 0 {
		c.Quarter = 2
	}
	if c.Large == 0 {
		c.Large = 2
	}
	return &model{Config: c}
}

func (m *model) slot(i int) uint8 {
	if m.Slots == nil {
		return uint8(i)
	}
	return m.Slots[i]
}

// owner is the value of claimant i's slot in a header word.
func (m *model) owner(i int) uint8 { return m.slot(i) + 1 }

func (m *model) message(s *state, i int) Msg { return m.Scripts[i][s.claimants[i].msg] }

// identity is the payload value that message msg of claimant i writes to each of its cells.
func identity(i int, msg uint8) uint8 { return uint8(i+1)<<4 | msg }
