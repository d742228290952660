package stress

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/shmrouter/shmrouter/router"
)

// elsewhere is a router in another process, the steward, that is killed and followed by the
// next one. This process is the judge only: it holds no part of the router.
type elsewhere struct {
	work  stewardship
	from  uint64 // position at which the ring begins, in granules
	meter *meter

	lives       atomic.Int64
	killed      atomic.Int64
	stopped     atomic.Int64
	redelivered atomic.Int64
	trouble     func(string) // told of what cannot be; nil before the first run

	mu     sync.Mutex
	life   *life
	wanted *farPipe            // has been asked for
	pipes  map[uint64]*farPipe // by id, until the steward has closed them
	past   figures             // of lives that are over
	now    figures             // of this one
	asking sync.Mutex          // one "pipe" at a time
}

// life is one steward process.
type life struct {
	number int
	cmd    *exec.Cmd
	orders *os.File
	ready  chan struct{}
	over   chan struct{} // everything it has told was read, and it was waited for
	exit   error
}

// farPipe is a pipe whose receiver is in the steward.
type farPipe struct {
	e      *elsewhere
	id     uint64
	token  chan string // once, when it is there
	m      *member
	book   *book
	closed bool // to be
}

// EnvToken tells a worker of a steward's router its sender.
const EnvToken = "SHMDEMO_TOKEN"

// NewKilledHost is a host whose main process is killed and resumed, at cfg.Path.
// Its ring begins at position from.
func NewKilledHost(cfg Config, from uint64) *Host {
	cfg = cfg.complete()
	h := &Host{path: cfg.Path, keeps: true, meter: newMeter()}
	h.main = &elsewhere{
		work: stewardship{cfg.Path, cfg.Capacity}, from: from, meter: h.meter,
		pipes: map[uint64]*farPipe{},
	}
	return h
}

// start makes the segment, moves its positions, and begins the first life.
func (e *elsewhere) start() error {
	e.past, e.now = figures{}, figures{}
	if err := e.begin(); err != nil {
		return err
	}
	if err := e.end(); err != nil {
		return err
	}
	if err := startAt(e.work.Path, e.from); err != nil {
		return err
	}
	return e.begin()
}

func (e *elsewhere) stop() error {
	err := e.end()
	e.mu.Lock()
	left := len(e.pipes)
	clear(e.pipes)
	e.mu.Unlock()
	if left > 0 {
		err = errors.Join(err, fmt.Errorf("%d pipes were not closed", left))
	}
	return errors.Join(err, os.Remove(e.work.Path))
}

// begin starts a life, and waits until its router runs.
func (e *elsewhere) begin() error {
	text, err := json.Marshal(e.work)
	if err != nil {
		return err
	}
	ordersOut, ordersIn, err := os.Pipe()
	if err != nil {
		return err
	}
	recordsOut, recordsIn, err := os.Pipe()
	if err != nil {
		ordersOut.Close()
		ordersIn.Close()
		return err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = "shmdemo-main"
	cmd.Env = append(os.Environ(), EnvWorker+"="+envSteward+string(text))
	cmd.ExtraFiles = []*os.File{ordersOut, recordsIn}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	l := &life{number: int(e.lives.Add(1)), cmd: cmd, orders: ordersIn, ready: make(chan struct{}), over: make(chan struct{})}
	err = cmd.Start()
	ordersOut.Close()
	recordsIn.Close()
	if err != nil {
		ordersIn.Close()
		recordsOut.Close()
		return err
	}
	noteStarted(cmd.Process.Pid)
	e.mu.Lock()
	e.life = l
	e.mu.Unlock()
	go func() {
		defer close(l.over)
		found := map[uint64]bool{}
		err := records(recordsOut, func(t telling) { e.take(l, t, found) })
		recordsOut.Close()
		l.exit = errors.Join(err, cmd.Wait())
		noteWaited(cmd.Process.Pid)
		ordersIn.Close()
		e.mu.Lock()
		e.past.addCounts(e.now)
		e.now = figures{}
		if e.life == l {
			e.life = nil
		}
		e.mu.Unlock()
	}()
	select {
	case <-l.ready:
		return nil
	case <-l.over:
		return fmt.Errorf("the main process did not start: %v", l.exit)
	}
}

// end stops a life in order.
func (e *elsewhere) end() error {
	l := e.present()
	if l == nil {
		return errors.New("the main process is not there")
	}
	fmt.Fprintln(l.orders, "stop")
	<-l.over
	return l.exit
}

func (e *elsewhere) present() *life {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.life
}

// order gives an order, which is lost if nobody is there to take it.
func (e *elsewhere) order(format string, args ...any) {
	if l := e.present(); l != nil {
		fmt.Fprintf(l.orders, format+"\n", args...)
	}
}

// take reads one record of a life; on its goroutine.
func (e *elsewhere) take(l *life, t telling, found map[uint64]bool) {
	e.mu.Lock()
	p := e.pipes[t.id]
	e.mu.Unlock()
	switch t.kind {
	case recHave:
		found[t.id] = true
		if p == nil || p.closed {
			fmt.Fprintf(l.orders, "close %d\n", t.id) // the pipe's token never came, or its close was lost
		}
	case recReady:
		e.mu.Lock()
		for id, p := range e.pipes {
			if p.closed && !found[id] {
				delete(e.pipes, id)
			}
		}
		e.mu.Unlock()
		close(l.ready)
	case recPipe:
		// Entered here and now, since the next life tells of it, too, and what nobody has is closed.
		e.mu.Lock()
		far := e.wanted
		if e.wanted = nil; far != nil {
			far.id = t.id
			e.pipes[t.id] = far
		}
		e.mu.Unlock()
		if far == nil {
			fmt.Fprintf(l.orders, "close %d\n", t.id) // it was asked for twice
			return
		}
		far.token <- string(t.data)
	case recMessage:
		if p != nil {
			p.book.arriveIn(p.m, t.data, l.number, t.flag != 0, &e.redelivered)
		}
	case recEnd:
		switch {
		case p == nil:
		case t.flag != 0:
			p.m.endOfPipe(&router.PeerError{Slot: -1})
		case len(t.data) > 0:
			p.m.endOfPipe(errors.New(string(t.data)))
		default:
			p.m.endOfPipe(nil)
		}
	case recClosed:
		e.mu.Lock()
		delete(e.pipes, t.id)
		e.mu.Unlock()
	case recFigures:
		if f, ok := unpackFigures(t.data); ok {
			e.mu.Lock()
			e.now = f
			e.mu.Unlock()
		}
	case recTrouble:
		e.mu.Lock()
		tell := e.trouble
		e.mu.Unlock()
		if tell != nil {
			tell("the main process: " + string(t.data))
		}
	}
}

// admit asks for a pipe until a life answers.
func (e *elsewhere) admit(b *book, m *member, cmd *exec.Cmd) error {
	e.asking.Lock()
	defer e.asking.Unlock()
	far := &farPipe{e: e, m: m, book: b, token: make(chan string, 1)}
	m.pipe, m.far = far, true
	e.mu.Lock()
	e.wanted = far
	e.mu.Unlock()
	for begun := time.Now(); ; {
		e.order("pipe")
		select {
		case token := <-far.token:
			cmd.Env = append(cmd.Env, EnvToken+"="+token)
			w, err := startProcess(cmd)
			m.worker = w
			return err
		case <-time.After(200 * time.Millisecond): // it was killed with the order
			if time.Since(begun) > time.Minute {
				return errors.New("the main process makes no pipe")
			}
		}
	}
}

func (e *elsewhere) figures() figures {
	e.mu.Lock()
	defer e.mu.Unlock()
	f := e.now
	f.addCounts(e.past)
	// What a killed life had delivered and not released comes again, also where that
	// life has closed the pipe since.
	f.discarded = 0
	return f
}

func (e *elsewhere) segment() (*os.File, error) { return os.Open(e.work.Path) }

func (p *farPipe) Cancel() error {
	p.e.order("cancel %d", p.id)
	return nil
}

func (p *farPipe) Close() error {
	p.e.mu.Lock()
	p.closed = true
	p.e.mu.Unlock()
	p.e.order("close %d", p.id)
	return nil
}

// addCounts adds what a router counts from its start; the ring's own counts go on.
func (f *figures) addCounts(o figures) {
	f.discarded += o.discarded
	f.malformed += o.malformed
	f.unrouted += o.unrouted
	f.damages += o.damages
	f.panics += o.panics
}
