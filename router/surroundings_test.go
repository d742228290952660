package router

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/hosttest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
)

// launchAs is launch with attributes, in a role that is a puppet in the end.
func launchAs(t testing.TB, r *Router, role, arg string, attr *syscall.SysProcAttr, s ...*sender.Sender) *remote {
	t.Helper()
	cmd := command(t, role, arg)
	cmd.SysProcAttr = attr
	p, finish := connect(t, cmd)
	w, err := r.Launch(cmd, s...)
	finish()
	must(t, err)
	p.w = w
	return p
}

// secluded is a puppet that first changes what it sees of the system.
func secluded(arg string) error {
	for _, change := range strings.Fields(arg) {
		var err error
		switch change {
		case "private":
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		case "proc":
			err = unix.Mount("proc", "/proc", "proc", 0, "")
		case "noproc":
			err = unix.Mount("tmpfs", "/proc", "tmpfs", 0, "")
		case "chroot":
			if err = unix.Chroot("/sys"); err == nil {
				err = os.Chdir("/")
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", change, err)
		}
	}
	return puppet("")
}

// Workers with nothing but what they inherited, in pid, mount and, for ordinary users, user namespaces of
// their own: all works, the stall hook says that the pid is one of another namespace, and the death is told.
func TestWorkerInNamespaces(t *testing.T) {
	for _, changes := range []string{"", "private proc"} {
		t.Run(strings.ReplaceAll(changes, " ", "_"), func(t *testing.T) {
			guard(t)
			attr := hosttest.Apart(t, unix.CLONE_NEWPID|unix.CLONE_NEWNS)
			stalls := make(chan ring.StallEvent, 8)
			r := begin(t, WithStallHook(func(e ring.StallEvent) {
				select {
				case stalls <- e:
				default:
				}
			}))
			s, rcv := pipe(t, r)
			p := launchAs(t, r, "secluded", changes, attr, s)
			must(t, p.Start())
			must(t, p.SendMany(2000, 300))
			for i := range 2000 {
				m, err := rcv.Recv(background)
				must(t, err)
				checkBody(t, i, m.Data)
			}
			if n := r.Stats().Watched; n != 0 {
				t.Errorf("%d watched by a pid of another namespace", n)
			}
			must(t, p.Claim(100))
			e := within(t, "stall", stalls)
			if e.PID != 1 || e.PIDNamespace == shm.PIDNamespace() || e.PIDNamespace == 0 {
				t.Errorf("stall: %+v", e)
			}
			must(t, p.w.Kill())
			var died *PeerError
			_, err := rcv.Recv(background)
			if !errors.As(err, &died) || died.PID != p.w.PID() || died.State == nil {
				t.Errorf("end: %v", err)
			}
			must(t, rcv.Close())
		})
	}
}

// A worker without /proc, and one of another user, are told by an error of their own; the router learns it
// from their exit.
func TestWorkerWithoutLocks(t *testing.T) {
	for _, c := range []struct{ name, changes string }{{"no proc", "private noproc"}, {"chroot", "private chroot"}, {"other user", ""}} {
		t.Run(c.name, func(t *testing.T) {
			guard(t)
			var attr *syscall.SysProcAttr
			if c.changes != "" {
				attr = hosttest.Apart(t, unix.CLONE_NEWNS)
			} else {
				if os.Geteuid() != 0 {
					t.Skip("needs root, to start a process as another user")
				}
				attr = hosttest.Nobody()
			}
			r := begin(t)
			s, rcv := pipe(t, r)
			p := launchAs(t, r, "secluded", c.changes, attr, s)
			err := p.Start()
			wantIs(t, "start", err, shm.ErrNoLocks)
			t.Log(err)
			if got := p.State(); got != "initial" {
				t.Errorf("sender is %s", got)
			}
			p.exit(4)
			var died *PeerError
			if _, err := rcv.Recv(background); !errors.As(err, &died) || died.Slot != -1 || died.State.ExitCode() != 4 {
				t.Errorf("end: %v", err)
			}
			must(t, rcv.Close())
		})
	}
}

// family is a worker with a child from before it has taken the hand-over, and one from afterwards.
func family(string) error {
	spawn := func() error {
		child := exec.Command("sleep", "1000")
		if err := child.Start(); err != nil {
			return err
		}
		fmt.Println(child.Process.Pid)
		return nil
	}
	if err := spawn(); err != nil {
		return err
	}
	s, err := sender.FromEnv()
	if err != nil {
		return err
	}
	if err := errors.Join(s.Start(), spawn(), s.Send(background, []byte("x"))); err != nil {
		return err
	}
	fmt.Println("done")
	select {}
}

// segmentFiles counts a process's descriptors of segments.
func segmentFiles(t *testing.T, pid int) (n int) {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	must(t, err)
	for _, e := range entries {
		if link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, e.Name())); err == nil && strings.Contains(link, "shmrouter") {
			n++
		}
	}
	return n
}

// Children that outlive their worker do not hold up the news of its death. Only one that was started before
// the worker took the hand-over has the memory, which lives as long as that child.
func TestChildrenOutliveTheWorker(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	cmd := command(t, "family", "")
	outR, finish := listen(t, cmd)
	cmd.Stderr = cmd.Stdout
	w, err := r.Launch(cmd, s)
	finish()
	must(t, err)
	var children []int
	for lines := bufio.NewScanner(outR); lines.Scan() && lines.Text() != "done"; {
		var pid int
		if _, err := fmt.Sscan(lines.Text(), &pid); err != nil {
			t.Fatal(lines.Text())
		}
		children = append(children, pid)
		defer unix.Kill(pid, unix.SIGKILL)
	}
	if len(children) != 2 {
		t.Fatal("no children")
	}
	if m, err := rcv.Recv(background); err != nil || string(m.Data) != "x" {
		t.Fatal(err)
	}
	began := time.Now()
	must(t, w.Kill())
	_, err = rcv.Recv(background)
	wantIs(t, "end", err, ErrPeerDied)
	t.Logf("told %v after the kill", time.Since(began))
	for i, pid := range children {
		must(t, unix.Kill(pid, 0))
		if got, want := segmentFiles(t, pid), 1-i; got != want {
			t.Errorf("child %d has %d descriptors of the segment, want %d", i, got, want)
		}
	}
	must(t, rcv.Close())
	if got := r.Stats().Pipes; got != (PipeStats{}) {
		t.Errorf("%+v", got)
	}
}

// blindMain is a main process with a worker that it leaves alone.
func blindMain(string) error {
	r, err := New()
	if err == nil {
		err = r.Start()
	}
	if err != nil {
		return err
	}
	s, _, err := r.Pipe()
	if err != nil {
		return err
	}
	cmd := again("blind worker", "")
	cmd.Stdout = os.Stdout
	if _, err := r.Launch(cmd, s); err != nil {
		return err
	}
	select {}
}

// blindWorker closes its descriptors, and waits for the end of its router.
func blindWorker(string) error {
	s, err := sender.FromEnv()
	if err != nil {
		return err
	}
	if err := s.Start(); err != nil {
		return err
	}
	ctx := s.Context()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		var fd int
		fmt.Sscan(e.Name(), &fd)
		link, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && fd > 2 && !strings.HasPrefix(link, "anon_inode:[event") {
			unix.Close(fd)
		}
	}
	if err := s.Send(background, []byte("x")); err != nil {
		return err
	}
	parent := os.Getppid()
	passed, _ := hosttest.OwnTime(func() bool { return os.Getppid() != parent })
	fmt.Println("blind")
	<-ctx.Done()
	took := passed()
	fmt.Println(causeOf(ctx))
	fmt.Println(took)
	if err := s.Send(background, []byte("x")); !errors.Is(err, sender.ErrRouterGone) {
		fmt.Println("send:", err)
	}
	return nil
}

// A worker that has closed its descriptors, and has not the privilege to open the segment again, can ask the
// kernel for no lock. It learns of its router's death all the same, in a time that is counted in its own naps,
// as a busy machine may keep it from running for any time.
func TestBlindWorkerLearnsOfTheRoutersDeath(t *testing.T) {
	guard(t)
	cmd := command(t, "blind main", "")
	cmd.SysProcAttr = hosttest.Unprivileged()
	outR, finish := listen(t, cmd)
	err := cmd.Start()
	finish()
	must(t, err)
	defer cmd.Process.Kill()
	lines := make(chan string, 3)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(outR); s.Scan(); {
			lines <- s.Text()
		}
	}()
	if got := within(t, "worker", lines); got != "blind" {
		t.Fatal(got)
	}
	select {
	case got := <-lines:
		t.Errorf("before the death: %q", got)
	case <-time.After(500 * time.Millisecond): // the questions come more often
	}
	must(t, cmd.Process.Kill())
	cmd.Wait()
	began := time.Now()
	if got := within(t, "news of the death", lines); got != sender.ErrRouterGone.Error() {
		t.Error(got)
	}
	byClock := time.Since(began)
	took, err := time.ParseDuration(within(t, "its own time", lines))
	must(t, err)
	if took > promisedBlindNotice {
		t.Errorf("noticed after %v of its own time", took)
	}
	t.Logf("noticed after %v, %v of its own time", byClock, took)
	if got := within(t, "end of the worker", lines); got != "" {
		t.Error(got)
	}
}

// forker starts its successor in the hand-over in a session of its own, and exits: at once, or when that one
// has started its sender.
func forker(arg string) error {
	child := exec.Command("/proc/self/exe", "-test.run=^$")
	child.Env = append(os.Environ(), roleEnv+"=daemon", argEnv+"="+arg)
	child.ExtraFiles = []*os.File{os.NewFile(3, "segment")}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	child.Stdin, child.Stderr = os.Stdin, os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	if arg == "wait" {
		bufio.NewScanner(out).Scan()
	}
	return nil
}

// daemon is the one that sends. Without "wait", it first waits for a line.
func daemon(arg string) error {
	s, err := sender.FromEnv()
	if errors.Is(err, sender.ErrRouterGone) {
		return nil // the test is over
	}
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	if arg != "wait" && !lines.Scan() {
		return nil
	}
	if err := s.Start(); err != nil {
		if errors.Is(err, sender.ErrPipeClosed) || errors.Is(err, sender.ErrRouterGone) {
			return nil // it was told
		}
		return err
	}
	if err := s.Send(background, fmt.Append(nil, os.Getpid())); err != nil {
		return err
	}
	fmt.Println("started")
	lines.Scan()
	os.Exit(0)
	return nil
}

// A worker that daemonises takes the hand-over with it: whose pipe is taken by the time the first process
// exits keeps it; a launched one's, which is not, ends with that exit; one that was handed over, whose exit
// nobody reports, waits for the daemon.
func TestWorkerDaemonises(t *testing.T) {
	for _, c := range []struct {
		name, arg string
		launched  bool
	}{{"launched, attached before", "wait", true}, {"launched, not attached", "", true}, {"handed over", "", false}} {
		t.Run(c.name, func(t *testing.T) {
			guard(t)
			r := begin(t)
			s, rcv := pipe(t, r)
			cmd := command(t, "forker", c.arg)
			inR, inW, err := os.Pipe()
			must(t, err)
			defer inW.Close()
			cmd.Stdin = inR
			if c.launched {
				w, err := r.Launch(cmd, s)
				must(t, err)
				must(t, w.Wait())
			} else {
				must(t, r.HandOver(cmd, s))
				must(t, cmd.Start())
				cmd.ExtraFiles[0].Close()
				must(t, cmd.Wait())
			}
			inR.Close()
			if c.launched && c.arg == "" {
				var died *PeerError
				if _, err := rcv.Recv(background); !errors.As(err, &died) || died.Slot != -1 {
					t.Errorf("end: %v", err)
				}
				must(t, rcv.Close())
				fmt.Fprintln(inW) // the daemon is told, and ends
				return
			}
			if c.arg == "" {
				fmt.Fprintln(inW)
			}
			m, err := rcv.Recv(background)
			must(t, err)
			var pid int
			fmt.Sscan(string(m.Data), &pid)
			must(t, unix.Kill(pid, unix.SIGKILL))
			var died *PeerError
			if _, err := rcv.Recv(background); !errors.As(err, &died) || died.PID != pid || died.State != nil {
				t.Errorf("end: %+v", err)
			}
			must(t, rcv.Close())
		})
	}
}
