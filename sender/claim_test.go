package sender

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

func (r *testRouter) wantData(want ...string) {
	r.t.Helper()
	var got []string
	for _, m := range r.poll() {
		got = append(got, m.data)
	}
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		r.t.Errorf("got %q, want %q", got, want)
	}
}

// Claims are delivered in the order in which they were made, whichever is filled first.
func TestClaimsInOrder(t *testing.T) {
	onEach(t, func(t *testing.T, kind shm.Kind) {
		r := newRouter(t, kind)
		s := r.started()
		a, err := s.TryClaim(3)
		must(t, err)
		b, err := s.Claim(t.Context(), 100)
		must(t, err)
		empty, err := s.TryClaim(0)
		must(t, err)
		must(t, s.TrySend([]byte("sent")))
		if st := s.Stats(); st.Claims != 3 {
			t.Errorf("%+v", st)
		}
		must(t, empty.Commit())
		must(t, b.CommitN(copy(b.Bytes(), "second")))
		r.wantData()
		copy(a.Bytes(), "1st")
		must(t, a.Commit())
		r.wantData("1st", "second", "", "sent")
		must(t, s.Stop())
		if st := s.Stats(); st.Claims != 0 || st.Messages != 4 || st.Bytes != 3+6+4 {
			t.Errorf("%+v", st)
		}
	})
}

// However a claim ends, it has ended, and its holder may by then be another claim's.
func TestClaimEndsOnce(t *testing.T) {
	r := newRouter(t, shm.Heap)
	s := r.started()
	a, err := s.TryClaim(1)
	must(t, err)
	copyOfA := a
	a.Bytes()[0] = 'a'
	wantErr(t, a.CommitN(2), ErrTooLarge)
	wantErr(t, a.CommitN(-1), ErrTooLarge)
	must(t, a.Commit())

	b, err := s.TryClaim(1)
	must(t, err)
	if b.h != a.h {
		t.Fatal("the holder is not used again, which is what this test is about")
	}
	copyOfA.Abort()
	a.Abort()
	wantErr(t, a.Commit(), ErrClaimDone)
	wantErr(t, copyOfA.CommitN(0), ErrClaimDone)
	if a.Bytes() != nil {
		t.Error("an ended claim has bytes")
	}
	b.Bytes()[0] = 'b'
	must(t, b.Commit())

	c, err := s.TryClaim(1)
	must(t, err)
	c.Abort()
	c.Abort()
	b.Abort()
	wantErr(t, c.Commit(), ErrClaimDone)
	r.wantData("a", "b")

	var zero Claim
	zero.Abort()
	wantErr(t, zero.Commit(), ErrClaimDone)
	if zero.Bytes() != nil {
		t.Error("no claim has bytes")
	}
	if st := s.Stats(); st.Aborted != 1 || st.Claims != 0 {
		t.Errorf("%+v", st)
	}
	must(t, s.Stop())
}

// An aborted claim leaves a gap in the numbers, and nothing else.
func TestAbortLeavesGap(t *testing.T) {
	r := newRouter(t, shm.Heap)
	s := r.started()
	for i := range 5 {
		c, err := s.TryClaim(8)
		must(t, err)
		if i%2 == 1 {
			c.Abort()
		} else {
			must(t, c.Commit())
		}
	}
	got := r.poll()
	if len(got) != 3 || got[0].seq != 1 || got[1].seq != 3 || got[2].seq != 5 {
		t.Errorf("%+v", got)
	}
	must(t, s.Stop())
}

func TestWriteFunc(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	s := r.started()
	must(t, s.WriteFunc(t.Context(), 10, func(b []byte) (int, error) {
		if len(b) != 10 || cap(b) != 10 {
			t.Errorf("len %d, cap %d", len(b), cap(b))
		}
		return copy(b, "written"), nil
	}))
	mine := errors.New("mine")
	if err := s.WriteFunc(t.Context(), 10, func([]byte) (int, error) { return 3, mine }); err != mine {
		t.Error(err)
	}
	for _, n := range []int{-1, 11} {
		wantErr(t, s.WriteFunc(t.Context(), 10, func([]byte) (int, error) { return n, nil }), ErrTooLarge)
	}
	func() {
		defer func() {
			if got := recover(); got != any(mine) {
				t.Errorf("the panic became %v", got)
			}
		}()
		s.WriteFunc(t.Context(), 10, func([]byte) (int, error) { panic(mine) })
	}()
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		s.WriteFunc(t.Context(), 10, func([]byte) (int, error) { runtime.Goexit(); return 0, nil })
	}()
	<-exited
	must(t, s.TrySend([]byte("next")))
	r.wantData("written", "next")
	if st := s.Stats(); st.Aborted != 5 || st.Claims != 0 {
		t.Errorf("%+v", st)
	}
	must(t, s.Stop())
}

// Who stops the Sender from where he fills a message has not sent it.
func TestStopInWriteFunc(t *testing.T) {
	r := newRouter(t, shm.Heap)
	s := r.started()
	err := s.WriteFunc(t.Context(), 10, func(b []byte) (int, error) { return 10, s.Stop() })
	wantErr(t, err, os.ErrClosed)
	if got := r.poll(); len(got) != 1 || got[0].kind != wire.End {
		t.Errorf("%+v", got)
	}
}

func TestConcurrentClaims(t *testing.T) {
	onEach(t, func(t *testing.T, kind shm.Kind) {
		r := newRouter(t, kind)
		s := r.started()
		stop := r.consume()
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 200 {
					n := 1 + (i*37+g)%3000
					c, err := s.Claim(t.Context(), n)
					if err != nil {
						t.Error(err)
						return
					}
					for j := range c.Bytes() {
						c.Bytes()[j] = byte(g)
					}
					if i%9 == 0 {
						c.Abort()
					} else if err := c.Commit(); err != nil {
						t.Error(err)
					}
					c.Abort() // as by defer, after somebody else has the holder
				}
			})
		}
		wg.Wait()
		must(t, s.Stop())
		var from [8]int
		for _, m := range stop() {
			if m.kind == wire.End {
				continue
			}
			g := m.data[0]
			if !bytes.Equal([]byte(m.data), bytes.Repeat([]byte{g}, len(m.data))) {
				t.Fatal("torn")
			}
			from[g]++
		}
		for g, n := range from {
			if n != 200-23 {
				t.Errorf("%d messages of goroutine %d", n, g)
			}
		}
	})
}

// A claim that outlives its Sender stays its holder's, with memory behind it, even if the router and all else
// is gone; it cannot be sent any more, and the process leaves the roster with the last of them.
func TestStopWithClaims(t *testing.T) {
	onEach(t, func(t *testing.T, kind shm.Kind) {
		r := newRouter(t, kind)
		s := r.started()
		must(t, s.TrySend([]byte("before")))
		var cs []Claim
		for range 3 {
			c, err := s.TryClaim(100)
			must(t, err)
			cs = append(cs, c)
		}
		must(t, s.Stop())
		if got := r.poll(); len(got) != 1 {
			t.Errorf("%+v passed an open claim", got)
		}
		if alive, _ := r.consumer.SlotAlive(0); !alive {
			t.Error("left the roster with claims open")
		}
		seg := r.ring.Segment()
		r.die()
		must(t, r.ring.Close())
		for _, c := range cs {
			clear(c.Bytes())
		}
		if st := s.Stats(); st.Claims != 3 {
			t.Errorf("%+v", st)
		}
		wantErr(t, cs[1].Commit(), os.ErrClosed)
		wantErr(t, cs[1].Commit(), ErrClaimDone)
		cs[1].Abort()
		cs[0].Abort()
		must(t, seg.Retain()) // still mapped
		must(t, seg.Close())
		err := cs[2].CommitN(1)
		wantErr(t, err, os.ErrClosed)
		wantErr(t, err, ErrState)
		wantErr(t, seg.Retain(), os.ErrClosed)
		if st := s.Stats(); st.Claims != 0 || st.Aborted != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// The same while another Sender keeps the seat.
func TestStopWithClaimsOthersGoOn(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	s, other := r.started(), r.started()
	c, err := s.TryClaim(100)
	must(t, err)
	must(t, s.Stop())
	must(t, other.TrySend([]byte("behind")))
	if got := r.poll(); len(got) != 0 {
		t.Errorf("%+v passed an open claim", got)
	}
	wantErr(t, c.Commit(), os.ErrClosed)
	if n := len(other.link.spare); n != 2 { // its own, and the claim's
		t.Errorf("%d producers at rest", n)
	}
	if got := r.poll(); len(got) != 2 || got[0].kind != wire.End || got[1].data != "behind" {
		t.Errorf("%+v", got)
	}
	must(t, other.Stop())
}

// What the program loses does not stand in the way for ever.
func TestDroppedClaim(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	s, stopped := r.started(), r.started()
	func() {
		_, err := s.TryClaim(100)
		must(t, err)
		_, err = stopped.TryClaim(100)
		must(t, err)
	}()
	must(t, stopped.Stop())
	must(t, s.TrySend([]byte("behind")))
	eventually(t, "the claims are found", func() bool {
		runtime.GC()
		return s.Stats().Dropped == 1 && stopped.Stats().Dropped == 1
	})
	got := r.poll()
	if len(got) != 2 || got[1].data != "behind" {
		t.Errorf("%+v", got)
	}
	seen := make(map[*ring.Producer]bool)
	for _, p := range append(s.link.spare, s.p) { // no two will ever use one at the same time
		if seen[p] {
			t.Error("a producer is there twice")
		}
		seen[p] = true
	}
	if len(seen) != 4 {
		t.Errorf("%d producers", len(seen))
	}
	c, err := s.TryClaim(1) // and there is a holder for the next
	must(t, err)
	must(t, c.Commit())
	must(t, s.Stop())
}

// A claim waits for room like a send, and one that gives up leaves nothing behind.
func TestClaimWaits(t *testing.T) {
	r := newRouter(t, shm.Heap)
	s := r.started()
	n := r.fill(s)
	_, err := s.TryClaim(1)
	wantErr(t, err, ErrFull)
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() {
		_, err := s.Claim(ctx, ring.Granule)
		gaveUp <- err
	}()
	waiting(t, s, 1)
	cancel()
	wantErr(t, <-gaveUp, context.Canceled)
	_, err = s.Claim(ctx, 1)
	wantErr(t, err, context.Canceled)

	done := make(chan error)
	go func() {
		done <- s.WriteFunc(t.Context(), 8000, func(b []byte) (int, error) { return len(b), nil })
	}()
	waiting(t, s, 2)
	got := r.poll()
	must(t, <-done)
	got = append(got, r.poll()...)
	if len(got) != n+1 || got[n].seq != uint64(n+1) || len(got[n].data) != 8000 {
		t.Errorf("%d messages, want %d", len(got), n+1)
	}
	must(t, s.Stop())
}
