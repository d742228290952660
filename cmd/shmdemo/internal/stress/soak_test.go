package stress

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/ring"
)

func TestOverdue(t *testing.T) {
	const capacity = 1 << 20
	for _, workers := range []int{1, 4, 200} {
		enough := uint64(4*workers*capacity) / ring.Granule
		require.False(t, overdue(0, workers, capacity))
		require.False(t, overdue(enough-1, workers, capacity))
		require.True(t, overdue(enough, workers, capacity))
	}
}
