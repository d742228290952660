package sender

import (
	"errors"
	"os"
	"time"

	"github.com/shmrouter/shmrouter/internal/label"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"golang.org/x/sys/unix"
)

// vigil is how a process with senders learns that its router died, also while it sends into a ring that still
// has room: one goroutine of a link, from the first Start to the last Stop, which keeps dead of the link. It
// holds no thread, and where the router's process can be watched it rests until that exits; the end of a lifeline
// has it ask at once. There is none in the router's own process, which would not be there to learn anything. Who
// sleeps for room learns with it: the ring wakes them when the question is answered with no.
type vigil struct {
	quit chan struct{}
	done chan struct{}
}

const (
	aliveNet   = int64(2 * time.Second) // between questions to the kernel where news of a death comes by itself
	doubtEvery = int64(time.Millisecond)
	doubtLooks = 100 // a process that has exited gives its locks up within a few of these
)

// watchDeath is replaced by tests that have no pidfd.
var watchDeath = shm.WatchDeath

// guard begins the vigil, unless there is one, or the router is in this process. The caller sits.
func (l *link) guard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.vigil != nil {
		return
	}
	c := consumerOf(l.ring)
	if c.here && c.pid == os.Getpid() {
		return
	}
	v := &vigil{quit: make(chan struct{}), done: make(chan struct{})}
	l.vigil = v
	att := l.att
	go func() {
		defer close(v.done)
		label.Vigil.Set()
		v.run(l, att)
	}()
}

// end returns when the vigil is over, and nothing of it uses the segment any more.
func (v *vigil) end() {
	if v != nil {
		close(v.quit)
		<-v.done
	}
}

// consumer is the router's process as the segment names it.
type consumer struct {
	pid   int
	start uint64
	here  bool // in this pid namespace
}

func consumerOf(r *ring.Ring) consumer {
	st, err := r.Stats()
	ns := shm.PIDNamespace()
	return consumer{st.PID, st.ConsumerStart, err == nil && ns != 0 && st.ConsumerPIDNamespace == ns}
}

// gone reports whether the process has certainly ended, for those who cannot ask for its lock. One that
// nobody has waited for is still there.
func (c consumer) gone() bool {
	if !c.here || c.pid <= 0 || c.start == 0 {
		return false
	}
	if errors.Is(unix.Kill(c.pid, 0), unix.ESRCH) { // /proc may hide what it has
		return true
	}
	start, err := shm.ProcessStart(c.pid)
	return err == nil && start != c.start
}

// run ends with the vigil, or with the router where no other may go on.
func (v *vigil) run(l *link, att *ring.Attachment) {
	died := make(chan struct{}, 1)
	stop := func() {} // the watch of a process
	defer func() { stop() }()
	var watched consumer // the last one
	armed := false       // watched has not died
	doubts := 0
	cut := lifelineCut()
	for {
		if !armed {
			// Before the question: who dies after that is told of.
			if c := consumerOf(l.ring); c != watched && c.here && c.pid > 0 && c.start != 0 {
				told := func() {
					select {
					case died <- struct{}{}:
					default: // an earlier one's, late
					}
				}
				if s, err := watchDeath(c.pid, c.start, told); err == nil {
					stop, watched, armed = s, c, true
				}
			}
		}
		// A question that the kernel does not answer says nothing about the router. It is one whose descriptors
		// somebody has closed in this process, the pidfd as well.
		alive, err := att.ConsumerAlive()
		dead := err == nil && !alive || err != nil && consumerOf(l.ring).gone()
		if l.dead.Swap(dead) != dead && dead {
			l.seg.Guarded(func() error {
				l.dir.Notify() // the contexts
				return nil
			})
		}
		if dead && !l.dir.Resume() {
			return
		}
		wait := aliveEvery
		switch {
		case doubts > 0:
			doubts--
			wait = doubtEvery
		case armed && !dead && err == nil:
			wait = aliveNet
		}
		select {
		case <-v.quit:
			return
		case <-died:
			armed, doubts = false, doubtLooks
		case <-cut:
			cut, doubts = nil, doubtLooks
		case <-time.After(time.Duration(wait)):
		}
	}
}
