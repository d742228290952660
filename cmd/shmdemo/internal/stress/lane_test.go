package stress

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// testLane returns a lane and what its messages 1 to n look like.
func testLane(sizes Sizes, n uint64) (*lane, func(n uint64) []byte) {
	sizes.Frame = 512 << 10
	p := newPlan(7, sizes, 1, 2, newNoise(7))
	return newLane(p), func(n uint64) []byte {
		b := make([]byte, p.size(n))
		p.fill(b, n)
		p.seal(b, n, int64(n))
		return b
	}
}

var withHeader = Sizes{Given: true, Min: headerSize, Max: 300}

func TestLane(t *testing.T) {
	for _, c := range []struct {
		name        string
		arrive      []uint64
		sent, acked uint64
		want        tally
	}{
		{"all", []uint64{1, 2, 3}, 3, 3, tally{delivered: 3}},
		{"none", nil, 0, 0, tally{}},
		{"died before the send", []uint64{1, 2}, 3, 2, tally{delivered: 2}},
		{"died before the note", []uint64{1, 2, 3}, 3, 2, tally{delivered: 3}},
		{"last lost", []uint64{1, 2}, 3, 3, tally{delivered: 2, lost: 1}},
		{"first lost", []uint64{2, 3}, 3, 3, tally{delivered: 2, lost: 1}},
		{"two in the middle lost", []uint64{1, 4}, 4, 4, tally{delivered: 2, lost: 2}},
		{"again", []uint64{1, 2, 2, 3, 1}, 3, 3, tally{delivered: 3, duplicated: 2}},
		{"again while another is missing", []uint64{1, 3, 3}, 3, 3, tally{delivered: 2, duplicated: 1, lost: 1}},
		{"exchanged", []uint64{1, 3, 2, 4}, 4, 4, tally{delivered: 4, reordered: 1}},
		{"never sent", []uint64{1, 2, 3}, 2, 2, tally{delivered: 3, invented: 1}},
		{"part of a batch", []uint64{1, 2, 3}, 5, 2, tally{delivered: 3, partial: 1}},
		{"whole batch", []uint64{1, 2, 3, 4, 5}, 5, 2, tally{delivered: 5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, msg := testLane(withHeader, 10)
			for _, n := range c.arrive {
				sent := l.arrive(msg(n))
				require.EqualValues(t, n, sent)
			}
			l.settle(c.sent, c.acked)
			l.tally.bytes = 0
			require.Equal(t, c.want, l.tally)
			good := c.want.lost+c.want.duplicated+c.want.reordered+c.want.invented+c.want.partial == 0
			require.Equal(t, good, l.complaint() == "", l.complaint())
		})
	}
}

func TestLaneTorn(t *testing.T) {
	damage := map[string]func(b []byte) []byte{
		"payload": func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"header":  func(b []byte) []byte { b[9] ^= 1; return b },
		"sum":     func(b []byte) []byte { b[0] ^= 1; return b },
		"shorter": func(b []byte) []byte { return b[:len(b)-1] },
		"longer":  func(b []byte) []byte { return append(b, 0) },
		"empty":   func([]byte) []byte { return nil },
		"zeros":   func(b []byte) []byte { clear(b); return b },
	}
	for name, tear := range damage {
		t.Run(name, func(t *testing.T) {
			l, msg := testLane(withHeader, 3)
			l.arrive(msg(1))
			l.arrive(tear(append([]byte(nil), msg(2)...)))
			l.arrive(msg(3))
			l.settle(3, 3)
			l.tally.bytes = 0
			require.Equal(t, tally{delivered: 2, torn: 1}, l.tally)
		})
	}
	t.Run("of somebody else", func(t *testing.T) {
		l, _ := testLane(withHeader, 1)
		other := newPlan(7, l.plan.sizes, 1, 3, newNoise(7))
		b := make([]byte, other.size(1))
		other.fill(b, 1)
		other.seal(b, 1, 1)
		l.arrive(b)
		require.EqualValues(t, 1, l.torn)
	})
}

// Messages too short to say their number are told apart by their place and bytes.
func TestLaneShort(t *testing.T) {
	sizes := Sizes{Given: true, Min: 0, Max: 200}
	const n = 300
	l, msg := testLane(sizes, n)
	for i := uint64(1); i <= n; i++ {
		l.arrive(msg(i))
	}
	l.settle(n, n)
	require.Empty(t, l.complaint())
	require.EqualValues(t, n, l.delivered)

	for lost := uint64(1); lost < 50; lost++ {
		l, msg := testLane(sizes, n)
		for i := uint64(1); i <= n; i++ {
			if i != lost {
				l.arrive(msg(i))
			}
		}
		l.settle(n, n)
		require.NotEmpty(t, l.complaint())
		require.EqualValues(t, 1, l.lost, "message %d, of %d bytes: %s", lost, l.plan.size(lost), l.complaint())
	}
}

// A lane that has lost something does not grow with what comes after it.
func TestLaneBounded(t *testing.T) {
	l, msg := testLane(withHeader, 1)
	const n = 10 * aheadMax
	for i := uint64(1); i <= n; i++ {
		if i%1000 != 0 {
			l.arrive(msg(i))
		}
		require.LessOrEqual(t, len(l.ahead), aheadMax)
	}
	l.settle(n, n)
	require.EqualValues(t, n/1000, l.lost)
	require.EqualValues(t, n-n/1000, l.delivered)
	require.Zero(t, l.torn+l.duplicated+l.reordered+l.invented)
}

// A new life of the main process may deliver again what the one before has not released.
func TestLaneRepeated(t *testing.T) {
	type arrival struct {
		n      uint64
		life   int
		marked bool
	}
	first := []arrival{{1, 1, false}, {2, 1, false}, {3, 1, false}, {4, 1, false}}
	for _, c := range []struct {
		name   string
		second []arrival
		again  int
		want   tally
	}{
		{"nothing again", []arrival{{5, 2, false}}, 0, tally{delivered: 5}},
		{"the last two", []arrival{{3, 2, true}, {4, 2, true}, {5, 2, true}, {6, 2, false}}, 2, tally{delivered: 6}},
		{"in each life", []arrival{{4, 2, true}, {5, 2, false}, {5, 3, true}, {6, 3, true}}, 2, tally{delivered: 6}},
		{"only again", []arrival{{3, 2, true}, {4, 2, true}}, 2, tally{delivered: 4}},
		{"without a mark", []arrival{{4, 2, false}}, 0, tally{delivered: 4, duplicated: 1}},
		{"in the same life", []arrival{{4, 1, true}}, 0, tally{delivered: 4, duplicated: 1}},
		{"behind a new one", []arrival{{5, 2, true}, {4, 2, true}}, 0, tally{delivered: 5, duplicated: 1}},
		{"a gap", []arrival{{2, 2, true}, {4, 2, true}}, 1, tally{delivered: 4, duplicated: 1}},
		{"a gap before the new ones", []arrival{{2, 2, true}, {5, 2, true}}, 1, tally{delivered: 5, reordered: 1}},
		{"twice in one life", []arrival{{3, 2, true}, {3, 2, true}}, 1, tally{delivered: 4, duplicated: 1}},
		{"lost between two lives", []arrival{{6, 2, true}}, 0, tally{delivered: 5, lost: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, msg := testLane(withHeader, 8)
			again, last := 0, uint64(0)
			for _, a := range append(first[:len(first):len(first)], c.second...) {
				if last = max(last, a.n); l.repeated(msg(a.n), a.life, a.marked) {
					again++
				} else {
					l.arrive(msg(a.n))
				}
			}
			l.settle(last, last)
			l.tally.bytes = 0
			require.Equal(t, c.want, l.tally)
			require.Equal(t, c.again, again)
			require.Equal(t, c.want != tally{delivered: c.want.delivered}, l.complaint() != "")
		})
	}
}
