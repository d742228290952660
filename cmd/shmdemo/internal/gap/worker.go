package gap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/bench"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// EnvWorker makes a process a worker: "seat life processor rate".
const EnvWorker = "SHMDEMO_GAP_WORKER"

// messageSize is that of every message: seat, life and number, and what else there is room for.
const messageSize = 64

// seat is what a worker and the run say to each other.
type seat struct {
	die, stop *atomic.Uint64 // orders
	sent      *atomic.Uint64 // messages of this life, when it dies or stops
	died      clock
}

type clock struct{ word *atomic.Uint64 }

func (c clock) Load() int64   { return int64(c.word.Load()) }
func (c clock) Store(t int64) { c.word.Store(uint64(t)) }

const seatSize = 256 // two pairs of cache lines: orders, and reports

func seatAt(r *ring.Ring, i int) seat {
	off, _ := r.User()
	at := func(n int64) *atomic.Uint64 { return r.Segment().Word64(off + int64(i)*seatSize + n) }
	return seat{die: at(0), stop: at(8), sent: at(128), died: clock{at(136)}}
}

// worker is one as the run sees it.
type worker struct {
	cmd   *exec.Cmd
	stdin io.Closer
	life  uint64
	ended chan error

	started int64 // shm.Now
}

func startWorker(r *ring.Ring, seat int, life uint64, cpu int, rate float64) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	f, err := r.File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	w := &worker{cmd: exec.Command(self), life: life, ended: make(chan error, 1), started: shm.Now()}
	w.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %d %g", EnvWorker, seat, life, cpu, rate))
	w.cmd.ExtraFiles = []*os.File{f}
	w.cmd.Stderr = os.Stderr
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's signals are for the run
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { w.ended <- w.cmd.Wait() }()
	return w, nil
}

// await waits for a worker that was told to stop, and gives its error.
func (w *worker) await() error {
	select {
	case err := <-w.ended:
		w.stdin.Close()
		w.ended <- err
		return err
	case <-time.After(patience):
		return fmt.Errorf("worker %d does not end", w.cmd.Process.Pid)
	}
}

// awaitKilled is for one that was told to die.
func (w *worker) awaitKilled() error {
	err := w.await()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return nil
	}
	return fmt.Errorf("a worker was to be killed, and ended otherwise: %v", err)
}

func (w *worker) close() {
	w.cmd.Process.Kill() // which may be gone
	w.await()
}

// Worker is the whole life of a worker process; it returns the exit status.
func Worker() int {
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, "gap: worker:", err)
		return 1
	}
	return 0
}

func work() error {
	var index, cpu int
	var life uint64
	var rate float64
	if _, err := fmt.Sscan(os.Getenv(EnvWorker), &index, &life, &cpu, &rate); err != nil {
		return fmt.Errorf("%s: %q: %w", EnvWorker, os.Getenv(EnvWorker), err)
	}
	go func() { // no worker outlives its run
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if cpu >= 0 {
		if err := bench.Pin(cpu); err != nil {
			return err
		}
	}
	r, err := ring.OpenFile(os.NewFile(3, "ring"))
	if err != nil {
		return err
	}
	a, err := r.Attach()
	if err != nil {
		return err
	}
	defer a.Close()
	p, s := a.NewProducer(), seatAt(r, index)
	msg := make([]byte, messageSize)
	binary.LittleEndian.PutUint32(msg, uint32(index))
	binary.LittleEndian.PutUint32(msg[4:], uint32(life))
	pace := pace{rate: rate, start: shm.Now()}
	for n := uint64(0); ; n++ {
		pace.wait(n)
		if s.stop.Load() != 0 {
			s.sent.Store(n)
			return nil
		}
		if s.die.Load() != 0 {
			s.sent.Store(n)
			return die(p, s)
		}
		binary.LittleEndian.PutUint64(msg[8:], n)
		if err := p.Send(context.Background(), msg, 0); err != nil {
			return err
		}
	}
}

// die makes a claim and does not end it.
func die(p *ring.Producer, s seat) error {
	c, err := p.Claim(context.Background(), messageSize, 0)
	if err != nil {
		return err
	}
	clear(c.Bytes())
	s.die.Store(0) // for the next one in this seat
	s.died.Store(shm.Now())
	return syscall.Kill(os.Getpid(), syscall.SIGKILL) // does not return
}

// pace keeps a rate in messages a second, 0 for none: it sleeps, and then lets go what is due.
type pace struct {
	rate    float64
	start   int64
	allowed uint64
}

func (p *pace) wait(n uint64) {
	for p.rate > 0 && n >= p.allowed {
		rest := unix.NsecToTimespec(int64(100 * time.Microsecond))
		unix.Nanosleep(&rest, nil) // no matter how long
		p.allowed = uint64(float64(shm.Now()-p.start) * p.rate / 1e9)
	}
}
