package hosttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Apart returns attributes that start a process in new namespaces (CLONE_NEWPID, CLONE_NEWNS, ...),
// in which it is root: an ordinary user has a user namespace made for it. The test is skipped where
// that is not allowed.
func Apart(t testing.TB, flags uintptr) *syscall.SysProcAttr {
	t.Helper()
	if os.Geteuid() != 0 {
		flags |= unix.CLONE_NEWUSER
	}
	attr := &syscall.SysProcAttr{Cloneflags: flags}
	if flags&unix.CLONE_NEWUSER != 0 {
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = []string{"GORACE=atexit_sleep_ms=0"}
	probe := *attr
	cmd.SysProcAttr = &probe
	if err := cmd.Run(); err != nil {
		t.Skipf("needs CAP_SYS_ADMIN or user namespaces, for clone flags %#x: %v", flags, err)
	}
	return attr
}

// Nobody starts a process as a user without any privilege, which takes root.
func Nobody() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

// Unprivileged starts a process as a user whom permissions and limits bind: it is nil for one who is that already.
func Unprivileged() *syscall.SysProcAttr {
	if os.Geteuid() != 0 {
		return nil
	}
	return Nobody()
}

// Processor keeps the calling process, all of its threads and their children, on one processor of
// those that it has.
func Processor() error {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return err
	}
	for cpu := range len(set) * 64 {
		if set.IsSet(cpu) {
			set.Zero()
			set.Set(cpu)
			break
		}
	}
	tasks, err := os.ReadDir("/proc/self/task")
	for _, task := range tasks {
		var tid int
		fmt.Sscan(task.Name(), &tid)
		if err := unix.SchedSetaffinity(tid, &set); err != nil && err != unix.ESRCH {
			return err
		}
	}
	return err
}

// QuotaName begins the name of the group that Quota makes.
const QuotaName = "shmrouter-test-"

// Quota makes a control group whose processes together have half a processor, and returns its
// directory, until the test ends; they have ended by then. The test is skipped where no group can be
// made.
func Quota(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("%s%d", QuotaName, os.Getpid())
	var refused []string
	for _, kind := range []struct {
		root  string
		files map[string]string
	}{
		{"/sys/fs/cgroup", map[string]string{"cpu.max": "50000 100000"}},
		{"/sys/fs/cgroup/cpu", map[string]string{"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"}},
	} {
		dir := filepath.Join(kind.root, name)
		err := os.Mkdir(dir, 0o755)
		if err == nil {
			t.Cleanup(func() { unix.Rmdir(dir) })
		}
		for file, value := range kind.files {
			if err == nil {
				err = set(filepath.Join(dir, file), value)
			}
		}
		if err == nil {
			return dir
		}
		unix.Rmdir(dir)
		refused = append(refused, err.Error())
	}
	t.Skip("needs the right to make a control group with a cpu controller: " + strings.Join(refused, "; "))
	return ""
}

// set writes to a file that is there: where no control groups are mounted, another one would be made.
func set(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// Enter puts a process into a control group.
func Enter(dir string, pid int) error {
	return set(filepath.Join(dir, "cgroup.procs"), fmt.Sprint(pid))
}

// Hog keeps a processor busy, in a goroutine, until stop.
func Hog() (stop func()) {
	quit := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for n := 0; ; n++ {
			if n&0xffff == 0 {
				select {
				case <-quit:
					return
				default:
				}
			}
		}
	})
	return sync.OnceFunc(func() { close(quit); done.Wait() })
}
