package stress

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSizes(t *testing.T) {
	for _, s := range []Sizes{
		{Frame: 8 << 10}, {Frame: 512 << 10}, {Frame: 16 << 20},
		{Frame: 8 << 10, Given: true, Min: 0, Max: 200000}, {Frame: 8 << 10, Given: true, Min: 7, Max: 7}, {Frame: 8 << 10, Given: true},
	} {
		least, most, empty, cut := s.Longest(), 0, 0, 0
		const n = 1 << 18
		for i := range uint64(n) {
			size := s.pick(mix(i))
			least, most = min(least, size), max(most, size)
			if size == 0 {
				empty++
			}
			if size > s.Frame {
				cut++
			}
		}
		require.LessOrEqual(t, most, s.Longest())
		if s.Given {
			require.GreaterOrEqual(t, least, s.Min)
			continue
		}
		require.InDelta(t, 0.025, float64(empty)/n, 0.003)
		require.Positive(t, cut, "some are larger than a frame of %d", s.Frame)
	}
}

// Both ends compute the same, and different messages differ.
func TestPlan(t *testing.T) {
	sizes := Sizes{Frame: 8 << 10}
	a, b := newPlan(1, sizes, 2, 3, newNoise(1)), newPlan(1, sizes, 2, 3, newNoise(1))
	other := newPlan(1, sizes, 3, 2, newNoise(1))
	differ := 0
	for n := uint64(1); n < 2000; n++ {
		require.Equal(t, a.size(n), b.size(n))
		if other.size(n) != a.size(n) {
			differ++
		}
		buf := make([]byte, a.size(n))
		a.fill(buf, n)
		a.seal(buf, n, 99)
		if len(buf) < headerSize {
			require.True(t, b.isShort(buf, n))
			continue
		}
		got, sent, ok := b.open(buf)
		require.True(t, ok)
		require.Equal(t, n, got)
		require.EqualValues(t, 99, sent)
		_, _, ok = other.open(buf)
		require.False(t, ok)
	}
	require.Greater(t, differ, 1000)
}

func TestText(t *testing.T) {
	require.Equal(t, "0", Count(0))
	require.Equal(t, "999", Count(999))
	require.Equal(t, "1,234,567", Count(1234567))
	require.Equal(t, "1.5 KiB", Bytes(1536))
	require.Equal(t, "1.235ms", Time(1234567))
}
