package model

// Msg is one message of a claimant's script.
type Msg struct {
	Granules uint8
	Abort    bool // aborted instead of committed
	Drop     bool // claimed and forgotten: only leaving the ring ends it
	Try      bool // TrySend: one attempt, then given up
	Cancel   bool // a wait for room may be cancelled
}

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
	Leave    bool // a process whose scripts are done leaves the ring

	Kills    uint8 // producer processes killed, at most
	Rebirths uint8 // slots taken again after a kill or a leave, at most
	Crashes  uint8 // consumers killed, at most; each has a successor

	Quarter uint8 // what the turn keeps free, and what a release must have freed to wake waiters

	Mutant Mutant
}

// large is the size from which a waiter takes the turn after its first failed wake.
const large = 2

// model is a configuration in exploration.
type model struct {
	Config
	fault *Violation
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
