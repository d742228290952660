package ring_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestModel plays a ring step by step, in one goroutine, against a plain queue of
// records (model_queue_test.go) that foretells every answer: what is delivered and
// where it lay, full, released, skipped, counted. Parties are producers on several
// attachments, which leave or die with claims open, and consumers that follow each other.
func TestModel(t *testing.T) {
	for _, kind := range ringtest.Kinds {
		t.Run(kind.String(), func(t *testing.T) {
			ringtest.Rapid(t, 250, func(rt *rapid.T) {
				m := newMachine(t, rt, kind)
				defer m.close(rt)
				rt.Repeat(rapid.StateMachineActions(m))
				m.finish(rt)
			})
		})
	}
}

// machine is a ring and its model.
type machine struct {
	r     *ring.Ring
	q     queue
	seats []*seat // attached
	gone  []*seat // closed or dead; what they hold is kept from the collector
	c     *ring.Consumer

	number uint64
}

// seat is an attachment.
type seat struct {
	a         *ring.Attachment
	producers []*ring.Producer
	model     *seatModel
}

var cancelled = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

func newMachine(t *testing.T, rt *rapid.T, kind shm.Kind) *machine {
	var r *ring.Ring
	var err error
	switch kind {
	case shm.Heap:
		r, err = ring.NewHeap(ringtest.Tiny)
	case shm.Memfd:
		r, err = ring.New(ringtest.Tiny)
	default:
		r, err = ring.Create(ringtest.Path(t), ringtest.Tiny)
	}
	require.NoError(rt, err)
	start := rapid.SampledFrom([]uint64{0, 1000, 1<<32 - 40, ring.ScrubLap*1024 - 40, 1<<45 - 40}).Draw(rt, "start")
	r.StartAt(start)
	m := &machine{r: r, q: queue{size: r.Granules(), head: start, frontier: start, next: start}}
	m.Attach(rt)
	m.consume(rt)
	return m
}

func (m *machine) consume(rt *rapid.T) {
	m.q.manual = rapid.Bool().Draw(rt, "manual release")
	opts := []ring.ConsumerOption{ring.WithWaiting(ring.Thrift)}
	if m.q.manual {
		opts = append(opts, ring.WithManualRelease())
	}
	c, err := m.r.Consume(opts...)
	require.NoError(rt, err)
	m.c = c
	m.q.takeOver()
	require.Equal(rt, m.q.head, c.Position())
}

// Check runs after every step.
func (m *machine) Check(rt *rapid.T) {
	require.NoError(rt, m.r.Check())
	end, err := m.r.Frontier()
	require.NoError(rt, err)
	require.Equal(rt, m.q.frontier, end, "frontier")
	require.Equal(rt, m.q.head, m.r.Head(), "head")
	require.Equal(rt, m.q.next, m.c.Position(), "consumer")
	figures := m.c.Stats()
	figures.Sleeps = 0 // as many as it takes
	require.Equal(rt, m.q.counts, figures, "figures")
	require.LessOrEqual(rt, m.r.HintAt(), m.q.frontier, "hint")
}

func (m *machine) seat(rt *rapid.T) *seat {
	if len(m.seats) == 0 {
		rt.Skip("nobody is attached")
	}
	return rapid.SampledFrom(m.seats).Draw(rt, "seat")
}

func (m *machine) producer(rt *rapid.T) (*seat, *ring.Producer) {
	s := m.seat(rt)
	return s, rapid.SampledFrom(s.producers).Draw(rt, "producer")
}

func (m *machine) size(rt *rapid.T) int {
	return rapid.OneOf(rapid.IntRange(0, 200), rapid.IntRange(0, m.r.MaxFrame())).Draw(rt, "bytes")
}

func (m *machine) message(n int) ringtest.Message {
	m.number++
	return ringtest.Message{Data: message(n, m.number), Meta: m.number}
}

// answered compares a claim's answer with the model's, and returns its record.
func (m *machine) answered(rt *rapid.T, s *seat, p *ring.Producer, g uint64, err error) *record {
	rec := m.q.claim(s.model, p, g)
	if rec == nil {
		require.Equal(rt, ring.ErrFull, err)
		return nil
	}
	require.NoError(rt, err)
	require.Equal(rt, rec.pos+g, p.Position())
	return rec
}

// Attach takes the lowest seat that is free, or whose holder died.
func (m *machine) Attach(rt *rapid.T) {
	if len(m.seats) == 4 {
		rt.Skip("enough seats")
	}
	a, err := m.r.Attach()
	require.NoError(rt, err)
	s := &seat{a: a, model: m.q.attach()}
	require.Equal(rt, s.model.slot, a.Slot())
	m.seats = append(m.seats, s)
	s.producers = append(s.producers, a.NewProducer())
}

func (m *machine) NewProducer(rt *rapid.T) {
	s := m.seat(rt)
	s.producers = append(s.producers, s.a.NewProducer())
}

func (m *machine) Send(rt *rapid.T) {
	s, p := m.producer(rt)
	wait := rapid.Bool().Draw(rt, "wait, with a context that has ended")
	for range rapid.IntRange(1, 20).Draw(rt, "how many") {
		msg := m.message(m.size(rt))
		err := p.TrySend(msg.Data, msg.Meta)
		rec := m.answered(rt, s, p, granules(len(msg.Data)), err)
		if rec != nil {
			rec.commit(msg)
			continue
		}
		if wait { // it tries once more, and leaves nothing behind
			require.ErrorIs(rt, p.Send(cancelled, msg.Data, msg.Meta), context.Canceled)
			if m.q.turn == p { // who has waited gives it back
				m.q.turn, m.q.turnSeat = nil, nil
			}
		}
		break
	}
}

func (m *machine) Batch(rt *rapid.T) {
	s, p := m.producer(rt)
	var all []ringtest.Message
	var data [][]byte
	g := uint64(0)
	for range rapid.IntRange(0, 10).Draw(rt, "how many") {
		msg := m.message(rapid.IntRange(0, 1000).Draw(rt, "bytes"))
		all, data = append(all, msg), append(data, msg.Data)
		g += granules(len(msg.Data))
	}
	err := p.TryBatch(data, func(i int) uint64 { return all[i].Meta })
	switch {
	case len(all) == 0:
		require.NoError(rt, err)
		return
	case g > m.q.size/8:
		require.Equal(rt, ring.ErrTooLarge, err)
		return
	}
	if rec := m.answered(rt, s, p, g, err); rec != nil {
		rec.commit(all...)
	}
}

func (m *machine) Claim(rt *rapid.T) {
	s, p := m.producer(rt)
	n := m.size(rt)
	c, err := p.TryClaim(n, 0)
	rec := m.answered(rt, s, p, granules(n), err)
	if rec == nil {
		return
	}
	require.Equal(rt, rec.pos, c.Position())
	require.Len(rt, c.Bytes(), n)
	rec.claim, rec.n = c, n
	s.model.open = append(s.model.open, rec)
}

// ending takes one of the open claims, of closed seats as well.
func (m *machine) ending(rt *rapid.T) (*seatModel, *record) {
	var all []*record
	for _, s := range m.q.seats {
		if !s.dead {
			all = append(all, s.open...)
		}
	}
	if len(all) == 0 {
		rt.Skip("no claim is open")
	}
	rec := rapid.SampledFrom(all).Draw(rt, "claim")
	return rec.seat, rec
}

func (m *machine) Commit(rt *rapid.T) {
	s, rec := m.ending(rt)
	msg := m.message(rapid.IntRange(0, rec.n).Draw(rt, "bytes"))
	copy(rec.claim.Bytes(), msg.Data)
	require.NoError(rt, rec.claim.SetMeta(msg.Meta))
	require.Equal(rt, ring.ErrTooLarge, rec.claim.CommitN(rec.n+1))
	err := rec.claim.CommitN(len(msg.Data))
	if s.closed {
		require.ErrorIs(rt, err, os.ErrClosed)
		rec.state = ring.Skip
	} else {
		require.NoError(rt, err)
		rec.commit(msg)
	}
	m.ended(rt, rec)
}

func (m *machine) Abort(rt *rapid.T) {
	_, rec := m.ending(rt)
	rec.claim.Abort()
	rec.state = ring.Skip
	m.ended(rt, rec)
}

func (m *machine) ended(rt *rapid.T, rec *record) {
	m.q.ended(rec)
	require.Equal(rt, ring.ErrClaimDone, rec.claim.Commit())
	rec.claim.Abort()
	require.Nil(rt, rec.claim.Bytes())
}

// Refused has what changes nothing.
func (m *machine) Refused(rt *rapid.T) {
	_, p := m.producer(rt)
	require.Equal(rt, ring.ErrTooLarge, p.TrySend(make([]byte, m.r.MaxFrame()+1), 0))
	require.Equal(rt, ring.ErrMeta, p.TrySend(nil, 1<<ring.MetaBits))
	_, err := p.TryClaim(-1, 0)
	require.Equal(rt, ring.ErrTooLarge, err)
	_, err = m.r.Consume()
	require.ErrorIs(rt, err, ring.ErrConsumerBusy)
	for _, s := range m.gone {
		require.ErrorIs(rt, s.a.Close(), os.ErrClosed)
		if !s.model.dead {
			require.ErrorIs(rt, s.producers[0].TrySend(nil, 0), os.ErrClosed)
		}
	}
}

// Leave closes a seat. Its slot is free when the last of its claims has ended.
func (m *machine) Leave(rt *rapid.T) {
	s := m.seat(rt)
	require.NoError(rt, s.a.Close())
	m.q.leave(s.model)
	m.vacated(s)
}

// Die is the end of a producer's process. Its claims stay until the consumer, or
// the slot's next holder, finds out.
func (m *machine) Die(rt *rapid.T) {
	s := m.seat(rt)
	require.NoError(rt, s.a.Die())
	s.model.dead = true
	m.vacated(s)
}

func (m *machine) vacated(s *seat) {
	for i := range m.seats {
		if m.seats[i] == s {
			m.seats = append(m.seats[:i:i], m.seats[i+1:]...)
			break
		}
	}
	m.gone = append(m.gone, s)
}

// Turn has a producer hold the turn, or give it back. Everybody else leaves a quarter free.
func (m *machine) Turn(rt *rapid.T) {
	s, p := m.producer(rt)
	if m.q.turn == p {
		p.DropTurn()
		m.q.turn, m.q.turnSeat = nil, nil
		return
	}
	require.Equal(rt, m.q.turn == nil, p.TakeTurn())
	if m.q.turn == nil {
		m.q.turn, m.q.turnSeat = p, s.model
	}
}

// AskWhoLives has the consumer ask, which takes a dead one's turn.
func (m *machine) AskWhoLives(rt *rapid.T) {
	slot := rapid.IntRange(0, 5).Draw(rt, "slot")
	alive, err := m.c.SlotAlive(slot)
	require.NoError(rt, err)
	require.Equal(rt, m.q.alive(slot), alive)
	if t := m.q.turnSeat; t != nil && t.slot == slot && !alive {
		m.q.turn, m.q.turnSeat = nil, nil
	}
}

func (m *machine) Poll(rt *rapid.T) {
	limit := rapid.IntRange(0, 30).Draw(rt, "limit")
	stop := rapid.IntRange(0, 30).Draw(rt, "stop at")
	how := rapid.SampledFrom([]ring.Action{ring.Continue, ring.Continue, ring.Break, ring.Leave}).Draw(rt, "and")
	if how == ring.Continue {
		stop = -1
	}
	m.poll(rt, limit, stop, how)
}

func (m *machine) poll(rt *rapid.T, limit, stop int, how ring.Action) int {
	// A dead owner is asked for after a while only. Wait comes back when that is done.
	for m.q.deadInFront() {
		require.NoError(rt, m.c.Wait(context.Background()))
		m.q.skipFront()
	}
	var got []ringtest.Message
	heads := []uint64{}
	n, err := m.c.Poll(limit, func(f ring.Frame) ring.Action {
		require.Equal(rt, len(f.Data), cap(f.Data))
		got = append(got, ringtest.Copy(f))
		heads = append(heads, m.r.Head())
		if len(got) == stop+1 {
			return how
		}
		return ring.Continue
	})
	require.NoError(rt, err)
	want, wantHeads, consumed := m.q.poll(limit, stop, how, m.c.Position())
	require.Equal(rt, consumed, n)
	require.Len(rt, got, len(want))
	require.Equal(rt, wantHeads, heads, "head, while the handler ran")
	for i := range want {
		require.Equal(rt, want[i], got[i])
	}
	return n
}

func (m *machine) Wait(rt *rapid.T) {
	if m.q.deadInFront() {
		return // it may take its time to find out: see poll
	}
	interrupted := rapid.Bool().Draw(rt, "interrupted")
	if interrupted {
		m.c.Interrupt()
		require.Equal(rt, ring.ErrInterrupted, m.c.WaitUntil(context.Background(), 1))
	}
	err := m.c.WaitUntil(context.Background(), 1) // long ago
	if m.q.ready() {
		require.NoError(rt, err)
	} else {
		require.ErrorIs(rt, err, os.ErrDeadlineExceeded)
	}
}

func (m *machine) Release(rt *rapid.T) {
	pos := m.q.head
	if len(m.q.polls) > 0 {
		pos = rapid.SampledFrom(m.q.polls).Draw(rt, "position after a poll")
	}
	switch err := m.c.Release(pos); {
	case !m.q.manual:
		require.Equal(rt, ring.ErrNotManual, err)
	case pos < m.q.head:
		require.Equal(rt, ring.ErrRelease, err)
	default:
		require.NoError(rt, err)
		m.q.release(pos)
	}
	if m.q.manual {
		require.Equal(rt, ring.ErrRelease, m.c.Release(m.q.polled()+1))
	}
}

func (m *machine) WaitReleased(rt *rapid.T) {
	_, p := m.producer(rt)
	pos := rapid.SampledFrom([]uint64{m.q.head, m.q.next, m.q.frontier, p.Position()}).Draw(rt, "position")
	err := p.WaitReleased(cancelled, pos)
	if pos <= m.q.head {
		require.NoError(rt, err)
	} else {
		require.ErrorIs(rt, err, context.Canceled)
	}
}

// NewConsumer goes on at head: what was not released comes again.
func (m *machine) NewConsumer(rt *rapid.T) {
	if rapid.Bool().Draw(rt, "dies") {
		require.NoError(rt, m.c.Die())
		defer func() { // they go on from the last time that they were published
			m.q.counts = m.c.Stats()
			m.q.counts.Sleeps = 0
		}()
	} else {
		require.NoError(rt, m.c.Close())
		_, err := m.c.Poll(1, nil)
		require.ErrorIs(rt, err, os.ErrClosed)
	}
	m.consume(rt)
}

// finish ends what is open, and receives everything.
func (m *machine) finish(rt *rapid.T) {
	for _, s := range m.q.seats {
		for !s.dead && len(s.open) > 0 {
			rec := s.open[0]
			rec.claim.Abort()
			rec.state = ring.Skip
			m.ended(rt, rec)
		}
	}
	for m.q.next != m.q.frontier {
		m.poll(rt, 1<<30, -1, ring.Continue)
	}
	if m.q.manual {
		require.NoError(rt, m.c.Release(m.q.next))
		m.q.release(m.q.next)
	}
	m.Check(rt)
	require.Equal(rt, m.q.frontier, m.r.Head())
}

func (m *machine) close(rt *rapid.T) {
	for _, s := range append(m.seats, m.gone...) {
		if !s.model.dead {
			for _, rec := range s.model.open { // after a failure
				rec.claim.Abort()
			}
			if err := s.a.Close(); !errors.Is(err, os.ErrClosed) {
				require.NoError(rt, err)
			}
		}
	}
	if err := m.c.Close(); !errors.Is(err, os.ErrClosed) {
		require.NoError(rt, err)
	}
	if m.r.Segment().Kind() == shm.Named {
		require.NoError(rt, m.r.Segment().Unlink())
	}
	require.NoError(rt, m.r.Close())
}
