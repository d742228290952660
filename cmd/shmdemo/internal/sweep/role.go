package sweep

import (
	"encoding/json"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// role is a victim as the sweep sees it.
type role struct {
	op     *operation
	sender uint64
	cmd    *exec.Cmd
	diary  *diary
	stderr *os.File
	pid    int
	taken  uint64 // deliveries to it that are in the book
	whole  bool   // its operation has ended, and only then it was killed
}

func newRole(o *operation, sender uint64, corpse, traced bool, path string, segment *os.File) (*role, error) {
	d, err := newDiary()
	if err != nil {
		return nil, err
	}
	file, err := d.seg.File()
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("shmdemo-stderr", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	r := &role{op: o, sender: sender, diary: d, stderr: os.NewFile(uintptr(fd), "stderr")}
	text, err := json.Marshal(briefing{Operation: o.name, Sender: sender, Corpse: corpse, Traced: traced, Path: path})
	if err != nil {
		return nil, err
	}
	r.cmd = exec.Command("/proc/self/exe")
	r.cmd.Args[0] = "shmdemo-victim"
	r.cmd.Env = append(os.Environ(), victimEnv+"="+string(text), "GOGC=off", "GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=1")
	r.cmd.ExtraFiles = []*os.File{file, segment}
	r.cmd.Stderr = r.stderr
	return r, nil
}

// started is called when its process runs.
func (r *role) started(pid int) {
	r.pid = pid
	r.cmd.ExtraFiles[0].Close()
}

// said is what it wrote to stderr.
func (r *role) said() string {
	b := make([]byte, 2000)
	n, _ := r.stderr.ReadAt(b, 0)
	return string(b[:n])
}

func (r *role) close() {
	r.stderr.Close()
	r.diary.close()
}
