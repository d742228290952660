package router

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/shm"
)

var soakTime = flag.Duration("soak", 2*time.Second, "how long TestLives kills routers")

// places are where a life of the router ends, with how much later than there.
var places = []struct {
	at   string
	upTo int64         // the pass, at most
	spin time.Duration // at most
}{
	{"start", 1, 1500 * time.Microsecond}, // Start is called, and resumes
	{"handler", 300, 0},                   // in a handler
	{"returned", 300, 8 * time.Microsecond},
	{"release", 100, 300},                 // the handlers of a Poll have returned; here Spin is the step
	{"stop", 300, 400 * time.Microsecond}, // Stop is called
	{"close", 300, 10 * time.Microsecond}, // ClosePipe is called
	{"pipe", 300, 10 * time.Microsecond},  // Pipe is called
	{"launch", 100, 3 * time.Millisecond}, // Launch is called, and forks
	{"full", 100, 200 * time.Microsecond}, // the ring is full, and workers wait for room, one in this process perhaps
	{"attach", 0, 200 * time.Microsecond}, // a worker attaches; by the test
	{"any", 0, 12 * time.Millisecond},     // anywhere after the process was started; by the test
}

const (
	livesPerRound = 25
	livesWorkers  = 3
)

// The main process is killed at random, in all that it does, and the next one
// goes on; workers send all the time, and some of them are killed, too. What was
// acknowledged was delivered, what was delivered was meant, whole and in order;
// twice comes only what the dead router had not released, and it is marked.
func TestLives(t *testing.T) {
	guard(t)
	random := ringtest.Random(t)
	deaths := map[string]int{}
	var sum livesSum
	for deadline := time.Now().Add(*soakTime); time.Now().Before(deadline) && !t.Failed(); {
		newRound(t, random, deaths).run(deadline, &sum)
	}
	t.Logf("%d rounds: %d lives, %d workers, %d of them killed; %d messages delivered, %d of them twice; by place %v",
		sum.rounds, sum.lives, sum.workers, sum.killed, sum.messages, sum.again, deaths)
}

type livesSum struct{ rounds, lives, workers, killed, messages, again int }

// round is one segment, from its creation on, and all that goes on there.
type round struct {
	t       *testing.T
	random  *rand.Rand
	dir     string
	session string // in the environment of every process of this round
	log     *logbook
	oracle  *oracle
	deaths  map[string]int
	undo    []func()

	life    uint32
	serials uint32
	workers map[uint32]*testWorker
	killed  map[uint32]bool
}

// testWorker is the test's view of one.
type testWorker struct {
	serial uint32
	diary  *diary
	cmd    *exec.Cmd // nil if a life launched it
	exited chan error
	asked  uint32 // the life that was asked for its pipe
}

const sessionEnv = "ROUTER_TEST_SESSION"

func newRound(t *testing.T, random *rand.Rand, deaths map[string]int) *round {
	dir, err := os.MkdirTemp(shm.DefaultDir(), "shmrouter-lives")
	must(t, err)
	r := &round{
		t: t, random: random, dir: dir, deaths: deaths, session: filepath.Base(dir),
		workers: map[uint32]*testWorker{}, killed: map[uint32]bool{},
	}
	r.undo = append(r.undo, func() { os.RemoveAll(dir) })
	log, closeLog, err := openBook[logbook](filepath.Join(dir, "log"))
	must(t, err)
	r.undo = append(r.undo, closeLog)
	r.log, r.oracle = log, newOracle(dir, log)
	t.Cleanup(r.close)
	return r
}

func (r *round) close() {
	for _, pid := range sessionProcesses(r.session) {
		syscall.Kill(pid, syscall.SIGKILL) // the test has failed
	}
	for _, undo := range slices.Backward(r.undo) {
		undo()
	}
	r.undo = nil
}

func (r *round) run(deadline time.Time, sum *livesSum) {
	for r.life < livesPerRound && r.log.count.Load() < maxLines/2 && (r.life < 3 || time.Now().Before(deadline)) {
		r.oneLife()
		r.judge("life %d", r.life)
		if r.t.Failed() {
			return
		}
	}
	r.finish()
	sum.rounds++
	sum.lives += int(r.life)
	sum.workers += len(r.workers)
	sum.killed += len(r.killed)
	sum.messages += r.oracle.messages
	sum.again += r.oracle.again
	r.close()
}

func (r *round) judge(format string, args ...any) {
	r.t.Helper()
	for _, w := range r.oracle.wrong {
		r.t.Error(w)
	}
	if len(r.oracle.wrong) > 0 {
		r.t.Fatalf("in "+format, args...)
	}
}

// plan makes one at random.
func (r *round) plan() plan {
	r.life++
	at := places[r.random.IntN(len(places))]
	p := plan{
		Dir: r.dir, Life: r.life, At: at.at, Inbox: 1 + r.random.IntN(4), Turn: 1 + r.random.IntN(64),
		Pull: r.random.IntN(3) == 0, Seed: r.random.Uint64(),
	}
	if at.upTo > 0 {
		p.N = 1 + r.random.Int64N(at.upTo)
	}
	if at.spin > 0 {
		p.Spin = time.Duration(r.random.Int64N(int64(at.spin)))
	}
	if p.At == "launch" {
		p.Child = r.newWorker().serial
	}
	if r.random.IntN(3) == 0 {
		w := r.newWorker()
		p.Self = w.serial
		r.killed[w.serial] = true // with its life
	}
	return p
}

func (r *round) newWorker() *testWorker {
	r.serials++
	w := &testWorker{serial: r.serials, asked: r.life}
	d, closeDiary, err := openBook[diary](diaryPath(r.dir, w.serial))
	must(r.t, err)
	r.undo = append(r.undo, closeDiary)
	w.diary = d
	r.workers[w.serial], r.oracle.books[w.serial] = w, d
	return w
}

// oneLife starts a main process, sees that there are workers, and outlives it.
func (r *round) oneLife() {
	t, p := r.t, r.plan()
	l := startLife(t, r.session, p)
	defer l.out.Close()
	cmd, in, lines := l.cmd, l.in, l.lines
	var bang <-chan time.Time
	if p.At == "any" {
		bang = time.After(p.Spin)
	}
	patience := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	started := false
	for alive := true; alive; {
		select {
		case line, ok := <-lines:
			if alive = ok; ok {
				started = true
				r.hear(&p, cmd, line)
			}
		case <-bang:
			cmd.Process.Kill()
		case <-tick.C:
			if started {
				r.replenish(&p, in)
			}
		case <-patience:
			t.Errorf("life %d does not come to its end at %s, pass %d: %d lines", p.Life, p.At, p.N, r.log.count.Load())
			cmd.Process.Signal(syscall.SIGQUIT)
			cmd.Wait()
			return
		}
	}
	if err := l.killed(); err != nil {
		t.Errorf("life %d, %s: %v", p.Life, p.At, err)
		return
	}
	r.deaths[p.At]++
	r.afterDeath(p.Life)
}

// hear deals with what a life says.
func (r *round) hear(p *plan, life *exec.Cmd, line string) {
	f := strings.Fields(line)
	var serial uint32
	fmt.Sscan(f[1], &serial)
	switch f[0] {
	case "token":
		r.startWorker(p, life, serial, f[2])
	case "refused":
		r.workers[serial].diary.stage.Store(stageStopped) // nothing will come of it
	}
}

// startWorker starts one that is not the router's child.
func (r *round) startWorker(p *plan, life *exec.Cmd, serial uint32, token string) {
	w := r.workers[serial]
	w.cmd = command(r.t, "lives worker", workerArg(r.dir, serial, token, r.random.Uint64()))
	w.cmd.Env = append(w.cmd.Env, sessionEnv+"="+r.session)
	must(r.t, w.cmd.Start())
	w.exited = make(chan error, 1)
	go func() { w.exited <- w.cmd.Wait() }()
	if p.At == "attach" {
		// The life that made its pipe ends while it attaches.
		for end := time.Now().Add(patience); w.diary.stage.Load() < stageAttaching && time.Now().Before(end); {
		}
		for end := shm.Now() + int64(p.Spin); shm.Now() < end; {
		}
		life.Process.Kill()
	}
}

// replenish kills a worker now and then, and sees that there are enough.
func (r *round) replenish(p *plan, in io.Writer) {
	var living []*testWorker
	waiting := 0
	for _, w := range r.workers {
		switch stage := w.diary.stage.Load(); {
		case r.killed[w.serial] || stage >= stageStopped:
		case stage == stageNew && w.asked != p.Life && w.cmd == nil:
			// It was asked of a life that died, which may have launched it or not.
		case stage == stageNew && w.serial != p.Child:
			waiting++
		case stage == stageNew:
		default:
			living = append(living, w)
		}
	}
	if len(living) > 0 && r.random.IntN(12) == 0 {
		w := living[r.random.IntN(len(living))]
		switch r.random.IntN(5) {
		case 4:
			if w.cmd != nil { // it is stopped wherever it is, which may hold everybody up
				w.cmd.Process.Signal(syscall.SIGSTOP)
				time.AfterFunc(time.Duration(r.random.IntN(20))*time.Millisecond, func() { w.cmd.Process.Signal(syscall.SIGCONT) })
			}
		case 0:
			w.diary.order.Store(1) // stops
		case 1:
			for id, q := range r.oracle.pipes {
				if q.serial == w.serial {
					fmt.Fprintln(in, "closeID", id)
				}
			}
		default:
			r.kill(w)
		}
	}
	for n := len(living) + waiting; n < livesWorkers; n++ {
		w := r.newWorker()
		verb := "token"
		if p.At != "attach" && r.random.IntN(3) == 0 {
			verb = "launch"
		}
		fmt.Fprintln(in, verb, w.serial)
	}
}

// kill kills a worker, wherever it is.
func (r *round) kill(w *testWorker) {
	r.killed[w.serial] = true
	if w.cmd != nil {
		w.cmd.Process.Kill()
	} else if pid := int(w.diary.pid.Load()); slices.Contains(sessionProcesses(r.session), pid) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}
