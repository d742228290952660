package stress

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/shmrouter/shmrouter/shm"
)

// lateness tells for how long this process could not run because others had the
// processors: other programs, or the workers. The promise about recoveries is for a
// consumer that gets a core; what it had to wait for one is subtracted. How long
// each thread has stood in a run queue, the kernel says (schedstat); what the kernel does
// not know, a twin of the consumer shows. The greater of the two is subtracted.
type lateness struct {
	twin    twin
	mu      sync.Mutex
	threads map[int]*os.File // schedstat of each thread, open
	samples [64]runDelays    // the last third of a second
	n       int
	most    time.Duration // that a thread has waited between two samples
}

// runDelays is how long each thread has waited for a processor so far, by thread id, in ns.
type runDelays struct {
	at int64
	by map[int]int64
}

const (
	sampleEvery = 5 * time.Millisecond
	listEvery   = 20 // samples; a new thread counts from the next list on
)

// watch takes samples until quit is closed.
func (l *lateness) watch(quit <-chan struct{}) {
	go l.twin.watch(quit)
	t := time.NewTicker(sampleEvery)
	defer t.Stop()
	for {
		select {
		case <-quit:
			l.close()
			return
		case <-t.C:
			l.sample()
		}
	}
}

func (l *lateness) sample() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n%listEvery == 0 {
		l.list()
	}
	before, now := l.samples[(l.n+len(l.samples)-1)%len(l.samples)], l.read()
	l.most = max(l.most, waited(before, now))
	l.samples[l.n%len(l.samples)] = now
	l.n++
}

func (l *lateness) list() {
	if l.threads == nil {
		l.threads = map[int]*os.File{}
	}
	names, _ := filepath.Glob("/proc/self/task/*/schedstat")
	for _, name := range names {
		tid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if l.threads[tid] == nil {
			if f, err := os.Open(name); err == nil {
				l.threads[tid] = f
			}
		}
	}
}

// read asks the kernel. A thread that is gone is forgotten.
func (l *lateness) read() runDelays {
	d := runDelays{shm.Now(), make(map[int]int64, len(l.threads))}
	var buf [128]byte
	for tid, f := range l.threads {
		n, _ := f.ReadAt(buf[:], 0)
		if fields := bytes.Fields(buf[:n]); len(fields) == 3 { // time run, time waited, times run
			d.by[tid], _ = strconv.ParseInt(string(fields[1]), 10, 64)
			continue
		}
		f.Close()
		delete(l.threads, tid)
	}
	return d
}

func (l *lateness) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.threads {
		f.Close()
	}
	clear(l.threads)
}

// waited returns how long the thread that waited longest did between two readings.
func waited(before, now runDelays) (most time.Duration) {
	for tid, t := range now.by {
		if was, ok := before.by[tid]; ok {
			most = max(most, time.Duration(t-was))
		}
	}
	return most
}

// since returns for how long, since then, this process could not run: a thread waited for a
// processor, or the twin was kept waiting.
func (l *lateness) since(then int64) time.Duration {
	twin := l.twin.since(then, shm.Now())
	l.mu.Lock()
	defer l.mu.Unlock()
	var before runDelays // the last sample that is old enough
	for _, s := range l.samples[:min(l.n, len(l.samples))] {
		if s.at <= then && s.at > before.at {
			before = s
		}
	}
	return max(twin, waited(before, l.read()))
}

// longest returns the longest wait that was seen.
func (l *lateness) longest() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.most
}
