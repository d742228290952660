package soak

import (
	"bytes"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"time"
)

// resource is one of the things that must not grow.
type resource int

const (
	rss resource = iota
	heap
	descriptors
	threads
	goroutines
	mappings
	files
	processes
	zombies
	resources // how many there are
)

// kinds says how each is named, and by how much it may grow over the measured time without
// being called a leak: at rest, and under way, where it is the least of each epoch
// that counts. Memory and threads are kept by the runtime for later, and settle slowly.
var kinds = [resources]struct {
	name           string
	bytes          bool
	atRest, atWork float64
}{
	rss:         {"resident memory", true, 6 << 20, 24 << 20},
	heap:        {"live heap", true, 1 << 20, 24 << 20},
	descriptors: {"descriptors", false, 2, 48},
	threads:     {"threads", false, 12, 24},
	goroutines:  {"goroutines", false, 2, 24},
	mappings:    {"mappings", false, 6, 32},
	files:       {"files", false, 0.5, 4},
	processes:   {"child processes", false, 0.5, 16},
	zombies:     {"zombies", false, 0.5, 8},
}

// Sample is what this process used at one moment.
type Sample struct {
	At    int64             `json:"at_ns"` // since the soak began
	Epoch int               `json:"epoch"`
	Value [resources]uint64 `json:"values"`
}

// sample measures. The heap is what the last collection found alive.
func (s *Soak) sample() (v Sample) {
	v.At, v.Epoch = int64(time.Since(s.began)), s.epoch
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := bytes.Fields(b); len(f) > 1 {
			pages, _ := strconv.ParseUint(string(f[1]), 10, 64)
			v.Value[rss] = pages * uint64(os.Getpagesize())
		}
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	if metrics.Read(live); live[0].Value.Kind() == metrics.KindUint64 {
		v.Value[heap] = live[0].Value.Uint64()
	}
	v.Value[descriptors] = entries("/proc/self/fd")
	v.Value[threads] = entries("/proc/self/task")
	v.Value[goroutines] = uint64(runtime.NumGoroutine())
	if b, err := os.ReadFile("/proc/self/maps"); err == nil {
		v.Value[mappings] = uint64(bytes.Count(b, []byte("\n")))
	}
	v.Value[files] = entries(s.dir)
	v.Value[processes], v.Value[zombies] = s.orphans.children()
	return v
}

// rested measures at rest. What has just ended may take a moment to be gone, so it
// is the least of several samples that counts, until they are what they were at
// the rest before.
func (s *Soak) rested() Sample {
	debug.FreeOSMemory()
	least := s.sample()
	for range 30 {
		if n := len(s.rests); n > 0 && least.within(s.rests[n-1]) {
			break
		}
		time.Sleep(10 * time.Millisecond)
		if now := s.sample(); true {
			for i := range least.Value {
				least.Value[i] = min(least.Value[i], now.Value[i])
			}
		}
	}
	return least
}

// within reports whether nothing that can be counted is more than it was.
func (v Sample) within(before Sample) bool {
	for i := descriptors; i < resources; i++ {
		if i != threads && i != mappings && v.Value[i] > before.Value[i] {
			return false
		}
	}
	return true
}

func entries(dir string) uint64 {
	d, err := os.Open(dir)
	if err != nil {
		return 0
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	return uint64(len(names))
}
