package stress

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTwin(t *testing.T) {
	var w twin
	w.begin(1e6)
	require.Zero(t, w.since(0, 1e6))
	require.Equal(t, 2*time.Millisecond, w.since(0, 3e6), "the nap under way")
	require.Equal(t, time.Millisecond, w.since(2e6, 3e6), "what came before does not count")
	w.end(4e6)
	w.begin(5e6)
	w.end(5e6 + twinLag) // as late as anybody
	w.begin(10e6)
	w.end(12e6)
	require.Equal(t, 5*time.Millisecond, w.since(0, 20e6))
	require.Equal(t, 3*time.Millisecond, w.since(3e6, 20e6))
	require.Equal(t, time.Millisecond, w.since(5e6, 11e6))
	require.Zero(t, w.since(13e6, 20e6))
}
