package ring

import (
	"fmt"
	"testing"

	"github.com/shmrouter/shmrouter/internal/model"
	"github.com/stretchr/testify/require"
)

// The state model has words of its own, of 16 bits, for a ring of four granules. What it says of a word must be what the
// ring says: every word of the model, made at one position and judged at another, against the same word of the smallest ring,
// whose granules come in 256 for each of the model's.
func TestWordsAreTheModels(t *testing.T) {
	r, err := NewHeap(Options{Capacity: MinCapacity})
	require.NoError(t, err)
	defer r.Close()
	scale := r.size / model.H
	at := func(p uint8) uint64 { return uint64(p) * scale }
	owner := func(o uint8) int {
		if o == model.PadOwner {
			return ownerNone
		}
		return int(o) - 1 // the model counts slots from 1
	}
	type pair struct {
		small uint16
		large header
	}
	var words []pair
	where := map[uint16]string{}
	const positions = 7 * model.H
	for pos := range uint8(positions) {
		for s := free; s <= skip; s++ {
			for _, o := range []uint8{1, 2, 3, model.PadOwner} {
				for g := range uint8(model.H + 1) {
					w := pair{model.MakeWord(uint8(s), pos, o, g), makeHeader(s, r.tag(at(pos)), owner(o), uint64(g)*scale)}
					words = append(words, w)
					where[w.small] = fmt.Sprintf("%v made at %d, owner %d, granules %d", s, pos, o, g)
					require.Equal(t, s, w.large.state())
					require.Equal(t, owner(o), w.large.owner())
					for _, to := range []state{commit, skip} {
						require.Equal(t, makeHeader(to, r.tag(at(pos)), owner(o), uint64(g)*scale), w.large.with(to))
						require.Equal(t, model.MakeWord(uint8(to), pos, o, g), model.WithState(w.small, uint8(to)))
					}
				}
			}
		}
	}
	words = append(words, pair{}) // never written
	for _, w := range words {
		for pos := range uint8(positions) {
			age := w.large.age(r.tag(at(pos)))
			switch model.Age(w.small, pos) {
			case -1:
				require.Negative(t, age, "%s, judged at %d", where[w.small], pos)
			case 0:
				require.Zero(t, age, "%s, judged at %d", where[w.small], pos)
			default:
				require.Positive(t, age, "%s, judged at %d", where[w.small], pos)
			}
			require.Equal(t, model.Fits(w.small, pos), r.valid(at(pos), w.large.granules()), "%s, judged at %d", where[w.small], pos)
		}
	}
	// What FUTEX_WAIT compares tells the same words apart.
	small, large := map[uint16]uint32{}, map[uint32]uint16{}
	for _, w := range words {
		s, l := model.FutexHalf(w.small), w.large.low()
		if was, ok := small[s]; ok {
			require.Equal(t, was, l, "%s", where[w.small])
		}
		if was, ok := large[l]; ok {
			require.Equal(t, was, s, "%s", where[w.small])
		}
		small[s], large[l] = l, s
	}
}
