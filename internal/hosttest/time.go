package hosttest

import (
	"sync/atomic"
	"time"
)

// nap is the unit of OwnTime.
const nap = 10 * time.Millisecond

// OwnTime measures time by naps of this process, one after the other, from when begun first holds, until
// stop. Each takes as much longer as the process waits for a processor afterwards, so that on a busy machine
// less has passed than by the clock. A bound that is promised to a process which gets a processor is judged by it.
func OwnTime(begun func() bool) (passed func() time.Duration, stop func()) {
	var naps atomic.Int64
	var quit atomic.Bool
	go func() {
		for on := false; !quit.Load(); on = on || begun() {
			if time.Sleep(nap); on {
				naps.Add(1)
			}
		}
	}()
	return func() time.Duration { return time.Duration(naps.Load()) * nap }, func() { quit.Store(true) }
}
