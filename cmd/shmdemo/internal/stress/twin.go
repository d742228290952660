package stress

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/shmrouter/shmrouter/shm"
)

// A twin sleeps as the consumer does in front of a claim, in naps of a millisecond, and
// notes how much later than it asked it goes on. Whatever keeps it waiting, keeps the
// consumer waiting: other programs, a place in the Go scheduler, the machine below this one.
type twin struct {
	word atomic.Uint32 // nobody changes it

	mu     sync.Mutex
	late   [64]tardy // the last ones
	n      int
	due    int64 // when the nap under way is to end
	asleep bool
}

// tardy is a time for which the twin was due, and did not run.
type tardy struct{ from, to int64 }

const (
	twinNap = int64(time.Millisecond) // the consumer's between two questions to the kernel
	twinLag = int64(200 * time.Microsecond)
)

func (w *twin) watch(quit <-chan struct{}) {
	for {
		select {
		case <-quit:
			return
		default:
		}
		w.begin(shm.Now() + twinNap)
		shm.FutexWait(&w.word, 0, w.due)
		w.end(shm.Now())
	}
}

func (w *twin) begin(due int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.due, w.asleep = due, true
}

func (w *twin) end(now int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asleep = false
	if now-w.due > twinLag {
		w.late[w.n%len(w.late)] = tardy{w.due, now}
		w.n++
	}
}

// since returns for how long, between then and now, the twin was due and did not run.
func (w *twin) since(then, now int64) (kept time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.late[:min(w.n, len(w.late))] {
		kept += time.Duration(max(0, min(l.to, now)-max(l.from, then)))
	}
	if w.asleep {
		kept += time.Duration(max(0, now-max(w.due, then)))
	}
	return kept
}
