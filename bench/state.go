package bench

import "math"

// State says how far from each other two processors were, by the floor between
// them. In a virtual machine that changes while one looks.
type State string

const (
	SameCore State = "same core" // two threads of one core
	Near     State = "near"      // two cores with one cache between them
	Far      State = "far"       // two such groups, or sockets
	Mixed    State = "mixed"     // probes that disagree
	Unknown  State = "unknown"   // only one processor, or no right to choose between them
)

// Round trips of two cache lines below which processors are so near: between
// the 70, 120 and 430 ns that were seen.
const (
	sameCoreBelow = 90.0
	nearBelow     = 250.0
)

// StateOf is what floors in nanoseconds, measured one after the other, say of
// the time between them.
func StateOf(floors ...float64) State {
	state := Unknown
	for i, f := range floors {
		s := Far
		switch {
		case f == 0 || math.IsNaN(f):
			s = Unknown
		case f < sameCoreBelow:
			s = SameCore
		case f < nearBelow:
			s = Near
		}
		if i > 0 && s != state {
			return Mixed
		}
		state = s
	}
	return state
}
