package sweep

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// friend is the sweep's end of a neighbour.
type friend struct {
	cmd    *exec.Cmd
	socket int
	owed   bool   // an answer is outstanding
	sent   uint64 // by the last answer
}

func newFriend() (*friend, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "neighbour")
	defer theirs.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), neighbourEnv+"=1")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	return &friend{cmd: cmd, socket: pair[0]}, nil
}

// tell gives an order, with a file or nil.
func (f *friend) tell(o order, file *os.File) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	var rights []byte
	if file != nil {
		rights = unix.UnixRights(int(file.Fd()))
	}
	f.owed = true
	return os.NewSyscallError("sendmsg", unix.Sendmsg(f.socket, text, rights, nil, 0))
}

// answered waits for the answer for a time, and reports whether it came.
func (f *friend) answered(wait time.Duration) (a answer, ok bool, err error) {
	fds := []unix.PollFd{{Fd: int32(f.socket), Events: unix.POLLIN}}
	for end := time.Now().Add(wait); ; {
		n, err := unix.Poll(fds, max(0, int(time.Until(end).Milliseconds())))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return a, false, os.NewSyscallError("poll", err)
		}
		break
	}
	text := make([]byte, 8192)
	n, err := unix.Read(f.socket, text)
	if err != nil || n == 0 {
		return a, false, fmt.Errorf("the neighbour has died: %w", err)
	}
	f.owed = false
	if err := json.Unmarshal(text[:n], &a); err != nil {
		return a, false, err
	}
	f.sent = a.Sent
	return a, true, nil
}

// do gives an order that is carried out at once.
func (f *friend) do(o order, file *os.File) error {
	if err := f.tell(o, file); err != nil {
		return err
	}
	a, ok, err := f.answered(patience)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("the neighbour does not answer to %q", o.Do)
	case a.Err != "":
		return fmt.Errorf("the neighbour, told to %s: %s", o.Do, a.Err)
	}
	return nil
}

func (f *friend) dismiss() {
	unix.Close(f.socket)
	f.cmd.Process.Kill()
	f.cmd.Wait()
}
