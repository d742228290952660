package quota

import (
	"math"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
)

func TestQuota(t *testing.T) {
	all := math.Inf(1)
	for name, test := range map[string]struct {
		want  float64
		files map[string]string
	}{
		"no groups":              {all, nil},
		"second, none":           {all, map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "max 100000\n"}},
		"second":                 {1.5, map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}},
		"second, around it":      {1, map[string]string{"proc/self/cgroup": "0::/a/b/c\n", "sys/fs/cgroup/a/b/c/cpu.max": "300000 100000\n", "sys/fs/cgroup/a/cpu.max": "50000 50000\n"}},
		"second, in a container": {0.5, map[string]string{"proc/self/cgroup": "0::/outside/x\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}},
		"second, beside first":   {2, map[string]string{"proc/self/cgroup": "4:memory:/a\n0::/a\n", "sys/fs/cgroup/unified/a/cpu.max": "200000 100000\n"}},
		"first": {1, map[string]string{"proc/self/cgroup": "3:cpu,cpuacct:/a\n0::/\n",
			"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "100000\n", "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"}},
		"first, by its other name": {0.25, map[string]string{"proc/self/cgroup": "1:cpu:/\n",
			"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "25000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}},
		"first, none": {all, map[string]string{"proc/self/cgroup": "1:cpu:/\n",
			"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}},
		"first, another controller": {all, map[string]string{"proc/self/cgroup": "1:cpuset:/\n",
			"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "25000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}},
		"nonsense": {all, map[string]string{"proc/self/cgroup": "what\n0::/a\n", "sys/fs/cgroup/a/cpu.max": "0 0\n", "sys/fs/cgroup/cpu.max": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			files := fstest.MapFS{}
			for at, content := range test.files {
				files[at] = &fstest.MapFile{Data: []byte(content)}
			}
			assert.Equal(t, test.want, Processors(files))
		})
	}
}
