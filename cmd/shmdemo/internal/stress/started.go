package stress

import "sync"

// started are the processes that this one has started and not yet waited for.
var started struct {
	mu   sync.Mutex
	pids map[int]bool
}

func noteStarted(pid int) {
	started.mu.Lock()
	defer started.mu.Unlock()
	if started.pids == nil {
		started.pids = map[int]bool{}
	}
	started.pids[pid] = true
}

func noteWaited(pid int) {
	started.mu.Lock()
	defer started.mu.Unlock()
	delete(started.pids, pid)
}

// IsStarted reports whether somebody here waits for the process.
func IsStarted(pid int) bool {
	started.mu.Lock()
	defer started.mu.Unlock()
	return started.pids[pid]
}
