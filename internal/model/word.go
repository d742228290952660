package model

import "fmt"

// H is the capacity of the ring in granules.
const H = 4

// The states of a header word.
const (
	free   = iota // never claimed
	busy          // claimed, owned by a slot
	commit        // visible to the consumer
	skip          // aborted, or a PAD, or its owner died
)

// padOwner stands in the owner field of a PAD: a complete record that belongs to nobody.
const padOwner = 7

// word is a header word: state in bits 0–1, tag in 2–6, owner in 7–9, granules in 10–12. The tag is the lap plus one,
// so a word that was never written has an older tag than every lap.
type word uint16

const tagShift = 2

func makeWord(state uint8, pos uint8, owner uint8, granules uint8) word {
	return word(state) | word(tagOf(pos))<<tagShift | word(owner)<<7 | word(granules)<<10
}

func (w word) state() uint8    { return uint8(w) & 3 }
func (w word) tag() uint8      { return uint8(w>>2) & 31 }
func (w word) owner() uint8    { return uint8(w>>7) & 7 }
func (w word) granules() uint8 { return uint8(w >> 10) }

// with returns the word in another state.
func (w word) with(state uint8) word { return w&^3 | word(state) }

// futexHalf is what FUTEX_WAIT compares: state and tag, neither owner nor granules.
func (w word) futexHalf() word { return w & 0x7f }

func (w word) String() string {
	if w == 0 {
		return "-"
	}
	name := [...]string{"FREE", "BUSY", "COMMIT", "SKIP"}[w.state()]
	return fmt.Sprintf("%s/tag%d/owner%d/n%d", name, w.tag(), w.owner(), w.granules())
}

func tagOf(pos uint8) uint8 { return pos/H + 1 }
func index(pos uint8) uint8 { return pos % H }

// age tells how a word's tag stands to the tag that a position asks for.
type age int

const (
	older   age = -1
	current age = 0
	newer   age = 1
)

func (m *model) age(w word, pos uint8) age {
	if m.Mutant == NoLapTag {
		if w.state() == free {
			return older
		}
		return current
	}
	switch d := int(w.tag()) - int(tagOf(pos)); {
	case d < 0:
		return older
	case d > 0:
		return newer
	}
	return current
}

// valid says whether a current word's granules stay within the lap.
func valid(w word, pos uint8) bool {
	return w.granules() >= 1 && w.granules() <= H-index(pos)
}
