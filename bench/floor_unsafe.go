package bench

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/shmrouter/shmrouter/shm"
)

// The floor: how long it takes until a cache line that one process has written
// is seen by the other, and an answer in another line by the first. No message
// between two processors can be faster. It is measured with plain stores and
// loads, between a receiver and a sender that are pinned.

const (
	floorPing = 0   // offset of the line that the sender writes
	floorPong = 256 // and of the receiver's; not next to it, since neighbours are fetched in pairs

	floorBatch   = 100 // round trips between two looks at the clock
	floorBatches = 200
	floorLimit   = 10 * time.Second // the other side is dead or has no processor
)

// pingFloor returns the median time of a round trip in nanoseconds.
func pingFloor(seg *shm.Segment) (float64, error) {
	ping, pong := seg.Word64(floorPing), seg.Word64(floorPong)
	base := ping.Load()
	took := make([]float64, floorBatches)
	for i := range took {
		start := now()
		for range floorBatch {
			base++
			storePlain(ping, base)
			if err := awaitWord(pong, base); err != nil {
				return 0, err
			}
		}
		took[i] = float64(now()-start) / floorBatch
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// echoFloor answers everything that one pingFloor asks.
func echoFloor(seg *shm.Segment) error {
	ping, pong := seg.Word64(floorPing), seg.Word64(floorPong)
	base := pong.Load()
	for range floorBatch * floorBatches {
		base++
		if err := awaitWord(ping, base); err != nil {
			return err
		}
		storePlain(pong, base)
	}
	return nil
}

// awaitWord spins. Where the other side has not answered for so long it has no
// processor: then this one is given up for a moment, so that on a busy machine
// both come to run at the same time sooner than by the end of their turns.
func awaitWord(w *atomic.Uint64, want uint64) error {
	const (
		looks    = 1 << 10
		patience = time.Millisecond // much longer than a rest takes, or both would rest in turn for ever
		rest     = 50 * time.Microsecond
	)
	for start := int64(0); ; {
		for range looks {
			if w.Load() == want {
				return nil
			}
		}
		switch at := now(); {
		case start == 0:
			start = at
		case at-start > int64(floorLimit):
			return fmt.Errorf("bench: floor: no answer within %v", floorLimit)
		case at-start > int64(patience):
			sleepUntil(at + int64(rest))
		}
	}
}

// storePlain is a store without a fence: sync/atomic's would measure the fence
// as well. Nothing else is published by it, so no order is needed.
func storePlain(w *atomic.Uint64, v uint64) { *(*uint64)(unsafe.Pointer(w)) = v }
