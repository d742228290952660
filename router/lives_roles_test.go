package router

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
	"golang.org/x/sys/unix"
)

// plan says what a life of the router is like, and where it ends.
type plan struct {
	Dir   string
	Life  uint32
	At    string        // the place, see places
	N     int64         // at the Nth pass there
	Spin  time.Duration // and so much later
	Inbox int
	Turn  int
	Pull  bool   // every other receiver is read by a goroutine
	Self  uint32 // serial of a sender in the router's own process; 0: none
	Child uint32 // serial of the worker that is launched when the life ends; 0: none
	Seed  uint64
}

// killer ends its own process by SIGKILL, at an instant that it meets to within
// a microsecond: it is spinning when it is told.
type killer struct {
	wake  chan struct{}
	ready atomic.Bool
	due   atomic.Int64
}

func newKiller() *killer {
	k := &killer{wake: make(chan struct{}, 1)}
	go func() {
		runtime.LockOSThread()
		<-k.wake
		k.ready.Store(true)
		for due := int64(0); due == 0 || shm.Now() < due; due = k.due.Load() {
		}
		killSelf()
	}()
	return k
}

func (k *killer) in(d time.Duration) {
	select {
	case k.wake <- struct{}{}:
	default:
	}
	for !k.ready.Load() {
		runtime.Gosched()
	}
	k.due.CompareAndSwap(0, shm.Now()+int64(d))
}

func killSelf() {
	unix.Kill(os.Getpid(), unix.SIGKILL)
	select {}
}

// lifeLog is how a life writes to the book.
type lifeLog struct {
	mu   sync.Mutex
	book *logbook
	life uint32
}

func (l *lifeLog) add(n note, flags uint32) *logLine {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := l.book.count.Load()
	line := &l.book.lines[count]
	n.life = l.life
	line.note = n
	line.flags.Store(flags)
	l.book.count.Store(count + 1)
	return line
}

// message notes one that a handler was given.
func (l *lifeLog) message(id uint64, m Message) *logLine {
	var flags uint32
	if m.Redelivered {
		flags |= flagMarked
	}
	serial, number, at, err := openLetter(m.Data)
	if err != nil {
		flags |= flagTorn
	}
	return l.add(note{kind: lineMessage, id: id, seq: m.Seq, serial: serial, number: number, at: at}, flags)
}

func (l *lifeLog) end(id uint64, err error) {
	n := note{kind: lineEnd, id: id}
	if err != nil {
		n.number = 1
	}
	l.add(n, 0)
}

// lifeRole is one life of a main process. What it is told on its standard input,
// a verb and a worker's serial number, it does one after the other.
func lifeRole(arg string) error {
	var p plan
	if err := json.Unmarshal([]byte(arg), &p); err != nil {
		return err
	}
	book, _, err := openBook[logbook](filepath.Join(p.Dir, "log"))
	if err != nil {
		return err
	}
	r, err := livesRouter(&p)
	if err != nil {
		return err
	}
	v := &life{plan: &p, log: &lifeLog{book: book, life: p.Life}, r: r, k: newKiller(), todo: make(chan string, 64)}
	if p.At == "release" {
		testHookRelease = v.releasing
	}
	if p.At == "start" {
		v.k.in(p.Spin)
	}
	began := shm.Now()
	if err := startPatiently(r); err != nil {
		return err
	}
	v.log.add(note{kind: lineStart, at: shm.Now()}, 0)
	fmt.Println("started", shm.Now()-began)
	rcvs, err := r.Receivers()
	if err != nil {
		return err
	}
	for _, rcv := range rcvs {
		v.log.add(note{kind: lineListed, id: rcv.ID()}, 0)
	}
	v.log.add(note{kind: lineReady}, 0)
	for _, rcv := range rcvs {
		v.attend(rcv)
	}
	if p.Self != 0 {
		if err := v.sendItself(); err != nil {
			return err
		}
	}
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			v.todo <- in.Text()
		}
		os.Exit(0) // the test is gone
	}()
	for do := range v.todo {
		if err := v.do(do); err != nil {
			return err
		}
	}
	return nil
}

func livesRouter(p *plan) (*Router, error) {
	return New(WithPath(filepath.Join(p.Dir, "segment")), WithResume(), WithCapacity(64<<10), WithMaxPipes(32),
		WithInbox(p.Inbox), WithTurn(p.Turn), WithQueue(32))
}

// startPatiently waits for the router before this one to be gone: the kernel frees
// a killed one's locks with its last thread, and with a child that had not come
// to its exec.
func startPatiently(r *Router) error {
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Microsecond) {
		err := r.Start()
		if !errors.Is(err, ring.ErrConsumerBusy) || time.Now().After(end) {
			return err
		}
	}
}

type life struct {
	*plan
	log      *lifeLog
	r        *Router
	k        *killer
	todo     chan string
	handled  atomic.Int64
	releases atomic.Int64
	known    sync.Map // of receivers by id
}

// attend has rcv read, and closed when it has ended.
func (v *life) attend(rcv *Receiver) {
	v.known.Store(rcv.ID(), rcv)
	onEnd := func(err error) {
		v.log.end(rcv.ID(), err)
		v.later(fmt.Sprint("closeID ", rcv.ID()))
	}
	if !v.Pull || rcv.ID()%2 == 0 {
		rcv.Handle(func(m Message) { v.message(rcv, m) }, onEnd)
		return
	}
	go func() {
		for m, err := range rcv.Messages(background) {
			var died *PeerError
			if errors.As(err, &died) {
				onEnd(err)
			}
			if err != nil {
				return
			}
			if m.Seq%16 == 0 {
				time.Sleep(200 * time.Microsecond) // later messages of others are handled before
			}
			v.message(rcv, m)
		}
		onEnd(nil)
	}()
}

// later has the main goroutine do something.
func (v *life) later(what string) {
	select {
	case v.todo <- what:
	default:
		go func() { v.todo <- what }()
	}
}

func (v *life) message(rcv *Receiver, m Message) {
	line := v.log.message(rcv.ID(), m)
	here := v.handled.Add(1) == v.N
	if here {
		switch v.At {
		case "handler":
			killSelf()
		case "block":
			select {} // the test kills it
		case "full":
			for !v.r.Stats().Ring.Waiters {
				time.Sleep(50 * time.Microsecond)
			}
			v.k.in(v.Spin)
		case "launch":
			v.later(fmt.Sprint("last ", v.Child))
		case "stop", "close", "pipe":
			v.later(v.At + " 0")
		}
	}
	line.flags.Or(flagDone)
	if here && v.At == "returned" {
		v.k.in(v.Spin)
	}
}

func (v *life) releasing(step releaseStep) {
	if step == releaseFirst {
		v.releases.Add(1)
	}
	if v.releases.Load() == v.N && int(step) == int(v.Spin)%int(releaseSteps) {
		killSelf()
	}
}

func (v *life) do(what string) error {
	var verb string
	var n uint64
	if _, err := fmt.Sscan(what, &verb, &n); err != nil {
		return err
	}
	if n == 0 || verb == "last" {
		v.k.in(v.Spin) // it is the place where this life ends
	}
	switch verb {
	case "token", "pipe":
		s, err := v.pipe(uint32(n))
		if s == nil {
			return err
		}
		token, err := s.Token()
		if n != 0 {
			fmt.Println("token", n, token)
		}
		return err
	case "launch", "last":
		s, err := v.pipe(uint32(n))
		if s == nil {
			return err
		}
		_, err = v.r.Launch(again("lives worker", workerArg(v.Dir, uint32(n), "", v.Seed)), s)
		return err
	case "close":
		v.known.Range(func(id, _ any) bool { n = id.(uint64); return false })
		fallthrough
	case "closeID":
		if rcv, ok := v.known.LoadAndDelete(n); ok {
			v.log.add(note{kind: lineClosing, id: n}, 0)
			if err := rcv.(*Receiver).Close(); err != nil {
				return err
			}
			v.log.add(note{kind: lineClosed, id: n}, 0)
		}
	case "stop":
		if err := v.r.Stop(); err != nil {
			return err
		}
		select {} // is killed
	}
	return nil
}

// pipe makes one for a worker. It returns no sender where there are too many.
func (v *life) pipe(serial uint32) (*sender.Sender, error) {
	s, rcv, err := v.r.Pipe()
	if errors.Is(err, ErrTooManyPipes) {
		fmt.Println("refused", serial)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v.log.add(note{kind: lineMade, id: rcv.ID(), serial: serial}, 0)
	v.attend(rcv)
	return s, nil
}

// sendItself begins a sender in the main process, which dies with it.
func (v *life) sendItself() error {
	s, err := v.pipe(v.Self)
	if s == nil {
		return err
	}
	d, _, err := openBook[diary](diaryPath(v.Dir, v.Self))
	if err != nil {
		return err
	}
	go d.work(v.Self, v.Seed, s, nil)
	return nil
}
