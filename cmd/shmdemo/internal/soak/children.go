package soak

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/stress"
)

// adopt makes programs that a killed worker leaves behind children of this process: so they
// can be waited for, and whoever is not shows as a zombie.
func adopt() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// orphans are dead children that nobody here has started: left behind by a killed worker, which may
// have had a program run, or the runtime try out what the kernel can do.
type orphans struct{ seen map[int]time.Time }

// orphanAge is how long a dead child must have been one: somebody may just have started it.
const orphanAge = 100 * time.Millisecond

// children counts the child processes, and those that are dead and not waited for.
// Orphans among these are waited for now.
func (o *orphans) children() (all, dead uint64) {
	self, now := strconv.Itoa(os.Getpid()), time.Now()
	before := o.seen
	o.seen = map[int]time.Time{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		b, err := os.ReadFile(name)
		from, to := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')') // pid (name) state parent ...
		if err != nil || from < 0 || to < from {
			continue
		}
		f := bytes.Fields(b[to+1:])
		if len(f) < 2 || string(f[1]) != self {
			continue
		}
		all++
		if string(f[0]) != "Z" {
			continue
		}
		dead++
		pid, _ := strconv.Atoi(string(bytes.TrimSpace(b[:from])))
		if stress.IsStarted(pid) {
			continue
		}
		since, old := before[pid]
		if !old {
			since = now
		}
		o.seen[pid] = since
		if now.Sub(since) >= orphanAge {
			unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
	}
	return all, dead
}
