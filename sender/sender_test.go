package sender

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// Every operation in every state: what is not permitted says so, and what is, works.
func TestStates(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	ctx := context.Background()
	ops := []struct {
		name string // in the error
		in   State  // the one state that permits it
		do   func(s *Sender) error
	}{
		{"start", StateInitial, func(s *Sender) error { return s.Start() }},
		{"hand over", StateInitial, func(s *Sender) error {
			cmd := exec.Command("true")
			defer closeExtra(cmd)
			return s.HandOver(cmd)
		}},
		{"make a token", StateInitial, func(s *Sender) error { _, err := s.Token(); return err }},
		{"send", StateOpen, func(s *Sender) error { return s.Send(ctx, []byte("x")) }},
		{"send", StateOpen, func(s *Sender) error { return s.TrySend([]byte("x")) }},
		{"send", StateOpen, func(s *Sender) error { return s.Send(ctx, make([]byte, 20000)) }},
		{"send", StateOpen, func(s *Sender) error { return s.SendBatch(ctx, [][]byte{{1}}) }},
		{"claim", StateOpen, func(s *Sender) error { c, err := s.Claim(ctx, 1); c.Abort(); return err }},
		{"claim", StateOpen, func(s *Sender) error { c, err := s.TryClaim(1); c.Abort(); return err }},
		{"claim", StateOpen, func(s *Sender) error {
			return s.WriteFunc(ctx, 1, func([]byte) (int, error) { return 1, nil })
		}},
		{"stop", StateOpen, func(s *Sender) error { return s.Stop() }},
		{"drain", StateOpen, func(s *Sender) error { r.poll(); return s.Drain(ctx) }},
	}
	for _, state := range []State{StateInitial, StateOpen, StateClosed, StateHandedOver} {
		for _, op := range ops {
			s := r.pipe()
			r.next = 0 // one entry after another would not do for so many
			switch state {
			case StateOpen, StateClosed:
				must(t, s.Start())
				if state == StateClosed {
					must(t, s.Stop())
				}
			case StateHandedOver:
				cmd := exec.Command("true")
				must(t, s.HandOver(cmd))
				closeExtra(cmd)
			}
			if s.State() != state {
				t.Fatalf("state is %v, want %v", s.State(), state)
			}
			err := op.do(s)
			var stateErr *StateError
			switch {
			case op.in == state && op.name == "make a token":
				wantErr(t, err, shm.ErrNoPath)
			case op.in == state:
				if err != nil {
					t.Errorf("%s in state %v: %v", op.name, state, err)
				}
			case !errors.As(err, &stateErr) || stateErr.Op != op.name || stateErr.State != state || !errors.Is(err, ErrState):
				t.Errorf("%s in state %v: %v", op.name, state, err)
			case errors.Is(err, os.ErrClosed) != (state == StateClosed):
				t.Errorf("%s in state %v: %v is os.ErrClosed: %v", op.name, state, err, errors.Is(err, os.ErrClosed))
			case !strings.Contains(err.Error(), op.name) || !strings.Contains(err.Error(), state.reason()):
				t.Errorf("%s in state %v: %v", op.name, state, err)
			}
			if op.name == "hand over" && err == nil && s.State() != StateHandedOver {
				t.Errorf("handed over, and %v", s.State())
			}
			if s.State() == StateOpen {
				must(t, s.Stop())
			}
			r.dir.Free(0, r.dir.Word(0))
			r.poll()
		}
	}
}

func closeExtra(cmd *exec.Cmd) {
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
}

func TestSendOneOfEach(t *testing.T) {
	onEach(t, func(t *testing.T, kind shm.Kind) {
		r := newRouter(t, kind)
		s := r.started()
		frame := r.ring.MaxFrame()
		stop := r.consume()
		var want []string
		for i, n := range []int{0, 1, 63, 64, 65, frame, frame + 1, 2 * frame, 3*frame + 5, 1 << 20, 2} {
			b := make([]byte, n)
			for j := range b {
				b[j] = byte(i + j/100)
			}
			must(t, s.Send(t.Context(), b))
			want = append(want, string(b))
			clear(b) // ours again
		}
		must(t, s.Send(t.Context(), nil))
		must(t, s.SendBatch(t.Context(), nil))
		must(t, s.SendBatch(t.Context(), [][]byte{[]byte("a"), nil, []byte(strings.Repeat("b", 100))}))
		want = append(want, "", "a", "", strings.Repeat("b", 100))
		must(t, s.Drain(t.Context()))
		must(t, s.Stop())
		got := stop()
		if len(got) != len(want)+1 {
			t.Fatalf("%d messages, want %d and the end", len(got), len(want))
		}
		for i, m := range got {
			if i == len(want) {
				if m.kind != wire.End || !wire.Ends([]byte(m.data), s.ID()) || m.pipe != 0 {
					t.Errorf("the last one is %+v", m)
				}
				break
			}
			if m.data != want[i] || m.seq != uint64(i+1) || m.pipe != 0 {
				t.Errorf("message %d has %d bytes, number %d; want %d bytes", i, len(m.data), m.seq, len(want[i]))
			}
		}
		if e := r.dir.Load(0); e.State() != wire.PipeEnded || r.dir.Ends() != 0 {
			t.Errorf("entry is %v, ends %d", e.State(), r.dir.Ends())
		}
		st := s.Stats()
		if st.Messages != uint64(len(want)) || st.Large != 4 || st.Unfinished != 0 || st.Claims != 0 {
			t.Errorf("%+v", st)
		}
		bytes := 0
		for _, m := range want {
			bytes += len(m)
		}
		if st.Bytes != uint64(bytes) {
			t.Errorf("%d bytes counted of %d", st.Bytes, bytes)
		}
	})
}

func TestTooLarge(t *testing.T) {
	for _, c := range []struct {
		name        string
		config      wire.Config
		frame, most int
	}{
		{"limit above a frame", wire.Config{MaxMessage: 20000}, 8192, 20000},
		{"limit below a frame", wire.Config{MaxMessage: 100}, 100, 100},
		{"resumable", wire.Config{MaxMessage: 20000, Resume: true}, 8192, 8192},
		{"no limit", wire.Config{}, 8192, 5 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRouterWith(t, shm.Heap, c.config)
			s := r.started()
			stop := r.consume()
			must(t, s.TrySend(make([]byte, c.frame)))
			wantErr(t, s.TrySend(make([]byte, c.frame+1)), ErrTooLarge)
			must(t, s.Send(t.Context(), make([]byte, c.most)))
			if c.config.MaxMessage != 0 {
				wantErr(t, s.Send(t.Context(), make([]byte, c.most+1)), ErrTooLarge)
			}
			wantErr(t, s.SendBatch(t.Context(), [][]byte{make([]byte, c.frame+1)}), ErrTooLarge)
			wantErr(t, s.SendBatch(t.Context(), [][]byte{make([]byte, 90), make([]byte, 8192-100)}), ErrTooLarge)
			_, err := s.TryClaim(c.frame + 1)
			wantErr(t, err, ErrTooLarge)
			_, err = s.Claim(t.Context(), -1)
			wantErr(t, err, ErrTooLarge)
			must(t, s.Drain(t.Context()))
			must(t, s.Stop())
			if got := stop(); len(got) != 3 {
				t.Errorf("%d messages", len(got))
			}
		})
	}
}

// A sent message is numbered and claimed at one go: numbers are in order of delivery, whoever sent.
func TestConcurrentSends(t *testing.T) {
	onEach(t, func(t *testing.T, kind shm.Kind) {
		r := newRouter(t, kind)
		s := r.started()
		stop := r.consume()
		const goroutines, each = 8, 200
		var wg sync.WaitGroup
		for g := range goroutines {
			wg.Go(func() {
				for i := range each {
					text := fmt.Appendf(nil, "%d %d%s", g, i, strings.Repeat(" ", 100*(i%7)))
					var err error
					switch {
					case i == each/2:
						err = s.Send(t.Context(), append(text, make([]byte, 30000)...))
					case i%5 == 1:
						err = s.SendBatch(t.Context(), [][]byte{text})
					case i%5 == 2:
						var c Claim
						if c, err = s.Claim(t.Context(), 4096); err == nil {
							err = c.CommitN(copy(c.Bytes(), text))
						}
					case i%5 == 3:
						if err = s.TrySend(text); err == ErrFull {
							err = s.Send(t.Context(), text)
						}
					default:
						err = s.Send(t.Context(), text)
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		must(t, s.Drain(t.Context()))
		must(t, s.Stop())
		got := stop()
		if len(got) != goroutines*each+1 {
			t.Fatalf("%d messages", len(got))
		}
		var next [goroutines]int
		for n, m := range got[:len(got)-1] {
			var g, i int
			fmt.Sscan(m.data, &g, &i)
			if m.seq != uint64(n+1) {
				t.Fatalf("message %d has number %d", n+1, m.seq)
			}
			if next[g] != i {
				t.Fatalf("goroutine %d: message %d came where %d was due", g, i, next[g])
			}
			next[g]++
		}
	})
}

// A process sits once, however many senders it has, and stands up with the last.
func TestOneSeat(t *testing.T) {
	onEach(t, func(t *testing.T, kind shm.Kind) {
		r := newRouter(t, kind)
		var ss []*Sender
		for range 3 {
			ss = append(ss, r.started())
		}
		for _, s := range ss {
			must(t, s.TrySend([]byte("x")))
		}
		for i, s := range ss {
			if alive, err := r.consumer.SlotAlive(0); !alive || err != nil {
				t.Fatalf("left with %d senders still there (%v)", len(ss)-i, err)
			}
			if alive, _ := r.consumer.SlotAlive(1); alive {
				t.Fatal("a second seat is taken")
			}
			must(t, s.Stop())
		}
		if alive, err := r.consumer.SlotAlive(0); alive || err != nil {
			t.Fatalf("nobody is there, but the seat is taken (%v)", err)
		}
		for _, m := range r.poll() {
			if m.slot != 0 {
				t.Errorf("%+v", m)
			}
		}
		// and sits again, as another instance
		before := r.dir.Load(2).Instance
		s := r.started()
		if now := r.dir.Load(3).Instance; now == before || now == 0 {
			t.Errorf("instance %d after %d", now, before)
		}
		must(t, s.Stop())
	})
}

func TestStartRefused(t *testing.T) {
	r, other := newRouter(t, shm.Memfd), newRouter(t, shm.Memfd)
	token := r.token()
	refused := func(t *testing.T, s *Sender, class error) {
		t.Helper()
		wantErr(t, s.Start(), class)
		if s.State() != StateInitial {
			t.Errorf("state after a failed start: %v", s.State())
		}
	}
	t.Run("in use", func(t *testing.T) {
		s := atHome(r.ring, token)
		must(t, s.Start())
		refused(t, atHome(r.ring, token), ErrPipeInUse)
		must(t, s.Stop())
		refused(t, atHome(r.ring, token), ErrPipeInUse)
	})
	t.Run("closed", func(t *testing.T) {
		s := r.pipe()
		i := s.token.Index
		r.dir.Free(i, r.dir.Word(i))
		refused(t, s, ErrPipeClosed)
		wantErr(t, ErrPipeClosed, os.ErrClosed)
	})
	t.Run("another router's", func(t *testing.T) { refused(t, atHome(other.ring, token), ErrOtherRouter) })
	t.Run("bad index", func(t *testing.T) {
		bad := token
		bad.Index = 16
		refused(t, atHome(r.ring, bad), ErrBadHandover)
	})
	t.Run("an earlier start's", func(t *testing.T) {
		old := token
		old.Epoch++
		refused(t, atHome(r.ring, old), ErrRouterGone)
	})
	t.Run("roster full", func(t *testing.T) {
		var all []*ring.Attachment
		for range ring.MaxSlots {
			a, err := r.ring.Attach()
			must(t, err)
			all = append(all, a)
		}
		s := r.pipe()
		refused(t, s, ring.ErrRosterFull)
		for _, a := range all {
			must(t, a.Close())
		}
		must(t, s.Start()) // now there is room
		must(t, s.Stop())
	})
	t.Run("stopped", func(t *testing.T) {
		s := r.pipe()
		r.stop()
		refused(t, s, ErrRouterGone)
	})
	t.Run("ring closed", func(t *testing.T) {
		s := other.pipe()
		other.die()
		must(t, other.ring.Close())
		refused(t, s, ErrRouterGone)
	})
}

func TestSendToStoppedRouter(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	s := r.started()
	c, err := s.TryClaim(10)
	must(t, err)
	r.stop()
	wantErr(t, s.TrySend(nil), ErrRouterGone)
	wantErr(t, s.Send(t.Context(), nil), ErrRouterGone)
	wantErr(t, s.SendBatch(t.Context(), [][]byte{{1}}), ErrRouterGone)
	wantErr(t, s.Drain(t.Context()), ErrRouterGone)
	_, err = s.TryClaim(1)
	wantErr(t, err, ErrRouterGone)
	c.Abort()
	r.die()
	must(t, r.ring.Close()) // the memory stays for the sender
	wantErr(t, s.TrySend(nil), ErrRouterGone)
	must(t, s.Stop())
}

// Who closes a pipe does not disturb its sender.
func TestSendToClosedPipe(t *testing.T) {
	r := newRouter(t, shm.Heap)
	s := r.started()
	r.dir.Flag(0, wire.Closed)
	must(t, s.TrySend([]byte("late")))
	if got := r.poll(); len(got) != 1 || got[0].data != "late" {
		t.Errorf("%+v", got)
	}
	must(t, s.Stop())
}

// A ring that is full does not keep anybody from stopping.
func TestStopWhenFull(t *testing.T) {
	onEach(t, func(t *testing.T, kind shm.Kind) {
		r := newRouter(t, kind)
		s := r.started()
		n := r.fill(s)
		must(t, s.Stop())
		if e := r.dir.Load(0); e.State() != wire.PipeEnded || r.dir.Ends() != 1 {
			t.Errorf("entry is %v, ends %d", e.State(), r.dir.Ends())
		}
		if alive, _ := r.consumer.SlotAlive(0); alive {
			t.Error("still in the roster")
		}
		if got := r.poll(); len(got) != n {
			t.Errorf("%d of %d messages", len(got), n)
		}
	})
}

// Stop ends those who wait, in whatever they do.
func TestStopEndsWaiting(t *testing.T) {
	onEach(t, func(t *testing.T, kind shm.Kind) {
		r := newRouter(t, kind)
		s := r.started()
		other := r.started()
		r.fill(s)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		waits := []func() error{
			func() error { return s.Send(ctx, []byte("x")) },
			func() error { return s.Send(context.Background(), []byte("x")) },
			func() error { return s.Send(ctx, make([]byte, 20000)) },
			func() error { return s.Send(ctx, make([]byte, 20000)) },
			func() error { return s.SendBatch(ctx, [][]byte{{1}, {2}}) },
			func() error { _, err := s.Claim(ctx, 7); return err },
			func() error { _, err := s.Claim(context.Background(), 7); return err },
			func() error { return s.Drain(ctx) },
		}
		errs := make(chan error, len(waits))
		for _, wait := range waits {
			go func() { errs <- wait() }()
		}
		waiting(t, s, 6) // one of the large ones and Drain do not get as far
		otherErr := make(chan error, 1)
		go func() { otherErr <- other.Send(ctx, []byte("from the other")) }()
		waiting(t, other, 1)

		must(t, s.Stop())
		for range waits {
			err := <-errs
			wantErr(t, err, ErrState)
			wantErr(t, err, os.ErrClosed)
		}
		got := r.poll()
		must(t, <-otherErr)
		got = append(got, r.poll()...)
		if last := got[len(got)-1]; last.pipe != 1 || last.data != "from the other" {
			t.Errorf("%+v", last)
		}
		must(t, other.Stop())
	})
}

// Also those who wait for another sender's large message to get through.
func TestStopEndsWaitForLarge(t *testing.T) {
	r := newRouter(t, shm.Heap)
	s, other := r.started(), r.started()
	first, second := make(chan error), make(chan error)
	go func() { first <- other.Send(t.Context(), make([]byte, 2*testCapacity)) }()
	waiting(t, other, 1)
	go func() { second <- s.Send(t.Context(), make([]byte, 20000)) }()
	for range 100 {
		runtime.Gosched() // it probably gets there, and it does not matter
	}
	must(t, s.Stop())
	wantErr(t, <-second, os.ErrClosed)
	must(t, other.Stop())
	wantErr(t, <-first, os.ErrClosed)
}

// Close gives up whatever there is to give up.
func TestClose(t *testing.T) {
	r := newRouter(t, shm.Named)
	s := r.pipe()
	text, err := s.Token()
	must(t, err)
	ctx := s.Context()
	must(t, s.Close())
	if s.State() != StateClosed || context.Cause(ctx) != os.ErrClosed {
		t.Errorf("%v, %v", s.State(), context.Cause(ctx))
	}
	wantErr(t, s.Start(), os.ErrClosed)
	must(t, s.Close())

	opened, err := Open(text) // which maps the segment, as the leak check knows
	must(t, err)
	must(t, opened.Close())
	s, err = Open(text)
	must(t, err)
	must(t, s.Start())
	must(t, s.Close())
	must(t, s.Close())
	wantErr(t, s.Stop(), ErrState)
	if got := r.poll(); len(got) != 1 || got[0].kind != wire.End {
		t.Errorf("%+v", got)
	}

	s = r.pipe()
	cmd := exec.Command("true")
	must(t, s.HandOver(cmd))
	closeExtra(cmd)
	must(t, s.Close())
	if s.State() != StateHandedOver {
		t.Errorf("%v", s.State())
	}
}

// Between Stop and everything else there is no gap: what was sent arrives before the end, what is refused
// does not.
func TestStopRace(t *testing.T) {
	r := newRouter(t, shm.Heap)
	stop := r.consume()
	const rounds, goroutines = 16, 4
	var sent [rounds]int
	for round := range rounds {
		s := r.started()
		var mu sync.Mutex
		var wg sync.WaitGroup
		begun := make(chan struct{}, goroutines)
		for g := range goroutines {
			wg.Go(func() {
				for i := 0; ; i++ {
					var err error
					if g == 0 {
						var c Claim
						if c, err = s.Claim(context.Background(), 8); err == nil {
							if err = c.Commit(); err == os.ErrClosed {
								err = &StateError{"claim", StateClosed}
							}
						}
					} else {
						err = s.Send(context.Background(), make([]byte, 1000*g))
					}
					if err != nil {
						wantErr(t, err, os.ErrClosed)
						return
					}
					mu.Lock()
					sent[round]++
					mu.Unlock()
					if i == 3 {
						begun <- struct{}{}
					}
				}
			})
		}
		<-begun
		must(t, s.Stop())
		wg.Wait()
	}
	var got [rounds]int
	var ended [rounds]bool
	for _, m := range stop() {
		switch {
		case ended[m.pipe]:
			t.Fatalf("%v after the end of %d", m.kind, m.pipe)
		case m.kind == wire.End:
			ended[m.pipe] = true
		default:
			got[m.pipe]++
		}
	}
	if got != sent {
		t.Errorf("sent %d, got %d", sent, got)
	}
}

// A file cut short under a sender is an error to it, and never the end of the process.
func TestTruncated(t *testing.T) {
	r := newRouter(t, shm.Named)
	s := r.started()
	ctx := s.Context()
	must(t, os.Truncate(r.ring.Segment().Path(), 4096))
	wantErr(t, s.TrySend([]byte("x")), shm.ErrFault)
	wantErr(t, s.Send(t.Context(), make([]byte, 20000)), shm.ErrFault)
	wantErr(t, s.SendBatch(t.Context(), [][]byte{{1}}), shm.ErrFault)
	_, err := s.Claim(t.Context(), 10)
	wantErr(t, err, shm.ErrFault)
	wantErr(t, s.Drain(t.Context()), shm.ErrFault)
	<-ctx.Done()
	wantErr(t, context.Cause(ctx), ErrRouterGone)
	if err := s.Stop(); !errors.Is(err, shm.ErrFault) {
		t.Error(err)
	}
	wantErr(t, r.pipe0().Start(), shm.ErrFault)
	r.consumer.Close()
	r.consumer = nil
}

// The same with a claim open, whose bytes alone are nobody's to protect, and with a goroutine waiting for
// room.
func TestTruncatedClaim(t *testing.T) {
	r := newRouter(t, shm.Named)
	s := r.started()
	c, err := s.TryClaim(10)
	must(t, err)
	d, err := s.TryClaim(10)
	must(t, err)
	r.fill(s)
	waited := make(chan error)
	go func() { waited <- s.Send(t.Context(), nil) }()
	waiting(t, s, 1)
	must(t, os.Truncate(r.ring.Segment().Path(), 4096))
	wantErr(t, <-waited, shm.ErrFault)
	wantErr(t, c.Commit(), shm.ErrFault)
	d.Abort()
	if err := s.Stop(); !errors.Is(err, shm.ErrFault) {
		t.Error(err)
	}
	r.consumer.Close()
	r.consumer = nil
}

// pipe0 is a sender of a pipe that was never published.
func (r *testRouter) pipe0() *Sender {
	return atHome(r.ring, wire.Token{Identity: r.ring.Identity(), Epoch: 1, ID: 1})
}

func TestNames(t *testing.T) {
	for s, want := range map[State]string{
		StateInitial: "initial", StateOpen: "open", StateClosed: "closed", StateHandedOver: "handed over", 9: "State(9)",
	} {
		if s.String() != want {
			t.Errorf("%q, want %q", s, want)
		}
	}
	if s := newRouter(t, shm.Heap).pipe(); s.ID() != 1 {
		t.Errorf("id %d", s.ID())
	}
}

// Dashboards depend on these names.
func TestStatsInJSON(t *testing.T) {
	text, err := json.Marshal(Stats{Messages: 1, Bytes: 2, Large: 3, Unfinished: 4, Waits: 5, Aborted: 6, Dropped: 7, Claims: 8})
	must(t, err)
	want := `{"messages":1,"bytes":2,"large_messages":3,"unfinished_messages":4,"waits":5,"aborted_claims":6,"dropped_claims":7,"open_claims":8}`
	if string(text) != want {
		t.Errorf("got %s, want %s", text, want)
	}
}
