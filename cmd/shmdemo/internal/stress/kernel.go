package stress

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// runTimes returns how long all threads of a process have run, and how long they have stood in a run queue. A
// thread that has ended counts no more.
func runTimes(pid int) (ran, waited time.Duration) {
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, name := range names {
		b, _ := os.ReadFile(name)
		if f := bytes.Fields(b); len(f) == 3 { // time run, time waited, times run
			r, _ := strconv.ParseInt(string(f[0]), 10, 64)
			w, _ := strconv.ParseInt(string(f[1]), 10, 64)
			ran += time.Duration(r)
			waited += time.Duration(w)
		}
	}
	return ran, waited
}

// processState returns the kernel's letters for the threads of a process: R runs or would, S sleeps, T is stopped.
func processState(pid int) (letters string) {
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, name := range names {
		b, _ := os.ReadFile(name)
		if i := bytes.LastIndex(b, []byte(") ")); i >= 0 && i+2 < len(b) {
			letters += string(b[i+2])
		}
	}
	return letters
}
