package sweep

import (
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/tracer"
)

// lane is one of those that sweep at the same time: a tracer with its thread, and a neighbour.
type lane struct {
	tracer *tracer.Tracer // nil: victims run freely
	friend *friend
	seed   uint64
	worlds uint64

	pending   sync.WaitGroup // tries that are yet to be judged
	lingering chan struct{}  // an element for each
}

// lingerers is how many tries may wait to be judged while the lane goes on.
const lingerers = 24

// handlers are of the victim's own code what is swept, too: they run inside of a Poll, and may be killed there.
const handlers = "sweep.(*actor).deliver"

// newLane makes lane i. It keeps to one processor, with its victims and its neighbour, so that going to and fro
// between them is no more than a switch.
func newLane(i int, seed uint64) (*lane, error) {
	t, err := tracer.New()
	if err != nil {
		return nil, err
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err == nil {
		if err := t.Pin(processor(set, i)); err != nil {
			return nil, err
		}
	}
	library := t.Scope
	t.Scope = func(function string) bool { return library(function) || strings.HasSuffix(function, handlers) }
	return &lane{tracer: t, seed: seed, lingering: make(chan struct{}, lingerers)}, nil
}

// processor is the one for lane i, of those that this process may use.
func processor(set unix.CPUSet, i int) (cpu int) {
	for n := i%set.Count() + 1; n > 0; cpu++ {
		if set.IsSet(cpu) {
			n--
		}
	}
	return cpu - 1
}

// newWorld makes a fresh world for an operation.
func (l *lane) newWorld(o *operation) (world, error) {
	if l.friend == nil {
		f, err := newFriend()
		if err != nil {
			return nil, err
		}
		l.friend = f
	}
	l.worlds++
	seed, traced := mix(l.seed^l.worlds), l.tracer != nil
	switch {
	case o.makes != 0:
		return asWorld(newMakerWorld(o, traced))
	case o.routed:
		return asWorld(newRoutedWorld(o, l.friend, seed, traced))
	}
	return asWorld(newRingWorld(o, l.friend, seed, traced))
}

// asWorld keeps a nil pointer from becoming a world.
func asWorld[W world](w W, err error) (world, error) {
	if err != nil {
		return nil, err
	}
	return w, nil
}

// renew parts with a neighbour that may be stuck, or in the midst of something.
func (l *lane) renew() {
	if l.friend != nil {
		l.friend.dismiss()
		l.friend = nil
	}
}

// close ends the lane. Its goroutine ends, too, and with it the thread.
func (l *lane) close() error {
	l.pending.Wait()
	l.renew()
	return l.tracer.Close()
}
