package soak

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/stress"
)

// adopt makes programs that a killed worker leaves behind children of this process: so they
// can be waited for, and whoever is not shows as a zombie.
func adopt() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// children counts the child processes, and those that are dead and not waited for.
// The orphans among these are waited for now.
func children() (all, dead uint64) {
	self := strconv.Itoa(os.Getpid())
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
		zombie := string(f[0]) == "Z"
		if zombie && string(b[from+1:to]) == stress.NapName {
			pid, _ := strconv.Atoi(string(bytes.TrimSpace(b[:from])))
			unix.Wait4(pid, nil, unix.WNOHANG, nil)
			continue
		}
		all++
		if zombie {
			dead++
		}
	}
	return all, dead
}
