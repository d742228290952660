package sender

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// handed starts a worker that was handed a sender, and returns its pipe.
func (r *testRouter) handed(role string) (*worker, uint32) {
	r.t.Helper()
	cmd := command(r.t, role)
	s := r.pipe()
	must(r.t, s.HandOver(cmd))
	return start(r.t, cmd), s.token.Index
}

func wantThree(t *testing.T, got []message, pipe uint32) {
	t.Helper()
	if len(got) != 4 || got[0].data != "one" || got[1].data != strings.Repeat("two", 10000) || got[2].data != "three" || got[3].kind != wire.End {
		t.Errorf("%d messages", len(got))
	}
	for i, m := range got {
		if m.pipe != pipe || m.kind != wire.End && m.seq != uint64(i+1) {
			t.Errorf("message %d is number %d of pipe %d", i, m.seq, m.pipe)
		}
	}
}

func TestWorker(t *testing.T) {
	for _, kind := range []shm.Kind{shm.Memfd, shm.Named} {
		t.Run(kind.String(), func(t *testing.T) {
			r := newRouter(t, kind)
			for range 2 {
				w, pipe := r.handed("three")
				wantThree(t, r.collectN(4), pipe)
				w.wait()
				if e := r.dir.Load(pipe); e.State() != wire.PipeEnded {
					t.Errorf("entry is %v", e.State())
				}
			}
		})
	}
}

func TestUnrelatedWorker(t *testing.T) {
	r := newRouter(t, shm.Named)
	s := r.pipe()
	token, err := s.Token()
	must(t, err)
	w := start(t, command(t, "path", token))
	wantThree(t, r.collectN(4), 0)
	w.wait()
	wantErr(t, s.Start(), ErrPipeInUse)
}

func TestWorkerOfWorker(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	w, pipe := r.handed("nested")
	wantThree(t, r.collectN(4), pipe)
	w.wait()
}

// Senders of two routers go to one worker, which has one seat with each.
func TestWorkerOfSeveral(t *testing.T) {
	a, b := newRouter(t, shm.Memfd), newRouter(t, shm.Memfd)
	cmd := command(t, "all")
	for _, r := range []*testRouter{a, b, a} {
		must(t, r.pipe().HandOver(cmd))
	}
	if len(cmd.ExtraFiles) != 2 {
		t.Errorf("%d files", len(cmd.ExtraFiles))
	}
	w := start(t, cmd)
	got := a.collectN(4)
	if got[0].data != "0" || got[1].data != "2" || got[0].pipe != 0 || got[1].pipe != 1 || got[0].slot != got[1].slot {
		t.Errorf("%+v", got)
	}
	if got := b.collectN(2); got[0].data != "1" || got[1].kind != wire.End {
		t.Errorf("%+v", got)
	}
	w.wait()
}

func TestStartedByHand(t *testing.T) {
	w := start(t, command(t, "by hand"))
	line := w.line()
	if !strings.Contains(line, EnvName) || !strings.Contains(line, "start this program by a router's Launch") {
		t.Errorf("a worker without a router says %q", line)
	}
	w.wait()
}

func TestWorkerIsTidy(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	w, _ := r.handed("tidy")
	w.wait()
	r.poll()
}

// Killed anywhere, a sender has delivered at least what was acknowledged, in order and whole, and its entry
// names it.
func TestWorkerKilled(t *testing.T) {
	for _, kind := range []shm.Kind{shm.Memfd, shm.Named} {
		t.Run(kind.String(), func(t *testing.T) {
			r := newRouter(t, kind)
			for round := range 4 {
				w, pipe := r.handed("endless")
				got := r.collectN(100 + 61*round)
				acknowledged := -1
				for acknowledged < len(got)/2 {
					acknowledged, _ = strconv.Atoi(w.line())
				}
				w.kill()
				for w.lines.Scan() {
					acknowledged, _ = strconv.Atoi(w.lines.Text())
				}
				e := r.dir.Load(pipe)
				eventually(t, "the kernel says that it is dead", func() bool {
					alive, err := r.consumer.SlotAlive(e.Slot())
					must(t, err)
					return !alive
				})
				r.settle(&got)
				if len(got) <= acknowledged {
					t.Errorf("%d messages acknowledged, %d delivered", acknowledged+1, len(got))
				}
				for i, m := range got {
					if m.pipe != pipe || m.seq != uint64(i+1) || strings.TrimRight(m.data, " ") != fmt.Sprint(i) || m.kind == wire.End {
						t.Fatalf("message %d is %q, number %d of %d", i, strings.TrimRight(m.data, " "), m.seq, m.pipe)
					}
				}
				if info := r.ring.SlotInfo(e.Slot()); e.State() != wire.PipeAttached || !e.HeldBy(e.Slot(), info.Instance) {
					t.Errorf("entry is %+v, slot %+v", e, info)
				}
			}
		})
	}
}

// settle collects up to the end of what was ever claimed.
func (r *testRouter) settle(got *[]message) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	end, err := r.ring.Frontier()
	must(r.t, err)
	for r.consumer.Position() < end {
		*got = append(*got, r.poll()...)
		if r.consumer.Position() < end {
			if err := r.consumer.Wait(ctx); err != nil {
				r.t.Fatal(err)
			}
		}
	}
}

// A worker that dies with a claim open is in nobody's way, and its seat goes to the next.
func TestWorkerKilledWithClaim(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	w, pipe := r.handed("claim")
	if line := w.line(); line != "claimed" {
		t.Fatal(line)
	}
	e := r.dir.Load(pipe)
	s := r.started()
	must(t, s.TrySend([]byte("behind")))
	if got := r.poll(); len(got) != 1 || got[0].data != "before" {
		t.Errorf("%+v", got)
	}
	w.kill()
	if got := r.collectN(1); got[0].data != "behind" {
		t.Errorf("%+v", got)
	}
	w, second := r.handed("claim")
	w.line()
	if now := r.dir.Load(second); now.Slot() != e.Slot() || now.HeldBy(e.Slot(), e.Instance) || !e.HeldBy(e.Slot(), e.Instance) {
		t.Errorf("first %+v, second %+v", e, now)
	}
	w.kill()
	must(t, s.Stop())
	r.collect(func(ms []message) bool { return len(ms) > 0 && ms[len(ms)-1].kind == wire.End })
}

// One that dies in the middle of a large message has not sent it, and the next one does not continue it.
func TestWorkerKilledInLarge(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	w, _ := r.handed("large")
	if line := w.line(); line != "stuck" {
		t.Fatal(line)
	}
	w.kill()
	w, pipe := r.handed("three")
	wantThree(t, r.collectN(4), pipe)
	w.wait()
}

func TestWorkerWatches(t *testing.T) {
	for _, c := range []struct {
		cause error
		do    func(r *testRouter)
	}{
		{ErrCancelled, func(r *testRouter) { r.dir.Flag(0, wire.Cancelled); r.dir.Notify() }},
		{ErrPipeClosed, func(r *testRouter) { r.dir.Flag(0, wire.Closed); r.dir.Notify() }},
		{ErrRouterGone, (*testRouter).stop},
		{ErrRouterGone, (*testRouter).die},
	} {
		r := newRouter(t, shm.Memfd)
		w, _ := r.handed("watch")
		if line := w.line(); line != "watching" {
			t.Fatal(line)
		}
		c.do(r)
		if line := w.line(); line != c.cause.Error() {
			t.Errorf("worker sees %q, want %q", line, c.cause)
		}
		w.wait()
	}
}

// A process with all seats taken is told so.
func TestRosterFullOfProcesses(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	var all []*ring.Attachment
	for range ring.MaxSlots {
		a, err := r.ring.Attach()
		must(t, err)
		all = append(all, a)
	}
	w, _ := r.handed("three")
	for w.lines.Scan() {
	}
	if err := w.cmd.Wait(); err == nil || !strings.Contains(w.err.String(), ring.ErrRosterFull.Error()) {
		t.Errorf("%v: %s", err, w.err.String())
	}
	w.done = true
	for _, a := range all {
		must(t, a.Close())
	}
}
