package sweep

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// world is what a victim lives and dies in. Its methods return an error only where the sweep itself has
// failed; what the library does wrong goes into the book.
type world interface {
	cast(o *operation, sender uint64) (*role, error) // one more victim, to be started
	begins() error                                   // the victims stand before their operation
	unblock(n int) error                             // a victim sleeps in it, for the n-th time
	others(stopped []*role) error                    // these stand in the midst of it: the others go on as far as they can
	goesOn() error                                   // a victim is about to go on
	through() error                                  // the operations of all have ended, and the victims live
	died(r *role) error                              // this one has been killed
	aftermath(all []*role) error                     // they are dead: the others go on, and it is judged
	rest() func()                                    // what remains of that and only waits, or nil: the lane may go on meanwhile
	verdict() *book
	recoveries() int
	close()
}

// ringWorld is a ring of its own with the lane's neighbour and a consumer.
type ringWorld struct {
	op     *operation
	traced bool
	seed   uint64
	friend *friend
	ring   *ring.Ring
	file   *os.File
	cons   *ring.Consumer
	book   book
	corpse *role

	reader  *role        // the victim that is the consumer, or about to be, while it lives
	waiter  chan error   // the consumer's Wait, while it sleeps on a goroutine of its own
	sleeper uint64       // the position that it sleeps at
	pressed bool         // the others have sent as much as they could
	stalled map[int]bool // processes whose claims have been in the way
	skips   int          // claims of the dead that the consumer stepped over
	roles   []*role
}

func newRingWorld(o *operation, f *friend, seed uint64, traced bool) (w *ringWorld, err error) {
	w = &ringWorld{op: o, friend: f, seed: seed, traced: traced, stalled: map[int]bool{}}
	defer func() {
		if err != nil {
			w.close()
			w = nil
		}
	}()
	if w.ring, err = ring.New(ring.Options{Capacity: ring.MinCapacity}); err != nil {
		return w, err
	}
	if w.file, err = w.ring.File(); err != nil {
		return w, err
	}
	if err = w.consume(); err != nil {
		return w, err
	}
	if o.cas {
		if err = w.withoutBarriers(); err != nil {
			return w, err
		}
	}
	if err = f.do(order{Do: doRing}, w.file); err != nil {
		return w, err
	}
	for _, at := range []uint64{900, 1800, o.at} {
		if err = f.do(order{Do: doReach, Until: min(at, o.at)}, nil); err != nil {
			return w, err
		}
		if err = w.drain(); err != nil {
			return w, err
		}
	}
	if o.reads {
		if err = w.leave(); err != nil {
			return w, err
		}
	}
	if o.backlog > 0 {
		if err = f.do(order{Do: doSend, Count: o.backlog, Size: frameSize, Patience: patience}, nil); err != nil {
			return w, err
		}
	}
	if o.corpse != nil {
		if err = w.bury(); err != nil {
			return w, err
		}
	}
	if o.after != nil {
		if err = o.after(w); err != nil {
			return w, err
		}
	}
	if o.full {
		err = f.do(order{Do: doFill, Size: frameSize}, nil)
	}
	return w, err
}

// fence is the word that says in its lowest bit whether the consumer has barriers.
const fence = 8328

// withoutBarriers has producers believe that the consumer has none. It runs them all the same, which a producer
// does not see.
func (w *ringWorld) withoutBarriers() error {
	if was := w.ring.Segment().Word32(fence).And(^uint32(1)); shm.CanBarrier() && was&1 == 0 {
		return fmt.Errorf("at %d is no word for barriers: it says %d", fence, was)
	}
	return nil
}

// bury has a process live as the operation says, and die.
func (w *ringWorld) bury() (err error) {
	if w.corpse, err = newRole(w.op, byCorpse, true, false, "", w.file); err != nil {
		return err
	}
	if err := w.corpse.cmd.Start(); err != nil {
		return err
	}
	w.corpse.started(w.corpse.cmd.Process.Pid)
	ok := eventually(func() bool { return w.corpse.diary.ready.Load() != 0 })
	w.corpse.cmd.Process.Kill()
	w.corpse.cmd.Wait()
	if !ok {
		return fmt.Errorf("whoever was to die first did not come so far: %s", w.corpse.said())
	}
	if w.op.reads {
		w.inherit(w.corpse)
	}
	return nil
}

// eventually waits for something that comes soon.
func eventually(cond func() bool) bool {
	for end := time.Now().Add(patience); !cond(); time.Sleep(50 * time.Microsecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// consume takes the consumer's seat in this process. A dead consumer's is free soon.
func (w *ringWorld) consume() (err error) {
	eventually(func() bool {
		w.cons, err = w.ring.Consume(ring.WithWaiting(ring.Thrift),
			ring.WithOnSkip(func(ring.SkipEvent) { w.skips++ }),
			ring.WithOnStall(func(e ring.StallEvent) { w.stalled[e.PID] = true }))
		return !errors.Is(err, ring.ErrConsumerBusy)
	})
	if err == nil {
		// No time limit hides a lost wake.
		w.cons.SetIdle(3 * patience)
	}
	return err
}

func (w *ringWorld) leave() error {
	err := w.cons.Close()
	w.cons = nil
	return err
}

func (w *ringWorld) deliver(f ring.Frame) ring.Action {
	w.book.deliver(f.Data)
	return ring.Continue
}

// drain consumes what is there.
func (w *ringWorld) drain() error {
	for {
		n, err := w.cons.Poll(manyTakes, w.deliver)
		if n == 0 || err != nil {
			return err
		}
	}
}

func (w *ringWorld) cast(o *operation, sender uint64) (*role, error) {
	r, err := newRole(o, sender, false, w.traced, "", w.file)
	if err != nil {
		return nil, err
	}
	w.roles = append(w.roles, r)
	if o.reads {
		w.reader = r
	}
	return r, nil
}

// inherit takes over what a consumer was given that has left, or died.
func (w *ringWorld) inherit(r *role) { r.taken = w.book.consumerDied(r.diary, r.taken) }

// died takes over what a consumer leaves.
func (w *ringWorld) died(r *role) error {
	if r != w.reader {
		return nil
	}
	w.reader = nil
	w.inherit(r)
	if err := w.consume(); err != nil {
		w.book.complain("a new consumer: %v", err)
	}
	return nil
}

func (w *ringWorld) begins() error {
	if !w.op.asleep {
		return nil
	}
	return w.sleep()
}

// sleep has the consumer wait on a goroutine of its own.
func (w *ringWorld) sleep() error {
	done := make(chan error, 1)
	w.waiter, w.sleeper = done, w.cons.Position()
	thread := make(chan int, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer withoutSIGCHLD()()
		thread <- unix.Gettid()
		done <- w.cons.Wait(background)
	}()
	tid := <-thread
	// The ring's word says so before the kernel has it, and then a wake would find nobody.
	if !eventually(func() bool { return len(done) > 0 || inFutex(tid) }) {
		return errors.New("the consumer does not fall asleep")
	}
	return nil
}

// withoutSIGCHLD keeps the signal that tells of each stop of a victim away from this thread, whose sleep it would
// interrupt now and then; a wake at that moment finds nobody. What it returns undoes that.
func withoutSIGCHLD() (undo func()) {
	var set, old unix.Sigset_t
	set.Val[0] = 1 << (unix.SIGCHLD - 1)
	unix.PthreadSigmask(unix.SIG_BLOCK, &set, &old)
	return func() { unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }
}

// inFutex tells whether a thread of this process sleeps on a word that it shares with other processes, unlike
// those of the runtime.
func inFutex(tid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/syscall", tid))
	var number, word, op uint64
	if err == nil {
		_, err = fmt.Sscanf(string(b), "%d %v %v", &number, &word, &op) // "running": does not scan
	}
	const private = 128
	return err == nil && number == unix.SYS_FUTEX && op&private == 0
}

// wake waits until the consumer's Wait has returned, by somebody else's doing.
func (w *ringWorld) wake(why string) {
	if w.waiter == nil {
		return
	}
	select {
	case err := <-w.waiter:
		if err != nil {
			w.book.complain("Wait: %v", err)
		}
	case <-time.After(patience):
		w.book.complain("the consumer sleeps on, though %s: a wake was lost", why)
		w.cons.Interrupt()
		<-w.waiter
	}
	w.waiter = nil
}

// awaken ends the consumer's Wait.
func (w *ringWorld) awaken() {
	if w.waiter == nil {
		return
	}
	var err error
	select {
	case err = <-w.waiter:
	default:
		w.cons.Interrupt()
		if err = <-w.waiter; err == nil { // it had ended by itself: the next one is interrupted
			err = w.cons.WaitUntil(background, in(0))
		}
	}
	if err != nil && !errors.Is(err, ring.ErrInterrupted) {
		w.book.complain("Wait: %v", err)
	}
	w.waiter = nil
}

func (w *ringWorld) unblock(n int) error {
	if w.op.unblock == nil || w.op.reads && w.reader == nil { // the other one of a pair sleeps
		if w.cons != nil && w.waiter == nil {
			return w.drain()
		}
		return nil
	}
	return w.op.unblock(w, n)
}

func (w *ringWorld) rest() func() { return nil }

func (w *ringWorld) verdict() *book { return &w.book }

// recoveries are the claims of dead ones that somebody stepped over.
func (w *ringWorld) recoveries() int {
	s, err := w.ring.Stats()
	if err != nil {
		return w.skips
	}
	return w.skips + int(s.Swept)
}

func (w *ringWorld) close() {
	if w.waiter != nil {
		w.cons.Interrupt()
		<-w.waiter
	}
	if w.cons != nil {
		w.cons.Close()
	}
	for _, r := range append(w.roles, w.corpse) {
		if r != nil {
			r.close()
		}
	}
	if w.file != nil {
		w.file.Close()
	}
	if w.ring != nil {
		w.ring.Close()
	}
}

// now is the clock of deadlines.
func in(d time.Duration) int64 { return shm.Now() + int64(d) }
