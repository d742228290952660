// Package quota reads how many processors control groups allow a process.
package quota

import (
	"bufio"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// Where control groups are mounted: the second version's (cpu.max), and the first one's.
var (
	cgroupRoots    = []string{"sys/fs/cgroup", "sys/fs/cgroup/unified"}
	cgroupCPURoots = []string{"sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"}
)

// Processors returns how many of them this process may use by the least quota of the groups that it is in and of those
// around them, as far as they can be seen below root, which is / for os.DirFS; +Inf for all. What cannot be read limits
// nothing.
func Processors(root fs.FS) float64 {
	least := math.Inf(1)
	f, err := root.Open("proc/self/cgroup")
	if err != nil {
		return least
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		_, rest, _ := strings.Cut(lines.Text(), ":")
		controllers, group, found := strings.Cut(rest, ":")
		roots, read := cgroupRoots, quotaOfMax
		switch {
		case !found:
			continue
		case controllers != "":
			if !strings.Contains(","+controllers+",", ",cpu,") {
				continue
			}
			roots, read = cgroupCPURoots, quotaOfCFS
		}
		for _, at := range roots {
			// In a container the path may be the one outside: then its files are not
			// there, but those of the mount's root are.
			for dir := path.Clean("/" + group); ; dir = path.Dir(dir) {
				least = min(least, read(root, path.Join(at, dir)))
				if dir == "/" {
					break
				}
			}
		}
	}
	return least
}

// quotaOfMax reads cpu.max: quota and period in microseconds, or "max" and the period.
func quotaOfMax(root fs.FS, dir string) float64 {
	b, err := fs.ReadFile(root, path.Join(dir, "cpu.max"))
	var q, period float64
	if n, _ := fmt.Sscan(string(b), &q, &period); err != nil || n != 2 {
		return math.Inf(1)
	}
	return share(q, period)
}

// quotaOfCFS reads the first version's files: a quota of -1 is none.
func quotaOfCFS(root fs.FS, dir string) float64 {
	return share(number(root, path.Join(dir, "cpu.cfs_quota_us")), number(root, path.Join(dir, "cpu.cfs_period_us")))
}

func number(root fs.FS, name string) float64 {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return -1
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(string(b)), 64)
	if err != nil {
		return -1
	}
	return n
}

func share(quota, period float64) float64 {
	if quota <= 0 || period <= 0 {
		return math.Inf(1)
	}
	return quota / period
}
