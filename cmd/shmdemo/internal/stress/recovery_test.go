package stress

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// A last message that comes late is the router's fault, unless it has told that a living worker stood in front.
func TestLastMessageIsJudged(t *testing.T) {
	for name, stall := range map[string]bool{"nobody in front": false, "behind a living worker's claim": true} {
		t.Run(name, func(t *testing.T) {
			m := newMeter()
			m.stalled.Store(shm.Now()) // one of before
			var who member
			killed := shm.Now()
			who.killedAt.Store(killed)
			who.lastAt.Store(killed + int64(2*lastBound))
			if stall {
				m.stall(ring.StallEvent{Age: ring.StallAfter + time.Millisecond})
			}
			m.buried(&who)
			res := m.recovered.report()
			if stall {
				assert.Zero(t, res.Over)
				assert.Equal(t, 1, m.stalls.other)
			} else {
				assert.EqualValues(t, 1, res.Over)
				assert.EqualValues(t, 1, res.Unexcused)
			}
		})
	}
}
