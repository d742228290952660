package stress

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
)

// EnvWorker is the environment variable that makes the program a worker.
const EnvWorker = "SHMDEMO_WORKER"

// diaryFD is the diary's descriptor in a worker: the first that exec.Cmd hands on.
const diaryFD = 3

// briefing is what a worker is told at its start, in EnvWorker.
type briefing struct {
	Seed        uint64
	Sizes       Sizes
	Seat        int
	Incarnation int
	Claims      bool   // write through zero-copy claims
	Quota       uint64 // messages to send before it pauses for good; 0: no end
	Reserve     uint64 // of these, to keep for pings
	Path        string // of a named segment
	Pause       time.Duration
	Parent      int // pid of the main process
	character
}

// worker is a process that sends.
type worker struct {
	briefing
	plan plan
	page *diaryPage
	s    *sender.Sender
	ctx  context.Context // ends when the main process says so, or is no more

	far bool // the main process may be killed, and resumed

	n   uint64 // number of the last message
	buf []byte

	rested int64  // the lull that it has rested in
	silent uint64 // the message before which it falls silent
}

// Worker runs a worker process until its pipe is cancelled or its router is
// gone, and returns its exit status.
func Worker() int {
	if text, ok := strings.CutPrefix(os.Getenv(EnvWorker), envSteward); ok {
		return serve(text)
	}
	if ms, ok := strings.CutPrefix(os.Getenv(EnvWorker), envNap); ok {
		return nap(ms)
	}
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func work() error {
	w := &worker{}
	if err := json.Unmarshal([]byte(os.Getenv(EnvWorker)), &w.briefing); err != nil {
		return fmt.Errorf("%s: %w", EnvWorker, err)
	}
	d, err := openDiary(os.NewFile(diaryFD, "diary"))
	if err != nil {
		return err
	}
	w.page = d.page
	w.plan = newPlan(w.Seed, w.Sizes, w.Seat, w.Incarnation, newNoise(w.Seed))
	sweep := w.willSweepPath()
	defer sweep()
	if token := os.Getenv(EnvToken); token != "" {
		w.far = true
		err = w.startFar(token)
	} else if w.s, err = sender.FromEnv(); err == nil {
		err = w.s.Start()
	}
	switch {
	case err != nil && w.orphaned():
		return nil
	case err != nil:
		return err
	}
	if !w.far {
		w.ctx = w.s.Context()
	}
	if w.Forks {
		go w.runPrograms()
	}
	if err := w.run(); err != nil && w.ctx.Err() == nil {
		return fmt.Errorf("message %d: %w", w.n, err)
	}
	w.page.stopping.Store(1)
	return w.s.Stop()
}

func (w *worker) orphaned() bool { return os.Getppid() != w.Parent }

// willSweepPath returns what a worker does last: a main process that was killed
// could not remove its segment's file.
func (w *worker) willSweepPath() func() {
	made, err := os.Stat(w.Path)
	if w.Path == "" || err != nil {
		return func() {}
	}
	return func() {
		if now, err := os.Lstat(w.Path); err == nil && w.orphaned() && os.SameFile(made, now) {
			os.Remove(w.Path)
		}
	}
}

// run sends, and carries out orders, until the context ends.
func (w *worker) run() error {
	for paused := 0; w.ctx.Err() == nil; {
		order := w.page.order.Load()
		if w.Life != 0 && w.n >= w.Life {
			return nil
		}
		var err error
		switch {
		case order == w.page.did.Load() && order != orderRun:
			w.sleep(time.Millisecond << min(paused/8, 4)) // many that look often leave nobody a processor
			paused++
			continue
		case order == orderRun:
			err = w.free()
		case order == orderPing:
			err = w.ping()
		case order == orderPress:
			err = w.press()
		default:
			w.page.did.Store(order)
		}
		if err != nil {
			return err
		}
		paused = 0
	}
	return nil
}

// free sends one thing after the other, as long as no other order is there and
// the quota is not used up.
func (w *worker) free() error {
	for w.ctx.Err() == nil && w.page.order.Load() == orderRun && (w.Life == 0 || w.n < w.Life) {
		if w.Quota != 0 && w.n+w.Reserve >= w.Quota {
			w.page.idle.Store(1)
			w.sleep(time.Millisecond)
			continue
		}
		if err := w.next(); err != nil {
			return err
		}
		w.rest()
		w.burst()
		if w.Pause > 0 {
			w.sleep(w.Pause)
		}
	}
	return nil
}

// Everybody rests for lullTime in every lullEvery, so that now and then the
// router runs dry and goes to sleep. The first to send again has to wake it.
const (
	lullEvery = int64(200 * time.Millisecond)
	lullTime  = int64(10 * time.Millisecond)
)

func (w *worker) rest() {
	now := shm.Now()
	lull, at := now/lullEvery, now%lullEvery
	if at > lullTime || lull == w.rested {
		return
	}
	w.rested = lull
	early := int64(below(w.plan.random(w.n, saltOp), uint64(lullTime/2))) // not all at one moment
	w.sleep(time.Duration(lullTime - at + early - lullTime/2))
}

// A ping goes out a while after the one before has arrived, when the router sleeps
// again.
const (
	pings     = 12
	pingPause = 20 * time.Millisecond
	pingLost  = int64(time.Second)
)

func (w *worker) ping() error {
	for range pings {
		w.sleep(pingPause)
		at := shm.Now()
		w.page.pingAt.Store(at)
		if err := w.next(); err != nil {
			return err
		}
		for w.page.echo.Load() != at && shm.Now()-at < pingLost && w.ctx.Err() == nil {
			w.sleep(time.Millisecond)
		}
	}
	w.page.did.Store(orderPing)
	return nil
}

// A press sends into a router that brakes, so that the worker has to wait for
// room. A wait without a wake ends after 100 ms, when the worker looks by itself.
const (
	pressTime = 600 * time.Millisecond
	slowSend  = int64(80 * time.Millisecond)
)

func (w *worker) press() error {
	before := w.s.Stats().Waits
	w.page.slow.Store(0)
	for end := shm.Now() + int64(pressTime); shm.Now() < end && w.ctx.Err() == nil; {
		start := shm.Now()
		if err := w.next(); err != nil {
			return err
		}
		if shm.Now()-start >= slowSend {
			w.page.slow.Add(1)
		}
	}
	w.page.waits.Store(w.s.Stats().Waits - before)
	w.page.did.Store(orderPress)
	return nil
}

// sleep pauses, but not beyond the end of the context.
func (w *worker) sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-w.ctx.Done():
	}
}
