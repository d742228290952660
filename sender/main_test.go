package sender

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary plays the worker, too: with roleEnv set it does what that role does, and ends.
const roleEnv = "SENDER_TEST_ROLE"

var (
	roles = map[string]func() error{
		"three":   threeRole,
		"all":     allRole,
		"path":    pathRole,
		"by hand": byHandRole,
		"tidy":    tidyRole,
		"endless": endlessRole,
		"claim":   claimRole,
		"large":   largeRole,
		"watch":   watchRole,
		"nested":  nestedRole,
		"router":  routerRole,
		"scarce":  scarceRole,
		"open":    openRole,
		"vandal":  vandalRole,

		"main":     mainRole,
		"lifeline": lifelineRole,
	}
	rolesUsed sync.Map
)

func TestMain(m *testing.M) {
	if name := os.Getenv(roleEnv); name != "" {
		os.Unsetenv(roleEnv)
		if err := roles[name](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	code := m.Run()
	if run, skip := flag.Lookup("test.run"), flag.Lookup("test.skip"); code == 0 && run.Value.String() == "" && skip.Value.String() == "" {
		for name := range roles {
			if _, used := rolesUsed.Load(name); !used {
				fmt.Fprintf(os.Stderr, "no test uses the role %q\n", name)
				code = 1
			}
		}
	}
	os.Exit(code)
}

// command is a worker that has not been started.
func command(t testing.TB, role string, args ...string) *exec.Cmd {
	t.Helper()
	if roles[role] == nil {
		t.Fatalf("no role %q", role)
	}
	rolesUsed.Store(role, true)
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = []string{roleEnv + "=" + role, "GORACE=atexit_sleep_ms=0"} // under -race every exit sleeps a second otherwise
	return cmd
}

// worker is a started one. What it prints to standard output are lines for the test.
type worker struct {
	t     testing.TB
	cmd   *exec.Cmd
	lines *bufio.Scanner
	err   strings.Builder
	done  bool
}

func start(t testing.TB, cmd *exec.Cmd) *worker {
	t.Helper()
	w := &worker{t: t, cmd: cmd}
	cmd.Stderr = &w.err
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	closeExtra(cmd)
	w.lines = bufio.NewScanner(out)
	t.Cleanup(func() {
		if !w.done {
			w.kill()
		}
	})
	return w
}

// line waits for the worker to print one.
func (w *worker) line() string {
	w.t.Helper()
	if !w.lines.Scan() {
		w.cmd.Wait()
		w.done = true
		w.t.Fatalf("worker ended: %s", w.err.String())
	}
	return w.lines.Text()
}

// wait expects the worker to end well.
func (w *worker) wait() {
	w.t.Helper()
	for w.lines.Scan() {
	}
	w.done = true
	if err := w.cmd.Wait(); err != nil {
		w.t.Fatalf("worker: %v: %s", err, w.err.String())
	}
}

func (w *worker) kill() {
	w.cmd.Process.Kill()
	w.cmd.Wait()
	w.done = true
}

// attach is how a worker begins.
func attach() (*Sender, error) {
	s, err := FromEnv()
	if err != nil {
		return nil, err
	}
	return s, s.Start()
}

// threeRole sends three messages, the second of them large, and stops.
func threeRole() error {
	s, err := attach()
	if err != nil {
		return err
	}
	return three(s)
}

func three(s *Sender) error {
	for _, b := range [][]byte{[]byte("one"), []byte(strings.Repeat("two", 10000)), []byte("three")} {
		if err := s.Send(context.Background(), b); err != nil {
			return err
		}
	}
	return s.Stop()
}

// allRole has every sender say its place.
func allRole() error {
	ss, err := AllFromEnv()
	if err != nil {
		return err
	}
	for i, s := range ss {
		if err := s.Start(); err != nil {
			return fmt.Errorf("%d: %w", i, err)
		}
		if err := s.Send(context.Background(), fmt.Append(nil, i)); err != nil {
			return err
		}
	}
	for _, s := range ss {
		if err := s.Stop(); err != nil {
			return err
		}
	}
	return nil
}

// pathRole is not related to the router, and is told a token.
func pathRole() error {
	s, err := Open(os.Args[1])
	if err != nil {
		return err
	}
	if err := s.Start(); err != nil {
		return err
	}
	return three(s)
}

// byHandRole is started without having been handed anything.
func byHandRole() error {
	_, err := FromEnv()
	if !errors.Is(err, ErrNoHandover) {
		return fmt.Errorf("not missing: %w", err)
	}
	fmt.Println(err)
	return nil
}

// tidyRole checks what FromEnv leaves behind in the process.
func tidyRole() error {
	before := os.Getenv(EnvName)
	s, err := FromEnv()
	if err != nil {
		return err
	}
	if v, ok := os.LookupEnv(EnvName); ok {
		return fmt.Errorf("the environment still has %q", v)
	}
	if _, err := unix.FcntlInt(3, unix.F_GETFD, 0); err == nil {
		if name, _ := os.Readlink("/proc/self/fd/3"); strings.Contains(name, "shmrouter") && strings.Contains(before, ":f3:") {
			flags, _ := unix.FcntlInt(3, unix.F_GETFD, 0)
			if flags&unix.FD_CLOEXEC == 0 {
				return errors.New("descriptor 3 would be inherited by children")
			}
		}
	}
	if _, err := FromEnv(); !errors.Is(err, ErrNoHandover) {
		return fmt.Errorf("second FromEnv: %w", err)
	}
	if err := s.Start(); err != nil {
		return err
	}
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), roleEnv+"=by hand")
	if out, err := child.CombinedOutput(); err != nil {
		return fmt.Errorf("child: %w: %s", err, out)
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		fd, _ := strconv.Atoi(e.Name())
		name, _ := os.Readlink("/proc/self/fd/" + e.Name())
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && strings.Contains(name, "shmrouter") && flags&unix.FD_CLOEXEC == 0 {
			return fmt.Errorf("descriptor %d, %s, would be inherited by children", fd, name)
		}
	}
	if err := s.Stop(); err != nil {
		return err
	}
	entries, _ = os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if name, _ := os.Readlink("/proc/self/fd/" + e.Name()); strings.Contains(name, "shmrouter") {
			return fmt.Errorf("descriptor %s, %s, is left", e.Name(), name)
		}
	}
	return nil
}

// endlessRole counts, and says so before and after each send, until it is killed.
func endlessRole() error {
	s, err := attach()
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	for i := 0; ; i++ {
		size := 8 + i%50*40
		if i%40 == 39 {
			size = 20000
		}
		if err := s.Send(context.Background(), fmt.Appendf(nil, "%-*d", size, i)); err != nil {
			return err
		}
		fmt.Fprintln(out, i)
		out.Flush()
	}
}

// claimRole claims, begins to fill, and waits to be killed.
func claimRole() error {
	s, err := attach()
	if err != nil {
		return err
	}
	if err := s.TrySend([]byte("before")); err != nil {
		return err
	}
	c, err := s.TryClaim(5000)
	if err != nil {
		return err
	}
	copy(c.Bytes(), "never")
	fmt.Println("claimed")
	time.Sleep(time.Hour)
	return c.Commit()
}

// largeRole sends more than the ring holds.
func largeRole() error {
	s, err := attach()
	if err != nil {
		return err
	}
	go func() {
		for s.Stats().Waits == 0 {
			time.Sleep(time.Millisecond)
		}
		fmt.Println("stuck")
	}()
	return s.Send(context.Background(), make([]byte, 4*testCapacity))
}

// watchRole sends nothing and waits for the end.
func watchRole() error {
	s, err := attach()
	if err != nil {
		return err
	}
	ctx := s.Context()
	fmt.Println("watching")
	<-ctx.Done()
	cause := context.Cause(ctx)
	for _, c := range []error{ErrCancelled, ErrPipeClosed, ErrRouterGone} {
		if errors.Is(cause, c) {
			fmt.Println(c)
		}
	}
	return s.Stop()
}

// nestedRole hands its sender on to a process of its own.
func nestedRole() error {
	s, err := FromEnv()
	if err != nil {
		return err
	}
	child := exec.Command("/proc/self/exe")
	child.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, roleEnv+"=") })
	child.Env = append(child.Env, roleEnv+"=three")
	if err := s.HandOver(child); err != nil {
		return err
	}
	if out, err := child.CombinedOutput(); err != nil {
		return fmt.Errorf("child: %w: %s", err, out)
	}
	return nil
}
