package router

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestModel plays a router step by step against its contract: pipes are made,
// closed, cancelled; senders started and stopped, sending in every way; receivers given
// handlers, which do things of their own, or taken from; routing is the loop's or RouteUntil's;
// the router is stopped and started again, with whatever is under way. The
// loop runs on the test's goroutine, so that nothing is routed between two steps.
func TestModel(t *testing.T) {
	guard(t)
	ringtest.Rapid(t, 80, func(rt *rapid.T) {
		m := &machine{stage: newStage()}
		m.limit = rapid.IntRange(1, 4).Draw(rt, "queue")
		turn := rapid.IntRange(1, 4).Draw(rt, "turn")
		var err error
		m.r, err = New(WithEventLoop(m.stage.loop()), WithCapacity(1<<20), WithInbox(1024), WithQueue(m.limit), WithTurn(turn), WithMaxPipes(maxPipesInModel), WithMaxMessage(400<<10))
		require.NoError(rt, err)
		defer m.end(rt)
		m.Start(rt)
		m.openPipe(rt)
		actions := rapid.StateMachineActions(m)
		for _, often := range []string{"Send", "Send", "Send", "Route", "RouteUntil", "Handle", "Recv"} {
			actions[often+" "+strconv.Itoa(len(actions))] = actions[often]
		}
		rt.Repeat(actions)
		m.settle(rt)
	})
}

const maxPipesInModel = 8

type machine struct {
	contract
	r       *Router
	stage   *stage
	ends    []*ending // of contract.pipes
	old     []*ending // of earlier runs
	got     []sight
	text    int
	heard   int // messages given to handlers
	faults  []error
	backlog int // bytes behind an open claim
}

// ending is both ends of a pipe.
type ending struct {
	*pipeModel
	s     *sender.Sender
	rcv   *Receiver
	claim sender.Claim
}

var over = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// Check runs after every step: routing happens in steps only, so its figures are exact.
func (m *machine) Check(rt *rapid.T) {
	require.Empty(rt, m.faults)
	require.Equal(rt, m.log, m.got, "what handlers saw")
	s := m.r.Stats()
	if m.running {
		require.Equal(rt, m.routed, s.Routed, "routed")
		require.Equal(rt, m.discarded, s.Discarded, "discarded")
		require.Equal(rt, m.panics, s.Panics, "panics")
	}
	for _, e := range m.ends {
		e.rcv.mu.Lock()
		held := e.rcv.queue.len()
		e.rcv.mu.Unlock()
		require.Equal(rt, len(e.held), held, "held by pipe %d", e.id)
		require.Equal(rt, e.sender, e.s.State())
	}
}

// any is one of the pipes; after a stop it is mostly one of a new run.
func (m *machine) any(rt *rapid.T) *ending {
	if !m.running && rapid.IntRange(0, 3).Draw(rt, "start again") > 0 {
		m.Start(rt)
	}
	if len(m.ends) == 0 {
		m.openPipe(rt)
	}
	return m.ends[rapid.IntRange(0, len(m.ends)-1).Draw(rt, "pipe")]
}

// openPipe makes a pipe and starts its sender.
func (m *machine) openPipe(rt *rapid.T) {
	if n := len(m.ends); m.running {
		if m.Pipe(rt); len(m.ends) > n {
			require.NoError(rt, m.ends[n].s.Start())
			m.ends[n].sender = sender.StateOpen
		}
	}
	if len(m.ends) == 0 {
		rt.Skip("no pipes")
	}
}

// seldom is for what ends much.
func seldom(rt *rapid.T) bool { return rapid.IntRange(0, 4).Draw(rt, "seldom") == 1 }

func (m *machine) OpenPipe(rt *rapid.T) { m.openPipe(rt) }

func (m *machine) Pipe(rt *rapid.T) {
	s, rcv, err := m.r.Pipe()
	if !m.running {
		require.Equal(rt, ErrNotRunning, err)
		return
	}
	// An entry is used again when the pipe is closed and its sender certainly gone; of
	// one that has stopped the monitor may not know yet.
	taken, perhaps := 0, 0
	for _, p := range m.pipes {
		switch {
		case p.closed && (p.sender == sender.StateInitial || p.settled):
		case p.closed && p.sender == sender.StateClosed:
			perhaps++
		default:
			taken++
		}
	}
	if err != nil {
		require.Equal(rt, ErrTooManyPipes, err)
		require.GreaterOrEqual(rt, taken+perhaps, maxPipesInModel)
		return
	}
	require.Less(rt, taken, maxPipesInModel, "one too many")
	p := &pipeModel{number: len(m.pipes), id: uint64(len(m.pipes) + 1)}
	require.Equal(rt, p.id, rcv.ID())
	require.Equal(rt, p.id, s.ID())
	m.pipes = append(m.pipes, p)
	m.ends = append(m.ends, &ending{pipeModel: p, s: s, rcv: rcv})
}

func (m *machine) StartSender(rt *rapid.T) {
	e := m.any(rt)
	err := e.s.Start()
	switch {
	case e.sender != sender.StateInitial:
		require.ErrorIs(rt, err, sender.ErrState)
	case !m.running:
		require.ErrorIs(rt, err, sender.ErrRouterGone)
	case e.closed:
		require.ErrorIs(rt, err, sender.ErrPipeClosed)
	default:
		require.NoError(rt, err)
		e.sender = sender.StateOpen
	}
}

// refused tells what a send has to answer where it can not succeed.
func (m *machine) refused(e *ending) error {
	switch {
	case e.sender != sender.StateOpen:
		return sender.ErrState
	case !m.running:
		return sender.ErrRouterGone
	}
	return nil
}

// words makes a message, mostly one that asks nothing of its handler.
func (m *machine) words(rt *rapid.T, size int) said {
	m.text++
	order := rapid.SampledFrom([]string{"plain", "plain", "plain", "plain", "plain", "plain", "plain", "plain", "plain", "plain", "panic", "close", "send", "unhandle", "rehandle", "until", "stop"}).Draw(rt, "order")
	if order == "stop" && rapid.IntRange(0, 4).Draw(rt, "really") > 0 {
		order = "plain"
	}
	if size > 0 && size%16 == 0 {
		return said{} // empty, and a message
	}
	text := fmt.Sprintf("%s %d #%d ", order, rapid.IntRange(0, 7).Draw(rt, "arg"), m.text)
	if size > len(text) {
		text += strings.Repeat("x", size-len(text))
	}
	return said{text: text}
}

func (m *machine) Send(rt *rapid.T) {
	e := m.any(rt)
	way := rapid.SampledFrom([]string{"send", "try", "batch", "large", "write"}).Draw(rt, "way")
	many := rapid.IntRange(1, 6).Draw(rt, "how many")
	blocked := m.behindClaim()
	if blocked && (way == "large" || m.backlog > 300<<10) {
		rt.Skip("it would wait for the claim's end")
	}
	var all []said
	var data [][]byte
	for range many {
		size := rapid.IntRange(0, 3000).Draw(rt, "size")
		if way == "large" {
			size = rapid.IntRange(100<<10, 400<<10).Draw(rt, "size")
			many = 1
		}
		msg := m.words(rt, size)
		all, data = append(all, msg), append(data, []byte(msg.text))
		m.backlog += len(msg.text)
		if way == "large" {
			break
		}
	}
	if !blocked {
		m.backlog = 0
	}
	want := m.refused(e)
	answer := func(err error, sent ...said) {
		if want != nil {
			require.ErrorIs(rt, err, want)
			return
		}
		require.NoError(rt, err)
		for _, msg := range sent {
			m.commit(e.pipeModel, msg)
		}
	}
	ctx, cancel := context.WithTimeout(background, patience)
	defer cancel()
	switch way {
	case "batch":
		answer(e.s.SendBatch(ctx, data), all...)
	default:
		for i, msg := range all {
			switch way {
			case "try":
				answer(e.s.TrySend(data[i]), msg)
			case "write":
				answer(e.s.WriteFunc(ctx, len(data[i])+10, func(b []byte) (int, error) { return copy(b, data[i]), nil }), msg)
			default:
				answer(e.s.Send(ctx, data[i]), msg)
			}
		}
	}
	require.ErrorIs(rt, e.s.Send(over, nil), context.Canceled)
	if want == nil {
		require.Equal(rt, sender.ErrTooLarge, e.s.Send(ctx, make([]byte, 400<<10+1)))
	}
}

// Claim holds up everybody until its end.
func (m *machine) Claim(rt *rapid.T) {
	e := m.any(rt)
	if e.pipeModel.claim != nil {
		rt.Skip("has one")
	}
	c, err := e.s.TryClaim(100)
	if want := m.refused(e); want != nil {
		require.ErrorIs(rt, err, want)
		return
	}
	require.NoError(rt, err)
	e.claim = c
	e.pipeModel.claim = m.commit(e.pipeModel, said{})
	e.pipeModel.claim.open = true
}

func (m *machine) EndClaim(rt *rapid.T) {
	var all []*ending
	for _, e := range m.ends {
		if e.pipeModel.claim != nil {
			all = append(all, e)
		}
	}
	if len(all) == 0 || !m.running {
		rt.Skip("no claims")
	}
	e := all[rapid.IntRange(0, len(all)-1).Draw(rt, "pipe")]
	it := e.pipeModel.claim
	e.pipeModel.claim = nil
	if rapid.Bool().Draw(rt, "abort") {
		e.claim.Abort()
		m.drop(it)
	} else {
		msg := m.words(rt, 0)
		n := copy(e.claim.Bytes(), msg.text)
		err := e.claim.CommitN(n)
		if e.sender == sender.StateClosed {
			require.ErrorIs(rt, err, sender.ErrState)
			m.drop(it)
		} else {
			require.NoError(rt, err)
			it.open, it.msg.text = false, msg.text[:n]
		}
	}
	require.Equal(rt, sender.ErrClaimDone, e.claim.Commit())
}

func (m *machine) StopSender(rt *rapid.T) {
	e := m.any(rt)
	if len(e.held) == 0 && !seldom(rt) {
		return
	}
	err := e.s.Stop()
	if e.sender != sender.StateOpen {
		require.ErrorIs(rt, err, sender.ErrState)
		return
	}
	require.NoError(rt, err)
	e.sender = sender.StateClosed
	if m.running {
		m.queue = append(m.queue, &itemModel{to: e.pipeModel, end: true})
	}
}

func (m *machine) Close(rt *rapid.T) {
	e := m.any(rt)
	if e.end != endTold && !seldom(rt) {
		return
	}
	err := m.r.ClosePipe(e.rcv)
	require.Equal(rt, m.close(e.pipeModel), err)
}

func (m *machine) Cancel(rt *rapid.T) {
	e := m.any(rt)
	err := e.rcv.Cancel()
	switch {
	case !m.running:
		require.Equal(rt, ErrNotRunning, err)
	case e.closed:
		require.Equal(rt, ErrPipeClosed, err)
	default:
		require.NoError(rt, err)
		e.cancel = true
	}
}

// Context is ended for the reasons that it has, and for no other.
func (m *machine) Context(rt *rapid.T) {
	e := m.any(rt)
	if e.sender != sender.StateOpen {
		rt.Skip("not started")
	}
	ctx := e.s.Context()
	if m.running && !e.closed && !e.cancel {
		require.NoError(rt, ctx.Err())
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(patience):
		rt.Fatal("the context does not end")
	}
	cause := context.Cause(ctx)
	ok := e.closed && errors.Is(cause, sender.ErrPipeClosed) || e.cancel && errors.Is(cause, sender.ErrCancelled) || !m.running && errors.Is(cause, sender.ErrRouterGone)
	require.True(rt, ok, "cause: %v", cause)
}

func (m *machine) Handle(rt *rapid.T) {
	e := m.any(rt)
	handler := rapid.SampledFrom([]int{0, 1, 1, 1}).Draw(rt, "handler")
	if !m.running {
		rt.Skip("nobody would call it")
	}
	m.setHandler(e, handler)
	m.handle(e.pipeModel, handler)
}

func (m *machine) setHandler(e *ending, handler int) {
	if handler == 0 {
		e.rcv.Handle(nil, nil)
		return
	}
	e.rcv.Handle(func(msg Message) { m.hear(e, handler, msg) }, func(err error) {
		m.got = append(m.got, sight{pipe: e.id, handler: handler, end: true})
		if err != nil {
			m.faults = append(m.faults, fmt.Errorf("pipe %d ended with %w", e.id, err))
		}
	})
}

// hear is the handler: it notes the message, and does what that says.
func (m *machine) hear(e *ending, handler int, msg Message) {
	m.heard++
	at := len(m.got)
	m.got = append(m.got, sight{pipe: e.id, handler: handler, said: said{string(msg.Data), msg.Seq}})
	order, arg := parseOrder(string(msg.Data))
	answer := func(err error) { m.got[at].answer = fmt.Sprint(err) }
	other := m.ends[arg%len(m.ends)]
	switch order {
	case "panic":
		panic("as the message says")
	case "close":
		answer(other.rcv.Close())
	case "send":
		if other.s.State() == sender.StateOpen {
			if err := other.s.TrySend([]byte("plain from a handler")); err != nil {
				m.faults = append(m.faults, err)
			}
		}
	case "unhandle":
		e.rcv.Handle(nil, nil)
	case "rehandle":
		m.setHandler(e, handler+1)
	case "until":
		answer(m.r.RouteUntil(over, func() bool { return true }))
	case "stop":
		if err := m.r.Stop(); err != nil {
			m.faults = append(m.faults, err)
		}
	}
}

func (m *machine) Recv(rt *rapid.T) {
	e := m.any(rt)
	for range rapid.IntRange(1, 3).Draw(rt, "times") {
		m.receive(rt, e)
	}
}

func (m *machine) receive(rt *rapid.T, e *ending) {
	want, wantErr := m.contract.recv(e.pipeModel, context.Canceled)
	msg, err := e.rcv.Recv(over)
	require.Equal(rt, wantErr, err)
	if err == nil {
		require.Equal(rt, want, said{string(msg.Data), msg.Seq})
		require.NotNil(rt, msg.Data)
		require.False(rt, msg.Redelivered)
	}
}

// Route has the loop route until nothing more can be.
func (m *machine) Route(rt *rapid.T) {
	m.settle(rt)
}

func (m *machine) settle(rt *rapid.T) {
	was := m.running
	for m.step() == moved {
	}
	reached := func() bool {
		if s := m.r.Stats(); s.Routed < m.routed || s.Discarded < m.discarded || len(m.got) < len(m.log) {
			return false
		}
		for _, e := range m.ends {
			e.rcv.mu.Lock()
			state := e.rcv.state
			e.rcv.mu.Unlock()
			if state != e.end && !e.closed {
				return false
			}
		}
		return !m.running || m.stalledBy == nil || m.r.Stats().StalledBy == m.ends[m.stalledBy.number].rcv
	}
	for end := time.Now().Add(patience); !reached(); {
		if time.Now().After(end) {
			rt.Fatalf("not routed: %v\nbut: %v\nfigures %+v", m.log, m.got, m.r.Stats())
		}
		if m.stage.run() > 0 {
			require.Empty(rt, m.faults)
			continue
		}
		select {
		case <-m.stage.ready:
		case <-time.After(time.Millisecond):
		}
	}
	for m.running && m.stalledBy == nil && m.stage.run() > 0 { // pings without anything to route
	}
	if was && !m.running {
		m.stopped(rt)
	}
	if len(m.queue) == 0 {
		m.markSettled()
	}
}

// markSettled notes that the monitor has seen every end.
func (m *machine) markSettled() {
	for _, p := range m.pipes {
		p.settled = p.sender == sender.StateClosed
	}
}

// RouteUntilDone has no time left.
func (m *machine) RouteUntilDone(rt *rapid.T) {
	want := context.Canceled
	if !m.running {
		want = ErrNotRunning
	}
	m.routeCommitted(rt, want)
}

// routeCommitted has a RouteUntil route at least what was committed before the call. What
// handlers send meanwhile it may leave to the loop.
func (m *machine) routeCommitted(rt *rapid.T, want error) {
	was := m.running
	m.late = true
	for len(m.flush) > 0 || len(m.queue) > 0 && !m.queue[0].late {
		if m.step() != moved {
			break
		}
	}
	m.late = false
	routed, discarded, heard := m.routed, m.discarded, len(m.log)
	if was && !m.running {
		want = ErrNotRunning
	}
	require.Equal(rt, want, m.r.RouteUntil(over, func() bool { return false }))
	if was && !m.running {
		m.stopped(rt)
		return
	}
	if was {
		s := m.r.Stats()
		require.GreaterOrEqual(rt, s.Routed, routed)
		require.GreaterOrEqual(rt, s.Discarded, discarded)
		require.GreaterOrEqual(rt, len(m.got), heard)
	}
	m.settle(rt)
}

// RouteUntil ends with the message that its condition waits for.
func (m *machine) RouteUntil(rt *rapid.T) {
	was := m.running
	more := rapid.IntRange(0, 5).Draw(rt, "messages")
	until, heard := m.delivered+more, m.heard+more
	cond := func() bool { return m.heard >= heard }
	var want error
	if !was {
		want = ErrNotRunning
	}
	for want == nil && m.delivered < until {
		if m.step() == moved {
			continue
		}
		switch {
		case !m.running:
			want = ErrNotRunning
		case m.stalledBy != nil || len(m.queue) > 0 || m.awaited() > 0:
			want = context.Canceled // it would wait for ever
		default:
			want = ErrNothingToWaitFor
		}
	}
	ctx, cancel := context.WithTimeout(background, patience)
	defer cancel()
	if want == context.Canceled {
		ctx = over
	}
	err := m.r.RouteUntil(ctx, cond)
	if want == context.Canceled && err == nil {
		rt.Fatal("the condition holds too early")
	}
	require.Equal(rt, want, err)
	switch {
	case was && !m.running:
		m.stopped(rt)
	case want != nil:
		m.settle(rt) // what handlers sent at the end
	}
}

// Stop comes with anything under way.
func (m *machine) Stop(rt *rapid.T) {
	if m.running && !seldom(rt) {
		return
	}
	err := m.r.Stop()
	if !m.running {
		require.Equal(rt, ErrNotRunning, err)
		return
	}
	require.NoError(rt, err)
	m.contract.stop()
	m.stopped(rt)
}

// stopped is what is true of a router that has stopped.
func (m *machine) stopped(rt *rapid.T) {
	select {
	case <-m.r.Done():
	case <-time.After(patience):
		rt.Fatal("not done")
	}
	s := m.r.Stats()
	require.Equal(rt, m.unrouted, s.Unrouted, "unrouted")
	require.Equal(rt, m.routed, s.Routed)
	m.queue, m.flush = nil, nil
	for _, e := range m.ends {
		if e.pipeModel.claim != nil {
			e.claim.Abort()
			e.pipeModel.claim = nil
		}
		require.Equal(rt, ErrNotRunning, m.r.ClosePipe(e.rcv))
	}
}

func (m *machine) Start(rt *rapid.T) {
	err := m.r.Start()
	if m.running {
		require.Equal(rt, ErrRunning, err)
		return
	}
	require.NoError(rt, err)
	m.old = append(m.old, m.ends...)
	m.ends = nil
	m.contract = contract{running: true, limit: m.limit, log: m.log, delivered: m.delivered}
}

// Old pipes are an earlier run's: receivers keep what they held, and nothing else works.
func (m *machine) Old(rt *rapid.T) {
	if len(m.old) == 0 {
		rt.Skip("none")
	}
	e := m.old[rapid.IntRange(0, len(m.old)-1).Draw(rt, "pipe")]
	if m.running {
		require.Equal(rt, ErrForeign, m.r.ClosePipe(e.rcv))
	}
	require.Equal(rt, ErrNotRunning, e.rcv.Cancel())
	require.Equal(rt, ErrNotRunning, e.rcv.Close())
	m.receive(rt, e)
	switch e.sender {
	case sender.StateOpen:
		require.ErrorIs(rt, e.s.TrySend([]byte("late")), sender.ErrRouterGone)
		if rapid.Bool().Draw(rt, "stop") {
			require.NoError(rt, e.s.Stop())
			e.sender = sender.StateClosed
		}
	case sender.StateInitial:
		require.ErrorIs(rt, e.s.Start(), sender.ErrRouterGone)
	}
}

// end stops what is left, also after a failure.
func (m *machine) end(rt *rapid.T) {
	m.r.Stop()
	for _, e := range append(m.old, m.ends...) {
		if e.pipeModel.claim != nil {
			e.claim.Abort()
		}
		if err := e.s.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			rt.Errorf("close: %v", err)
		}
	}
}
