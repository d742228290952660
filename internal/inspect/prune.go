package inspect

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// PruneOptions say how far Prune may go.
type PruneOptions struct {
	DryRun    bool          // look only
	Resumable bool          // also segments on which another router, or another consumer, may go on
	MinAge    time.Duration // not what was made more recently: its makers may be on their way
	Census    *Census       // for the first look, where many are pruned; nil: one is taken
}

// Verdict is what Prune made of a file.
type Verdict struct {
	Path    string `json:"path"`
	Removed bool   `json:"removed"` // or would be, in a dry run
	Size    int64  `json:"size"`    // bytes of the file
	Reason  string `json:"reason"`  // why, or why not
}

// keep is a reason to leave a file alone.
type keep struct{ reason string }

func (k keep) Error() string { return k.reason }

func keepf(format string, args ...any) error { return keep{fmt.Sprintf(format, args...)} }

// Prune removes the file of a segment at path if everybody who used it is provably dead, and says why, or why
// not. The error is for what it could not do; what it left alone is none.
//
// A segment is dead if this user owns it; nobody holds a lock on any slot or on the consumer's seat; no process
// that can be seen has it open or mapped; the consumer noted in it does not run; and nobody may go on with it.
//
// That may change between the look and the removal, since a path can be opened at any time. Therefore:
//
//  1. All 256 bytes are locked at once, through a description of its own. That succeeds only if nobody holds
//     any: there is no instant between the proof and what follows. From then on whoever comes is turned away:
//     a consumer with ring.ErrConsumerBusy, a producer with ring.ErrRosterFull.
//  2. The file is renamed, if path still is this file, to a hidden name beside it: nobody opens it any more.
//  3. Only those who opened it before can still come, and they can be seen by their descriptors: if there is
//     one, the file gets its path back.
//  4. The file is removed, and then the locks are freed.
//
// Killed between 2 and 4, it leaves the file under the hidden name, where Find finds it again.
//
// What it cannot see is a process of this user in a pid namespace that is not below this one (a container beside
// this one with the same /dev/shm), or of root, that opened the file before 2 and takes no lock before 4. It then
// holds memory that has no name, as after any removal.
func Prune(path string, o PruneOptions) (Verdict, error) {
	v := Verdict{Path: path}
	err := prune(path, o, &v)
	if k := (keep{}); errors.As(err, &k) {
		v.Reason = k.reason
		return v, nil
	}
	if err != nil {
		v.Reason = reason(err).Error()
		return v, fmt.Errorf("%s: %w", path, reason(err))
	}
	v.Removed = true
	return v, nil
}

func prune(path string, o PruneOptions, v *Verdict) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return os.NewSyscallError("lstat", err)
	}
	v.Size = st.Size
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return shm.ErrNotRegular
	}
	if int(st.Uid) != os.Geteuid() {
		return keepf("it belongs to another user (uid %d)", st.Uid)
	}
	if st.Nlink != 1 {
		return keepf("the file has %d names", st.Nlink)
	}
	s, err := Open(path)
	if err != nil {
		return errors.Unwrap(err) // Prune adds the path
	}
	defer s.Close()
	if s.ID != (FileID{uint64(st.Dev), st.Ino}) {
		return keepf("the path names another file meanwhile")
	}
	why, err := s.dead(o)
	if err != nil {
		return err
	}
	if v.Reason = why; o.DryRun {
		return removable(path)
	}
	return s.remove(path)
}

// removable asks for what remove needs.
func removable(path string) error {
	for _, need := range []struct {
		path string
		mode uint32
	}{{path, unix.R_OK | unix.W_OK}, {filepath.Dir(path), unix.W_OK | unix.X_OK}} {
		if err := unix.Faccessat(unix.AT_FDCWD, need.path, need.mode, unix.AT_EACCESS); err != nil {
			return fmt.Errorf("%s: %w", need.path, err)
		}
	}
	return nil
}

// dead says why nobody needs the segment, or returns a keep.
func (s *Segment) dead(o PruneOptions) (why string, err error) {
	st, err := s.Ring.Stats()
	if err != nil {
		return "", err
	}
	if age := time.Since(s.Ring.Created()); age < o.MinAge {
		return "", keepf("it was made %v ago, and younger than %v are left alone", age.Round(time.Second), o.MinAge)
	}
	if err := s.unlocked(); err != nil {
		return "", err
	}
	if p := process(st.PID, st.ConsumerStart, st.ConsumerPIDNamespace); p.Here {
		return "", keepf("its last consumer, process %d (%s), runs", p.PID, p.Name)
	}
	if err := s.unopened(o.Census); err != nil {
		return "", err
	}
	resumable := "no router used it, and another consumer may go on"
	if s.Dir != nil {
		resumable = "another router may resume here"
	}
	if s.DirErr != nil && !errors.Is(s.DirErr, wire.ErrNoDirectory) {
		return "", keepf("its directory is damaged, look at it first: %v", s.DirErr)
	}
	if !o.Resumable && (s.Dir == nil || s.Dir.Resume()) {
		return "", keepf("%s: --resumable removes it all the same", resumable)
	}
	why = "nobody holds a lock, has it open or mapped"
	switch {
	case st.PID != 0:
		why += fmt.Sprintf("; its last consumer, process %d, is dead", st.PID)
	case st.Consumers == 0:
		why += "; it never had a consumer"
	default:
		why += "; its last consumer left in order"
	}
	return why, nil
}

func (s *Segment) unlocked() error {
	for slot := range ring.MaxSlots {
		held, err := s.Ring.SlotHeld(slot)
		if err != nil {
			return err
		}
		if held {
			return keepf("a process holds slot %d: %s", slot, pidText(s.Ring.SlotInfo(slot).PID))
		}
	}
	held, err := s.Ring.ConsumerHeld()
	if err == nil && held {
		st, _ := s.Ring.Stats()
		return keepf("its consumer is alive: %s", pidText(st.PID))
	}
	return err
}

func pidText(pid int) string {
	if pid == 0 {
		return "one that has not noted its number"
	}
	return fmt.Sprintf("process %d", pid)
}

// unopened asks who has the file. This process's own look is not counted.
func (s *Segment) unopened(census *Census) error {
	if census == nil {
		var err error
		if census, err = TakeCensus(); err != nil {
			return keepf("who has it open cannot be seen: %v", err)
		}
	}
	for _, h := range census.Holders(s.ID) {
		if h.PID != os.Getpid() {
			return keepf("process %d (%s) has it open", h.PID, h.Process)
		}
	}
	return nil
}

// remove is steps 1 to 4 of Prune.
func (s *Segment) remove(path string) error {
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", s.file.Fd()), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	defer unix.Close(fd) // and frees the locks
	lk := unix.Flock_t{Type: unix.F_WRLCK, Start: 0, Len: ring.Seats}
	err = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lk)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return keepf("a process came while it was looked at")
	}
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	hidden := filepath.Join(filepath.Dir(path), hiddenName(filepath.Base(path)))
	if err := unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, hidden, unix.RENAME_NOREPLACE); err != nil {
		return os.NewSyscallError("renameat2", err)
	}
	afterHiding()
	err = s.stillThis(hidden)
	if err == nil {
		err = s.unopened(nil) // as it is now
	}
	if err == nil {
		return os.NewSyscallError("unlink", unix.Unlink(hidden))
	}
	if back := unix.Renameat2(unix.AT_FDCWD, hidden, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE); back != nil {
		return fmt.Errorf("%w; its path is taken meanwhile (%v), and it is kept as %s", err, back, hidden)
	}
	return err
}

// hiddenName is one that tells what it was, and no longer than a name may be.
func hiddenName(name string) string {
	mark := fmt.Sprintf(".prune-%08x", rand.Uint32())
	name = strings.TrimPrefix(name, ".")
	return "." + name[:min(len(name), unix.NAME_MAX-1-len(mark))] + mark
}

// stillThis tells whether what was renamed is the file that was proven dead.
func (s *Segment) stillThis(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return os.NewSyscallError("lstat", err)
	}
	if (FileID{uint64(st.Dev), st.Ino}) != s.ID {
		return keepf("the path named another file meanwhile")
	}
	return nil
}

// afterHiding lets tests open the file at the worst moment.
var afterHiding = func() {}
