package sender

import (
	"testing"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/shm"
)

// atEnding runs fn when a sender that stops has come to that step.
func atEnding(t *testing.T, step endStep, fn func()) {
	testHookEnding = func(s endStep) {
		if s == step {
			fn()
		}
	}
	t.Cleanup(func() { testHookEnding = nil })
}

// The end is said once: by a frame, or, where the ring is full, by the entry and
// the word ends. A frame behind these could find the entry given to another pipe.
func TestEndIsSaidOnce(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	s := r.started()
	n := r.fill(s)
	var got []message
	atEnding(t, endRaised, func() { got = r.poll() }) // there is room again
	must(t, s.Stop())
	if got = append(got, r.poll()...); len(got) != n || got[n-1].kind == wire.End {
		t.Errorf("%d messages and ends, want %d", len(got), n)
	}
	if e := r.dir.Load(0); e.State() != wire.PipeEnded || r.dir.Ends() != 1 {
		t.Errorf("entry is %v, ends %d", e.State(), r.dir.Ends())
	}
}

// Who stops while the ring is full wakes a router that has emptied it, looked at
// ends, and gone to sleep before they were raised.
func TestEndWakes(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	s := r.started()
	r.fill(s)
	woken := make(chan error, 1)
	atEnding(t, endSent, func() {
		r.poll()
		go func() { woken <- r.consumer.Wait(t.Context()) }()
		eventually(t, "the router sleeps", func() bool { st, _ := r.ring.Stats(); return st.Sleeping })
	})
	must(t, s.Stop())
	must(t, <-woken)
}

// A router that resumes is told the end, also where the one before it consumed
// the frame and died, and it has looked at the entry before that was marked.
func TestEndReachesTheNextLife(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	s := r.started()
	atEnding(t, endSent, func() {
		if got := r.poll(); len(got) != 1 || got[0].kind != wire.End {
			t.Errorf("%+v", got)
		}
		r.dir.RaiseLife()
		if e := r.dir.Load(0); e.State() != wire.PipeAttached {
			t.Errorf("entry is %v", e.State())
		}
	})
	must(t, s.Stop())
	if e := r.dir.Load(0); e.State() != wire.PipeEnded || r.dir.Ends() != 1 {
		t.Errorf("entry is %v, ends %d", e.State(), r.dir.Ends())
	}
}
