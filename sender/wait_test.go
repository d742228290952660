package sender

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

func TestSendWaitsForRoom(t *testing.T) {
	onEach(t, func(t *testing.T, kind shm.Kind) {
		r := newRouter(t, kind)
		s := r.started()
		n := r.fill(s)
		wantErr(t, s.TrySend(nil), ErrFull)

		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error)
		go func() { gaveUp <- s.Send(ctx, []byte("never")) }()
		waiting(t, s, 1)
		cancel()
		wantErr(t, <-gaveUp, context.Canceled)
		past, cancel := context.WithDeadline(t.Context(), time.Now().Add(time.Millisecond))
		defer cancel()
		wantErr(t, s.Send(past, []byte("never")), context.DeadlineExceeded)
		wantErr(t, s.SendBatch(past, [][]byte{[]byte("never")}), context.DeadlineExceeded)
		wantErr(t, s.Drain(past), context.DeadlineExceeded)

		const senders = 5
		before := s.Stats().Waits // the deadline may have passed before there was anything to wait for
		var wg sync.WaitGroup
		for range senders {
			wg.Go(func() {
				if err := s.Send(t.Context(), []byte("waited")); err != nil {
					t.Error(err)
				}
			})
		}
		waiting(t, s, before+senders)
		got := r.poll()
		wg.Wait()
		got = append(got, r.poll()...)
		if len(got) != n+senders {
			t.Fatalf("%d messages, want %d", len(got), n+senders)
		}
		for i, m := range got {
			if m.seq != uint64(i+1) || i >= n && m.data != "waited" {
				t.Errorf("message %d is %+v", i, m)
			}
		}
		must(t, s.Stop())
	})
}

// A context that has ended sends nothing, though there would be room.
func TestEndedContext(t *testing.T) {
	r := newRouter(t, shm.Heap)
	s := r.started()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Claim(ctx, 1)
	for _, err := range []error{
		err, s.Send(ctx, nil), s.Send(ctx, make([]byte, 20000)), s.SendBatch(ctx, [][]byte{nil}), s.Drain(ctx),
		s.WriteFunc(ctx, 1, func([]byte) (int, error) { t.Error("called"); return 0, nil }),
	} {
		if err != context.Canceled {
			t.Error(err)
		}
	}
	r.wantData()
	must(t, s.Stop())
}

// With the router dead and the ring full, a queue of those who wait ends at once, and not one after the
// other.
func TestNobodyMakesRoom(t *testing.T) {
	onEach(t, func(t *testing.T, kind shm.Kind) {
		r := newRouter(t, kind)
		s := r.started()
		r.fill(s)
		const goroutines = 40
		errs := make(chan error)
		for i := range goroutines {
			go func() {
				if i%2 == 0 {
					errs <- s.Send(t.Context(), nil)
				} else {
					_, err := s.Claim(t.Context(), 1)
					errs <- err
				}
			}()
		}
		waiting(t, s, goroutines)
		r.die()
		begun := time.Now()
		for range goroutines {
			err := <-errs
			wantErr(t, err, ErrRouterGone)
			wantErr(t, err, ring.ErrNoConsumer)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
		wantErr(t, s.TrySend(nil), ErrFull)
		wantErr(t, s.Drain(t.Context()), ErrRouterGone)
		must(t, s.Stop())
	})
}

func TestDrain(t *testing.T) {
	onEach(t, func(t *testing.T, kind shm.Kind) {
		r := newRouter(t, kind)
		s := r.started()
		must(t, s.Drain(t.Context())) // nothing to wait for
		for range 3 {
			must(t, s.TrySend([]byte("x")))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancelled := make(chan error)
		go func() { cancelled <- s.Drain(ctx) }()
		done := make(chan error, 2)
		for range 2 {
			go func() { done <- s.Drain(t.Context()) }()
		}
		cancel()
		wantErr(t, <-cancelled, context.Canceled)

		_, err := r.take(2)
		must(t, err)
		select {
		case err := <-done:
			t.Fatalf("drained with a message in the ring: %v", err)
		default:
		}
		_, err = r.take(1)
		must(t, err)
		must(t, <-done)
		must(t, <-done)
		must(t, s.Drain(t.Context()))

		// What others have sent behind is none of its business.
		other := r.started()
		must(t, other.TrySend([]byte("behind")))
		must(t, s.Drain(t.Context()))
		must(t, other.Stop())
		must(t, s.Stop())
	})
}

// A large message that is given up in the middle is not delivered, is in nobody's way, and does not spoil the
// next.
func TestLargeCancelled(t *testing.T) {
	onEach(t, func(t *testing.T, kind shm.Kind) {
		r := newRouter(t, kind)
		s, other := r.started(), r.started()
		big := bytes.Repeat([]byte("0123456789"), 2*testCapacity/10)
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error)
		go func() { gaveUp <- s.Send(ctx, big) }() // it cannot end without a consumer
		waiting(t, s, 1)

		// A second large message of the process waits for the first.
		second := make(chan error)
		go func() { second <- other.Send(t.Context(), big[:30000]) }()
		cancel()
		wantErr(t, <-gaveUp, context.Canceled)
		if st := s.Stats(); st.Unfinished != 1 || st.Messages != 0 || st.Bytes != 0 {
			t.Errorf("%+v", st)
		}
		got := r.collectN(1)
		must(t, <-second)
		must(t, s.Send(t.Context(), []byte("small")))
		got = append(got, r.collectN(1)...)
		if len(got) != 2 || got[0].pipe != 1 || got[0].data != string(big[:30000]) || got[1].pipe != 0 || got[1].data != "small" {
			t.Errorf("%d messages", len(got))
		}
		must(t, s.Stop())
		must(t, other.Stop())
	})
}

// Small messages pass between the frames of a large one, from its own sender, too.
func TestSmallPassesLarge(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	s, other := r.started(), r.started()
	done := make(chan error)
	go func() { done <- s.Send(t.Context(), make([]byte, 4*testCapacity)) }()
	waiting(t, s, 1)
	if _, err := r.take(1); err != nil { // First
		t.Fatal(err)
	}
	for _, small := range []*Sender{s, other} {
		eventually(t, "room for a small one", func() bool {
			err := small.TrySend([]byte("small"))
			if err != nil && !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			if err != nil {
				r.take(1)
			}
			return err == nil
		})
	}
	got := r.collectN(3)
	must(t, <-done)
	if got[0].data != "small" || got[1].data != "small" || got[2].kind != wire.Last || got[2].seq != 2 {
		t.Errorf("%d messages", len(got))
	}
	must(t, s.Stop())
	must(t, other.Stop())
}

// Many large messages at once, of several senders: each arrives whole.
func TestManyLarge(t *testing.T) {
	onEach(t, func(t *testing.T, kind shm.Kind) {
		r := newRouter(t, kind)
		stop := r.consume()
		var wg sync.WaitGroup
		const senders, each = 4, 5
		for g := range senders {
			s := r.started()
			wg.Go(func() {
				var inner sync.WaitGroup
				for i := range each {
					inner.Go(func() {
						if err := s.Send(t.Context(), bytes.Repeat([]byte{byte(g), byte(i)}, 30000)); err != nil {
							t.Error(err)
						}
					})
				}
				inner.Wait()
				if err := s.Stop(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		var seen [senders][each]bool
		ends := 0
		for _, m := range stop() {
			if m.kind == wire.End {
				ends++
				continue
			}
			g, i := m.data[0], m.data[1]
			if m.data != string(bytes.Repeat([]byte{g, i}, 30000)) || seen[g][i] {
				t.Errorf("message %d of %d came twice, or torn", i, g)
			}
			seen[g][i] = true
		}
		for _, s := range seen {
			if s != [each]bool{true, true, true, true, true} {
				t.Errorf("came: %v", seen)
			}
		}
		if full := int(r.dir.Ends()); ends > senders || ends+full < senders {
			t.Errorf("%d ends, %d found the ring full", ends, full)
		}
	})
}
