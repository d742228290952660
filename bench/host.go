package bench

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
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
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(own)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3) // hierarchy, controllers, path
		if len(parts) != 3 {
			continue
		}
		root := "/sys/fs/cgroup"
		if parts[1] != "" {
			if !slices.Contains(strings.Split(parts[1], ","), "cpu") {
				continue
			}
			root += "/cpu"
		}
		// The limit of any group above is one, too. In a container the path may
		// be that of the host; then the root is what there is.
		for dir := path.Join("/", parts[2]); ; dir = path.Dir(dir) {
			if q := quotaIn(root + dir); q > 0 && (processors == 0 || q < processors) {
				processors = q
			}
			if dir == "/" {
				break
			}
		}
	}
	return processors
}

// quotaIn reads "<quota or max> <period>" of version 2, or the two files of version 1.
func quotaIn(dir string) float64 {
	text, err := os.ReadFile(path.Join(dir, "cpu.max"))
	if err != nil {
		quota, _ := os.ReadFile(path.Join(dir, "cpu.cfs_quota_us"))
		period, _ := os.ReadFile(path.Join(dir, "cpu.cfs_period_us"))
		text = append(append(quota, ' '), period...)
	}
	var quota, period float64
	if n, _ := fmt.Sscan(string(text), &quota, &period); n < 2 || quota <= 0 || period <= 0 {
		return 0
	}
	return quota / period
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
