package ring

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestHeaderFields(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := state(rapid.IntRange(0, 3).Draw(t, "state"))
		tag := rapid.Uint64Range(0, tagMask).Draw(t, "tag")
		owner := rapid.IntRange(0, ownerMask).Draw(t, "owner")
		g := rapid.Uint64Range(0, 1<<(64-granuleShift)-1).Draw(t, "granules")
		h := makeHeader(s, tag, owner, g)
		require.Equal(t, s, h.state())
		require.Equal(t, tag, h.tag())
		require.Equal(t, owner, h.owner())
		require.Equal(t, g, h.granules())
		require.True(t, h.is(s))
		for other := free; other <= skip; other++ {
			w := h.with(other)
			require.Equal(t, makeHeader(other, tag, owner, g), w)
			require.Equal(t, other == s, h.is(other))
			if other != s {
				require.NotEqual(t, h.low(), w.low(), "the sleeper does not see the state")
			}
		}
		require.NotEqual(t, h.low(), makeHeader(s, (tag+1)&tagMask, owner, g).low(), "the sleeper does not see the lap")
		require.Zero(t, h.age(tag))
	})
}

// Two laps of the same word are told apart around every power of two, also
// where the tag begins again at 0.
func TestHeaderAge(t *testing.T) {
	for _, lap := range []uint64{0, 1, 1<<30 - 1, 1 << 32, 1<<33 - 1, tagMask - 3, tagMask - 1, tagMask, 0} {
		for d := int64(-3); d <= 3; d++ {
			w := makeHeader(commit, (lap+uint64(d))&tagMask, 7, 1)
			assert.Equal(t, d, w.age(lap), "lap %d, word of %+d", lap, d)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		tag := rapid.Uint64Range(0, tagMask).Draw(t, "tag")
		d := rapid.Int64Range(-1<<(tagBits-1), 1<<(tagBits-1)-1).Draw(t, "distance")
		require.Equal(t, d, makeHeader(skip, (tag+uint64(d))&tagMask, 0, 1).age(tag))
	})
}

func TestStateNames(t *testing.T) {
	assert.Equal(t, "FREE BUSY COMMIT SKIP", free.String()+" "+busy.String()+" "+commit.String()+" "+skip.String())
}

func TestInfoFields(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		length := rapid.IntRange(0, void).Draw(t, "length")
		meta := rapid.Uint64Range(0, metaMask).Draw(t, "meta")
		l, m := splitInfo(makeInfo(length, meta))
		require.Equal(t, length, l)
		require.Equal(t, meta, m)
	})
}

func TestSleepWord(t *testing.T) {
	const near = 1 << (sleepPosBits - 1)
	rapid.Check(t, func(t *rapid.T) {
		pos := rapid.Uint64().Draw(t, "position")
		episode := rapid.Uint64().Draw(t, "episode")
		mode := sleepWord(rapid.IntRange(0, 2).Draw(t, "mode"))
		d := rapid.Int64Range(-near+1, near).Draw(t, "distance of who looks")
		s := makeSleep(pos, episode, mode)
		require.Equal(t, mode, s.mode())
		require.Equal(t, episode&episodeMask, s.episode())
		require.Equal(t, pos, s.position(pos+uint64(d)))
	})
}

// A producer that was quiet for a long time knows only a position far behind
// the sleeper. It may ring too often then, but never take the sleeper's lap
// for one still to come, which would lose the wake.
func TestSleepWordFromFarBehind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		near := rapid.Uint64Range(0, 1<<50).Draw(t, "near")
		ahead := rapid.Uint64Range(0, 1<<40).Draw(t, "ahead")
		pos := near + ahead
		got := makeSleep(pos, 1, idle).position(near)
		require.Zero(t, (got-pos)&(1<<sleepPosBits-1), "another granule")
		require.LessOrEqual(t, int64(got-pos), int64(0))
	})
}

func TestGranulesFor(t *testing.T) {
	for n, want := range map[int]uint64{0: 1, 1: 1, 63: 1, 64: 1, 65: 2, 128: 2, 129: 3, maxFrame: maxGranules} {
		assert.Equal(t, want, granulesFor(n), "%d bytes", n)
	}
}

// Positions, tags and what is left of a lap follow from each other.
func TestPositions(t *testing.T) {
	r, err := NewHeap(Options{Capacity: MinCapacity})
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		pos := rapid.Uint64().Draw(t, "position")
		require.Equal(t, r.size, r.rest(pos)+pos%r.size)
		require.Equal(t, (pos/r.size+1)%(1<<tagBits), r.tag(pos))
		require.Equal(t, r.entry(pos), r.entry(pos+r.size))
		require.False(t, r.valid(pos, 0))
		require.True(t, r.valid(pos, r.rest(pos)))
		require.False(t, r.valid(pos, r.rest(pos)+1))
	})
	require.NoError(t, r.Close())
}
