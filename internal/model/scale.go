package model

// What the ring's tests compare its header functions with.

// MakeWord is a header word of the model: states are numbered as in the ring.
func MakeWord(state, pos, owner, granules uint8) uint16 {
	return uint16(makeWord(state, pos, owner, granules))
}

// Age is -1 for a word older than the record that pos asks for, 0 for its own, 1 for a newer one.
func Age(w uint16, pos uint8) int { return int((&model{}).age(word(w), pos)) }

// Fits says whether the record stays within its lap.
func Fits(w uint16, pos uint8) bool { return valid(word(w), pos) }

// FutexHalf is what the sleeping consumer's kernel compares.
func FutexHalf(w uint16) uint16 { return uint16(word(w).futexHalf()) }

// WithState is the word in another state.
func WithState(w uint16, state uint8) uint16 { return uint16(word(w).with(state)) }

// PadOwner stands in the owner field of a PAD.
const PadOwner = padOwner
