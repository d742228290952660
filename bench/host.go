package bench

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/quota"
)

// HostLine describes the machine in one line, as figures should be quoted with
// it. The floor belongs to it, but changes from second to second: Crew.Floor.
func HostLine() string {
	processors := fmt.Sprintf("%d processors", runtime.NumCPU())
	if runtime.NumCPU() == 1 {
		processors = "1 processor"
	}
	if q := Quota(); q > 0 {
		processors += fmt.Sprintf(" (a quota of %.3g)", q)
	}
	return fmt.Sprintf("%s, %s, Linux %s, %s %s/%s",
		cpuModel(), processors, kernel(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// Quota is how many processors' time the process's control groups grant it, 0
// for no limit. Where they cannot be read there is none.
func Quota() (processors float64) {
	if q := quota.Processors(os.DirFS("/")); !math.IsInf(q, 1) {
		return q
	}
	return 0
}

// kernel is its version. What a distributor or host has appended names a build of
// theirs.
func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "?"
	}
	release := unix.ByteSliceToString(u.Release[:])
	if i := strings.IndexFunc(release, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); i > 0 {
		release = release[:i]
	}
	return release
}

// cpuModel is the first name that /proc/cpuinfo has for it; not every
// architecture tells one.
func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "processor unknown"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "processor unknown"
}
