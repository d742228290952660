package bench

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// The ways of sending besides one message after the other.

func TestBatches(t *testing.T) {
	c, err := StartCrew(CrewOptions{Senders: 2})
	require.NoError(t, err)
	defer c.Close()
	for _, via := range []Transport{Ring, Pipe, Unix, Seqpacket, Channel} {
		_, err := c.Stream(Order{Via: via, N: 1001, Size: 64, Batch: 32, Verify: true})
		require.NoError(t, err, via)
	}
	w, err := StartWalk(2)
	require.NoError(t, err)
	_, err = w.Run(Order{N: 1001, Size: 64, Batch: 32, Verify: true})
	require.NoError(t, err)
	require.NoError(t, w.Close())
}

func TestChannel(t *testing.T) {
	c, err := StartCrew(CrewOptions{Senders: 3, RingOnly: true})
	require.NoError(t, err)
	defer c.Close()
	for _, size := range []int{16, 64, 256, 1 << 10, 4 << 10, 16 << 10} {
		o := Order{Via: Channel, N: 1001, Size: size, Verify: true}
		_, err := c.Stream(o)
		require.NoError(t, err, size)
		r, err := c.RoundTrip(o)
		require.NoError(t, err, size)
		require.EqualValues(t, 1001, r.Latency.N)
	}
	for _, fault := range []string{"drop", "repeat", "garble"} { // an array cannot be stretched
		c, err := StartCrew(CrewOptions{Senders: 2, RingOnly: true})
		require.NoError(t, err)
		defer c.Close()
		_, err = c.Stream(Order{Via: Channel, N: 1000, Size: 64, Verify: true, Fault: fault})
		require.ErrorIs(t, err, ErrBadMessage)
	}
	_, err = c.Stream(Order{Via: Channel, For: time.Millisecond, Size: 64})
	require.ErrorContains(t, err, "a number of messages")
	_, err = c.Stream(Order{Via: Channel, N: 1, Size: 65})
	require.ErrorContains(t, err, "65 bytes")
}

// TestPaced: what is paced takes its time, and arrives whole.
func TestPaced(t *testing.T) {
	const rate, n = 20_000, 1_000
	c, err := StartCrew(CrewOptions{Senders: 2})
	require.NoError(t, err)
	defer c.Close()
	w, err := StartWalk(2)
	require.NoError(t, err)
	defer func() { require.NoError(t, w.Close()) }()
	f, err := StartFunnel(2)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	check := func(name string, p Paced, err error) {
		require.NoError(t, err, name)
		require.EqualValues(t, n, p.Latency.N, name)
		// Two senders, of which each has this rate, and is never early.
		require.GreaterOrEqual(t, p.Elapsed, (n/2-1)*time.Second/rate, name)
		require.LessOrEqual(t, p.Rate, 2.1*rate, name)
		require.Positive(t, p.Latency.P50, name)
		if name != string(Channel) { // where a difference is all that there is
			require.Positive(t, p.Receiver, name)
		}
	}
	for _, via := range []Transport{Ring, Pipe, Unix, Seqpacket, Channel} {
		p, err := c.Paced(Order{Via: via, N: n, Size: 64, Rate: rate})
		check(string(via), p, err)
	}
	p, err := w.Paced(Order{N: n, Size: 64, Rate: rate})
	check("walk", p, err)
	p, err = f.Paced(Order{N: n, Size: 64, Rate: rate})
	check("funnel", p, err)

	_, err = c.Paced(Order{Via: Ring, N: n, Size: 64})
	require.ErrorContains(t, err, "pace")
	_, err = c.Stream(Order{Via: Ring, N: n, Size: 64, Rate: rate, Verify: true})
	require.ErrorContains(t, err, errTimeAndContent.Error())
}

// TestPacedSubtracts: what the loop takes without sending is not the transport's.
func TestPacedSubtracts(t *testing.T) {
	o := Order{N: 10, Size: 64, Rate: 1000}
	run := func(o Order) (Result, error) {
		return Result{N: o.N, SenderCPU: 700, ReceiverCPU: 200, Elapsed: 5 * time.Millisecond}, nil
	}
	mute := func(Order) (Result, error) { return Result{SenderCPU: 300}, nil }
	p, err := paced(o, run, mute)
	require.NoError(t, err)
	require.EqualValues(t, 40, p.Sender)
	require.EqualValues(t, 20, p.Receiver)
	require.InDelta(t, 2000, p.Rate, 0.01)
}

// TestSpinningIsNotCharged: the processor time of a sender that spins nearly all the time is nearly nothing.
func TestSpinningIsNotCharged(t *testing.T) {
	if !shm.CanSpin() {
		t.Skip("nothing spins on one processor")
	}
	const n, rate = 400, 10_000
	before := usageBefore()
	p := newPacer(now(), rate)
	for i := range uint64(n) {
		p.wait(i)
	}
	var rep Report
	before.until(&rep)
	whole := rep.CPU
	rep.Spun = p.spun
	before.until(&rep)
	require.Positive(t, p.spun)
	require.Less(t, rep.CPU, whole/2)
}

// TestPacer: nothing is early, who is late catches up, and the time spun is part
// of the time that passed.
func TestPacer(t *testing.T) {
	for _, rate := range []int{1_000, 50_000} {
		start := now()
		p := newPacer(start, rate)
		for i := range uint64(20) {
			at := p.wait(i)
			require.GreaterOrEqual(t, at, start+int64(i)*int64(time.Second)/int64(rate))
		}
		took := now() - start
		require.LessOrEqual(t, p.spun, took)
		require.Equal(t, p.spins, p.spun > 0, "rate %d", rate)
	}
	start := now()
	late := newPacer(start-int64(time.Hour), 1) // a second apart, and all of them past
	for i := range uint64(100) {
		late.wait(i)
	}
	require.Less(t, now()-start, int64(20*time.Second), "times that have passed are not waited for")
}

// TestSendFor: who sends for a time and not a number still has every message
// checked.
func TestSendFor(t *testing.T) {
	c, err := StartCrew(CrewOptions{Senders: 3})
	require.NoError(t, err)
	defer c.Close()
	for _, via := range []Transport{Ring, Pipe, Unix, Seqpacket} {
		const d = 20 * time.Millisecond
		r, err := c.Stream(Order{Via: via, For: d, Size: 64, Verify: true})
		require.NoError(t, err, via)
		require.Len(t, r.Counts, 3, via)
		sum := uint64(0)
		for _, n := range r.Counts {
			require.Positive(t, n, via)
			sum += n
		}
		require.Equal(t, sum, r.N, via)
		require.GreaterOrEqual(t, r.Elapsed, d, via)
	}
}

func TestLastMark(t *testing.T) {
	const size = 64
	v := newVerifier(size, 2, true)
	v.follow(Order{For: 1}, 2)
	require.NoError(t, v.check(message(size, 0, 0)))
	require.NoError(t, v.check(message(size, 0, 1|lastMark)))
	require.ErrorIs(t, v.check(message(size, 1, 1|lastMark)), ErrBadMessage, "one is missing before the last")
	require.ErrorIs(t, v.check(message(size, 1, 0|lastMark)), errAllEnded)
	plain := newVerifier(size, 1, true)
	require.ErrorIs(t, plain.check(message(size, 0, 0|lastMark)), ErrBadMessage, "a number says how many there are")
}

func TestBursts(t *testing.T) {
	c, err := StartCrew(CrewOptions{})
	require.NoError(t, err)
	defer c.Close()
	r, err := c.Stream(Order{Via: Ring, N: 1001, Size: 64, Burst: 32, Verify: true})
	require.NoError(t, err)
	require.EqualValues(t, 1001/32+1, r.Latency.N)
	_, err = c.Stream(Order{Via: Pipe, N: 1001, Size: 64, Burst: 32})
	require.Error(t, err)
}

func TestDrained(t *testing.T) {
	r, err := ring.New(ring.Options{})
	require.NoError(t, err)
	defer r.Close()
	a, err := r.Attach()
	require.NoError(t, err)
	defer a.Close()
	c, err := r.Consume()
	require.NoError(t, err)
	defer c.Close()
	out := &ringOutlet{r, a.NewProducer()}
	require.True(t, out.drained())
	for range 3 {
		require.NoError(t, out.send(make([]byte, 64)))
		require.False(t, out.drained())
		_, err = c.Poll(1, func(ring.Frame) ring.Action { return ring.Continue })
		require.NoError(t, err)
		require.True(t, out.drained())
	}
}

func TestContend(t *testing.T) {
	c, err := StartCrew(CrewOptions{Senders: 2, Capacity: 64 << 10, RingOnly: true})
	require.NoError(t, err)
	defer c.Close()
	for range 3 { // also with a consumer that holds its seat, and elsewhere in the lap
		r, err := c.Contend(Order{N: 700, Size: 64, Verify: true})
		require.NoError(t, err)
		require.Positive(t, r.Elapsed)
	}
	_, err = c.Contend(Order{N: 1025, Size: 64})
	require.ErrorContains(t, err, "do not fit")
}

func TestFunnel(t *testing.T) {
	f, err := StartFunnel(3)
	require.NoError(t, err)
	for range 2 {
		r, err := f.Run(Order{N: 1000, Size: 64, Verify: true})
		require.NoError(t, err)
		require.Positive(t, r.Elapsed)
	}
	f.patience = 50 * time.Millisecond
	_, err = f.Run(Order{N: 3, Size: 64, Fault: "drop"})
	require.ErrorIs(t, err, ErrBadMessage)
	require.NoError(t, f.Close())
}

func TestStates(t *testing.T) {
	for want, floors := range map[State][][]float64{
		SameCore: {{70}, {70, 71, 60}},
		Near:     {{120}, {110, 130, 249}},
		Far:      {{280, 430, 900}},
		Mixed:    {{70, 120, 120}, {120, 120, 430}},
		Unknown:  {{0, 0, 0}},
	} {
		for _, f := range floors {
			require.Equal(t, want, StateOf(f...), "%v", f)
		}
	}
}

// What is compared may be anything that can be run.
func TestBoutOfWalks(t *testing.T) {
	c, err := StartCrew(CrewOptions{Pinned: true, RingOnly: true})
	require.NoError(t, err)
	defer c.Close()
	w, err := StartWalk(1)
	require.NoError(t, err)
	defer func() { require.NoError(t, w.Close()) }()
	f, err := StartFunnel(1)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	o := Order{Size: 64, Rate: 10_000}
	b, err := NewBoutOf(c.Floor, Side{w.Paced, o}, Side{f.Paced, o}, MedianLatency, 5*time.Millisecond)
	require.NoError(t, err)
	require.NoError(t, b.Pair())
	p := b.Pairs()[0]
	require.EqualValues(t, 50, p.Ours.Latency.N)
	require.EqualValues(t, 50, p.Theirs.Latency.N)
	require.NotEqual(t, State(""), p.State())
}
