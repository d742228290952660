package router

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shmrouter/shmrouter/internal/label"
	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// monitor is the goroutine that moves messages from the ring to the inbox. What
// is not under events.mu is its own, or the loop's while that has the duty.
type monitor struct {
	n    *run
	cons *ring.Consumer
	done chan struct{}

	events struct {
		mu      sync.Mutex
		list    []event
		pending atomic.Bool // list is not empty
		closed  bool
	}
	kick chan struct{} // one token with every event, for when the ring cannot be waited on
	duty duty

	out      *batch // being filled
	outBytes int
	handed   int                          // batches, since the monitor's goroutine has the duty
	taken    uint64                       // inbox.taken as of then
	taker    func(ring.Frame) ring.Action // take; made once, as it would be for every Poll
	messages uint64                       // of the Poll under way
	bytes    uint64
	resynced bool // likewise: there may be more behind the damage
	slab     slab
	parts    parts
	release  *releaseRef // of the Poll under way; nil unless the router resumes
	released uint64      // position of the last ref that was published
	newUntil uint64      // a router that resumes: messages before this position may be second deliveries

	syncs    []*syncPoint
	live     liveness
	now      int64  // shm.Now, as of the last turn
	yielded  int64  // likewise, when the loop last let others run
	nextTick int64  // likewise
	ticked   uint64 // messages copied as of the last tick
	calm     int    // ticks in a row that found nothing to do
}

// event is something that another goroutine tells the monitor; one field is set.
type event struct {
	sync  *syncPoint
	exit  *exitReport
	death *deathNotice
}

// tick is how often the monitor looks after what sends no news by itself. When
// there has been nothing for calmAfter ticks, and every worker's death would be
// told at once, it looks every calmTick only: each wake of an idle Go process
// costs some 0.2 ms of its scheduler's time.
const (
	tick      = 100 * time.Millisecond
	calmTick  = time.Second
	calmAfter = 10
)

func newMonitor(n *run) *monitor {
	m := &monitor{n: n, cons: n.cons, done: make(chan struct{}), kick: make(chan struct{}, 1), out: n.inbox.fresh()}
	m.taker = m.take
	m.duty.reminder = time.AfterFunc(time.Hour, m.look)
	m.duty.reminder.Stop()
	return m
}

// loop is one turn after the other: hear, poll, answer, hand over, sleep.
func (m *monitor) loop() {
	label.Monitor.Set()
	defer close(m.done)
	for !m.n.isStopped() {
		polled := m.turn()
		m.handOver()
		switch {
		case polled > 0 && m.handed < handOvers || polled == 0 && m.live.lookForEnds(m):
		case m.lendable():
			m.lend()
		case polled == 0:
			m.sleep()
		}
	}
	m.duty.reminder.Stop()
	if !m.n.opts.resume { // otherwise it comes again
		m.n.count.unrouted.Add(messagesIn(m.out.items))
	}
	m.live.close()
}

// turn returns how many frames it has polled; what came of them is in out. What
// it hears is heard before its Poll, so that an empty Poll says something about
// everything that was sent before.
func (m *monitor) turn() (polled int) {
	if m.events.pending.Load() {
		m.hear()
	}
	polled = m.poll()
	m.live.lookAgain(m)
	m.queueEnds()
	m.answerSyncs(polled == 0 && !m.resynced)
	if polled > 0 && m.calm >= calmAfter {
		m.calm, m.nextTick = 0, 0 // what wakes a calm router may be a worker it has not seen yet
	}
	if m.now = shm.Now(); m.now >= m.nextTick {
		m.tick()
		m.nextTick = m.now + int64(m.pace())
	}
	return polled
}

// post tells the monitor something. Any goroutine; after halt it does nothing.
func (m *monitor) post(e event) {
	m.events.mu.Lock()
	defer m.events.mu.Unlock()
	if m.events.closed {
		return
	}
	m.events.list = append(m.events.list, e)
	m.events.pending.Store(true)
	m.wake()
}

func (m *monitor) wake() {
	m.rouse()
	m.cons.Interrupt()
}

// callOff ends a sleep, so that whoever sleeps looks at what has changed. Any
// goroutine.
func (m *monitor) callOff() {
	m.events.mu.Lock()
	defer m.events.mu.Unlock()
	if !m.events.closed {
		m.cons.Interrupt()
	}
}

// halt returns when the goroutine has ended. n.stopped is set and n.stopping closed.
func (m *monitor) halt() {
	m.events.mu.Lock()
	m.events.closed = true // from here on nobody else touches the consumer
	m.wake()
	m.events.mu.Unlock()
	<-m.done
}

func (m *monitor) hear() {
	m.events.mu.Lock()
	list := m.events.list
	m.events.list = nil
	m.events.pending.Store(false)
	m.events.mu.Unlock()
	for _, e := range list {
		switch {
		case e.sync != nil:
			m.syncs = append(m.syncs, e.sync)
		case e.exit != nil:
			m.live.exited(m, e.exit)
		case e.death != nil:
			m.live.died(m, e.death)
		}
	}
}

// answerSyncs puts the answer to a RouteUntil behind what it asked for.
func (m *monitor) answerSyncs(empty bool) {
	if len(m.syncs) == 0 {
		return
	}
	pos, now := m.cons.Position(), shm.Now()
	rest := m.syncs[:0]
	for _, s := range m.syncs {
		s.mark.find(m.n)
		if s.mark.behind(pos) || empty && now >= s.giveUp || m.n.broken.Load() {
			m.out.items = append(m.out.items, item{mark: &mark{sync: s}})
		} else {
			rest = append(rest, s)
		}
	}
	clear(m.syncs[len(rest):])
	m.syncs = rest
}

func (m *monitor) tick() {
	m.live.tick(m)
	if copied := m.n.count.copied.Load(); copied == m.ticked {
		m.slab.rest()
		m.calm++
	} else {
		m.ticked = copied
		m.calm = 0
	}
	if m.live.watching() {
		m.calm = 0
	}
}

// pace is the time to the next tick, and to the end of an idle sleep.
func (m *monitor) pace() time.Duration {
	d := tick
	if m.calm >= calmAfter {
		d = calmTick
	}
	m.cons.SetIdle(d)
	return d
}

// sleep waits for something to poll, an event, or the next thing that is due.
func (m *monitor) sleep() {
	if m.n.broken.Load() {
		if len(m.out.items) > 0 {
			return // the ends of the pipes, which have to be handed over first
		}
		select {
		case <-m.kick:
		case <-m.n.stopping:
		}
		return
	}
	due := min(m.nextTick, m.live.due())
	for _, s := range m.syncs {
		due = min(due, s.giveUp)
	}
	err := m.cons.WaitUntil(context.Background(), due)
	if err != nil && !errors.Is(err, ring.ErrInterrupted) && !errors.Is(err, os.ErrDeadlineExceeded) {
		m.trouble(err)
	}
	m.n.count.wakeups.Add(1)
}

// countRest counts the messages that Stop leaves in the ring. The goroutine has
// ended, and Stop has the consumer.
func (m *monitor) countRest() (count uint64) {
	mark, err := m.n.ring.Frontier()
	if err != nil || m.n.broken.Load() {
		return 0
	}
	for int64(m.cons.Position()-mark) < 0 {
		polled, err := m.cons.Poll(1<<10, func(f ring.Frame) ring.Action {
			if kind, _, _, ok := wire.UnpackMeta(f.Meta); ok && (kind == wire.Data || kind == wire.Last) {
				count++
			}
			return ring.Continue
		})
		if polled == 0 || err != nil {
			break
		}
	}
	return count
}
