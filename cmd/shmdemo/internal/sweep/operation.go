package sweep

// operation is something that a victim does between two markers, and the world in which it does it.
type operation struct {
	name string

	// The victim's part, in its own process.
	setup func(a *actor) error
	run   func(a *actor) (outcome, error)

	// The world of a ring. The neighbour's frames bring the first free granule to position at, and backlog
	// frames more are sent and not yet consumed.
	at      uint64
	backlog int
	corpse  func(a *actor) error            // what a process does there that is then killed, before the victim comes
	after   func(w *ringWorld) error        // what the neighbour does behind that
	full    bool                            // the ring is filled up
	asleep  bool                            // the consumer sleeps when the victim begins
	cas     bool                            // the consumer has no barriers, so commits are no plain stores
	reads   bool                            // the victim is the consumer, or about to be
	unblock func(w *ringWorld, n int) error // how a survivor lets the victim go on, which sleeps for the n-th time

	makes  int  // the victim makes or opens a segment: makesPath, makesMemory
	routed bool // the survivors are a router and another of its senders

	// What is promised about the victim's messages.
	none    bool // what it has not acknowledged was given up: it does not arrive
	atomic  bool // all or nothing
	refused bool // its call fails, as it should
	pairs   int  // asFirst, asSecond: what it may be in a pair
}

// outcome is how an operation ends.
type outcome = uint64

const (
	asFirst = 1 << iota
	asSecond
)

const (
	makesPath = 1 + iota
	makesMemory
	opensPath
)

// The ring has 1024 granules, and a message of frameSize takes four.
const (
	lap       = 1024
	midLap    = lap + 300
	manyTakes = 100 // messages that a Poll takes at most
)

// operations are all there are, in the order of the report.
var operations = concat(producing, consuming, making, routing)

func concat(groups ...[]*operation) (all []*operation) {
	for _, g := range groups {
		all = append(all, g...)
	}
	return all
}

func operationNamed(name string) *operation {
	for _, o := range operations {
		if o.name == name {
			return o
		}
	}
	return nil
}

// Names are those of all operations.
func Names() (names []string) {
	for _, o := range operations {
		names = append(names, o.name)
	}
	return names
}

// ended makes an outcome of an error.
func ended(err error) (outcome, error) {
	if err != nil {
		return failure, err
	}
	return success, nil
}
