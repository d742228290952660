package router

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/shm"
	"golang.org/x/sys/unix"
)

var hostDeaths = flag.Int("deaths", 3, "how many main processes TestRouterDies kills, half of them at random instants")

// The times in which workers learn of the router's death.
const (
	promisedNotice      = 250 * time.Millisecond
	promisedBlindNotice = 2 * time.Second // of a process that has closed descriptors of this library
)

// The main process of routers on memory files is killed: workers learn it in time,
// whatever they are doing, each of their sends fails, they leave in order, and
// nothing of the memory is left. Each time is judged, by the worker's own time from
// when the kernel has done with the dead: the promise is about a machine that gives
// them a processor, and a dozen processes on two do not get one whenever they want it.
// By the clock, from the kill on, the times are only logged.
func TestRouterDies(t *testing.T) {
	guard(t)
	random := ringtest.Random(t)
	took := map[string][]time.Duration{}
	for range *hostDeaths {
		killHost(t, took)
	}
	for range *hostDeaths / 2 {
		killHostEarly(t, random)
	}
	for _, what := range slices.Sorted(maps.Keys(took)) {
		d := took[what]
		slices.Sort(d)
		t.Logf("%-36s %d times: p50 %v, p99 %v, max %v", what, len(d), d[len(d)/2], d[(len(d)*99)/100], d[len(d)-1])
	}
}

// host is a main process that will be killed, and its workers' books.
type host struct {
	t     *testing.T
	dir   string
	books map[string]*guestBook
	undo  []func()
	pid   int
	reap  func()
}

func startHost(t *testing.T) *host {
	dir, err := os.MkdirTemp(shm.DefaultDir(), "shmrouter-host")
	must(t, err)
	h := &host{t: t, dir: dir, books: map[string]*guestBook{}}
	h.undo = append(h.undo, func() { os.RemoveAll(dir) })
	for state := range guestStates {
		book, closeBook, err := openBook[guestBook](guestPlan{dir, state}.book())
		must(t, err)
		h.books[state] = book
		h.undo = append(h.undo, closeBook)
	}
	used.mu.Lock()
	used.roles["guest"] = true
	used.mu.Unlock()
	cmd := command(t, "host", dir)
	cmd.Env = append(cmd.Env, sessionEnv+"="+filepath.Base(dir), "GOMAXPROCS=2")
	must(t, cmd.Start())
	h.pid = cmd.Process.Pid
	h.reap = func() { cmd.Wait() }
	return h
}

func (h *host) kill() { syscall.Kill(h.pid, syscall.SIGKILL) }

// settle waits for the workers to end, and looks at what they have noted.
func (h *host) settle() {
	h.reap()
	session := filepath.Base(h.dir)
	eventually(h.t, "all processes have ended", func() bool { return len(sessionProcesses(session)) == 0 })
	for state, b := range h.books {
		reason, _, _ := bytes.Cut(b.reason[:], []byte{0})
		if b.wrong.Load() != 0 {
			h.t.Errorf("%s: %s", state, reason)
		}
		if b.pid.Load() != 0 && b.stage.Load() != guestDone {
			h.t.Errorf("%s: has ended at stage %d", state, b.stage.Load())
		}
	}
	for _, pid := range sessionProcesses(session) {
		syscall.Kill(pid, syscall.SIGKILL) // the test has failed
	}
}

func (h *host) close() {
	for _, undo := range slices.Backward(h.undo) {
		undo()
	}
}

// killHost kills one when all of its workers do what they are to do.
func killHost(t *testing.T, took map[string][]time.Duration) {
	h := startHost(t)
	defer h.close()
	for state, b := range h.books {
		eventually(t, "ready: "+state, func() bool { return b.stage.Load() == guestReady })
	}
	stopped := h.books["stopped"]
	eventually(t, "stopped", func() bool { return processState(int(stopped.pid.Load())) == "T" })
	memory := watchMemory(t, h.pid)
	defer memory.close()
	if memory.left == 0 {
		t.Error("the main process has no memory file open")
	}
	from := shm.Now()
	h.kill()
	h.reap()
	lateFrom := shm.Now()
	for state, b := range h.books {
		if state != "stopped" {
			b.dead.Store(1)
			b.order.Store(1)
		}
	}
	// The others are gone before the stopped one goes on: they do not wait for it.
	for state, b := range h.books {
		if state != "stopped" {
			eventually(t, "learns of the death: "+state, func() bool { return b.stage.Load() == guestDone })
		}
	}
	if memory.poll(); memory.left != 1 {
		eventually(t, "one memory file is left, of the stopped worker", func() bool { memory.poll(); return memory.left == 1 })
	}
	continued := shm.Now()
	stopped.dead.Store(1)
	syscall.Kill(int(stopped.pid.Load()), syscall.SIGCONT)
	h.settle()
	eventually(t, "the memory is freed", func() bool { memory.poll(); return memory.left == 0 })
	for state, b := range h.books {
		since := from
		switch {
		case state == "stopped":
			since = continued
		case late[state]:
			since = lateFrom
		}
		for what, n := range map[string]*notice{state + ": context": &b.ctx, state + ": error": &b.op} {
			if n.at.Load() == 0 {
				continue // nobody has asked for the context
			}
			took[what] = append(took[what], time.Duration(n.at.Load()-since))
			if passed := time.Duration(n.passed.Load()); passed > promisedNotice {
				t.Errorf("%s: after %v of the worker's own time", what, passed)
			}
		}
	}
}

// killHostEarly kills one at some instant of its beginning, and of its workers'.
func killHostEarly(t *testing.T, random *rand.Rand) {
	h := startHost(t)
	defer h.close()
	for end := shm.Now() + random.Int64N(int64(120*time.Millisecond)); shm.Now() < end; {
		time.Sleep(100 * time.Microsecond)
	}
	h.kill()
	for _, b := range h.books {
		b.order.Store(1)
	}
	stopped := h.books["stopped"]
	eventually(t, "the stopped worker is stopped, or was never begun", func() bool {
		n := len(sessionProcesses(filepath.Base(h.dir)))
		return n == 0 || n == 1 && processState(int(stopped.pid.Load())) == "T"
	})
	if pid := int(stopped.pid.Load()); pid != 0 && processState(pid) == "T" {
		syscall.Kill(pid, syscall.SIGCONT)
	}
	h.settle()
}

// processState is the letter in /proc/PID/stat.
func processState(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])); len(f) > 0 {
		return f[0]
	}
	return ""
}

// memoryWatch counts the memory files of a process that somebody, whoever, has
// open or mapped. It holds none of them: the kernel tells it (IN_DELETE_SELF) when
// the last descriptor and mapping of a file without a name is gone.
type memoryWatch struct {
	t    testing.TB
	fd   int
	left int
}

func watchMemory(t testing.TB, pid int) *memoryWatch {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	must(t, err)
	w := &memoryWatch{t: t, fd: fd}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	must(t, err)
	seen := map[int]bool{}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if target, _ := os.Readlink(path); !strings.HasPrefix(target, "/memfd:shmrouter") {
			continue
		}
		wd, err := unix.InotifyAddWatch(fd, path, unix.IN_DELETE_SELF) // the same number for the same file
		must(t, err)
		seen[wd] = true
	}
	w.left = len(seen)
	return w
}

// poll hears the news.
func (w *memoryWatch) poll() {
	b := make([]byte, 4096)
	for {
		n, err := unix.Read(w.fd, b)
		if err != nil {
			return
		}
		for rest := b[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			if binary.NativeEndian.Uint32(rest[4:])&unix.IN_DELETE_SELF != 0 {
				w.left--
			}
			rest = rest[unix.SizeofInotifyEvent+binary.NativeEndian.Uint32(rest[12:]):]
		}
	}
}

func (w *memoryWatch) close() { unix.Close(w.fd) }
