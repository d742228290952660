package shm

import (
	"bufio"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
)

// quota is how many processors the control groups allowed this process when it started, +Inf for
// all. The runtime reads them as well, but GOMAXPROCS is at least 2 then, and with a quota of one
// processor who spins uses up the time of those it waits for.
var quota = readQuota(os.DirFS("/"))

// Where control groups are mounted: the second version's (cpu.max), and the first one's.
var (
	cgroupRoots    = []string{"sys/fs/cgroup", "sys/fs/cgroup/unified"}
	cgroupCPURoots = []string{"sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"}
)

// readQuota returns the least quota of the groups that the process is in and of those around them,
// as far as they can be seen. What cannot be read limits nothing.
func readQuota(root fs.FS) float64 {
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
