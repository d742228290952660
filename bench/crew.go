package bench

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/shmrouter/shmrouter/ring"
)

const (
	patienceAfter = 10 * time.Second // for what is left after the last sender has reported
	patienceAll   = 2 * time.Minute  // for a whole run
)

// CrewOptions say who is to be measured.
type CrewOptions struct {
	Senders  int    // processes, 1 to MaxSenders; 0 means 1
	Pinned   bool   // senders on one processor, receiver on another
	Place    Place  // where they are pinned otherwise
	Capacity int64  // of the ring in bytes; 0 means the default
	RingOnly bool   // no other transport between them: a crowd would need too many descriptors
	Dir      string // for Tasks that need one
}

// Place says which of the two processors a pinned crew uses.
type Place int

const (
	Apart     Place = iota // senders on one, receiver on the other
	Together               // everybody on one
	Alternate              // as Apart, but every second sender beside the receiver
)

// Crew is one receiving process and some that send, with all transports
// between them. After an error it is of no further use, and has ended its
// processes. Its methods are for one goroutine.
type Crew struct {
	receiver *process
	senders  []*process
	gauge    *Crew    // measures the floor for a crew that is not pinned
	inside   *process // both ends of a Channel; started by the first order for it
	capacity int64    // of the rings
	patience time.Duration
	closed   bool

	floorless bool // only one processor, or no right to choose between them
}

// StartCrew starts the processes. Errors: more than MaxSenders, and what keeps a
// process or a transport from being made.
func StartCrew(o CrewOptions) (_ *Crew, err error) {
	o.Senders = max(o.Senders, 1)
	if o.Senders > MaxSenders {
		return nil, fmt.Errorf("bench: %d senders are too many", o.Senders)
	}
	w, err := newWiring(o)
	if err != nil {
		return nil, err
	}
	defer w.close()
	c := &Crew{patience: patienceAfter, capacity: o.Capacity}
	if c.capacity == 0 {
		c.capacity = ring.DefaultCapacity
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	far, near := twoCPUs()
	place := func(cpu int) setup {
		s := setup{Senders: o.Senders, CPU: -1, Dir: o.Dir}
		if o.Pinned {
			s.CPU = cpu
		}
		return s
	}
	s := place(max(near, far))
	if o.Place == Together {
		s = place(far)
	}
	s.Receiver = true
	if c.receiver, err = startProcess(s, w.receiver); err != nil {
		return nil, err
	}
	for i, files := range w.senders {
		s := place(far)
		if o.Place == Alternate && i%2 == 1 {
			s = place(max(near, far))
		}
		s.Index = i
		p, err := startProcess(s, files)
		if err != nil {
			return nil, err
		}
		c.senders = append(c.senders, p)
	}
	c.floorless = near < 0 || CanPin() != nil
	if (!o.Pinned || o.Place == Together) && !c.floorless {
		// To move the crew's own threads for each floor would disturb what is
		// measured next.
		c.gauge, err = StartCrew(CrewOptions{Pinned: true})
	}
	return c, err
}

// Stream sends N messages from all senders to the receiver. The error is that of a process
// that failed, died or did not answer in time, and wraps ErrBadMessage where a
// message was not as it should be.
func (c *Crew) Stream(o Order) (Result, error) {
	if o.Via == Channel {
		return c.runInside(o, jobStreamInside)
	}
	if o.For > 0 {
		// All at once: who begins earlier would have a larger share.
		o.From = now() + int64(5*time.Millisecond) + int64(len(c.senders))*int64(500*time.Microsecond)
	}
	return c.run(o, jobReceive, jobSend, c.senders)
}

// RoundTrip has sender 0 send N messages and wait for the answer to each.
// Errors are those of Stream.
func (c *Crew) RoundTrip(o Order) (Result, error) {
	if o.Via == Channel {
		return c.runInside(o, jobTripInside)
	}
	return c.run(o, jobEcho, jobPing, c.senders[:1])
}

// Floor measures a round trip of two cache lines between the processors on
// which a pinned crew's receiver and senders are, in nanoseconds: 0 where there
// is only one processor, or no right to choose between them. Errors are those of
// Stream.
func (c *Crew) Floor() (ns float64, err error) {
	if c.floorless {
		return 0, nil
	}
	if c.gauge != nil {
		return c.gauge.Floor()
	}
	_, reports, err := c.exchange(Order{}, jobFloorEcho, jobFloorPing, c.senders[:1])
	if err != nil {
		return 0, err
	}
	return reports[0].Floor, nil
}

func (c *Crew) run(o Order, receive, send Job, senders []*process) (Result, error) {
	if err := o.check(); err != nil {
		return Result{}, err
	}
	got, sent, err := c.exchange(o, receive, send, senders)
	if err != nil {
		return Result{}, err
	}
	res := Result{N: o.N, Latency: sent[0].Latency}
	first, last := sent[0].First, got.Last
	if receive == jobEcho {
		last = sent[0].Last // a round trip ends where it began
	}
	for _, s := range sent {
		first = min(first, s.First)
		res.sent(s)
	}
	res.received(got)
	res.Elapsed = time.Duration(last - first)
	return res, nil
}

// check refuses what no transport can carry.
func (o Order) check() error {
	if o.Size < MinSize || o.N == 0 && o.For <= 0 {
		return fmt.Errorf("bench: cannot send %d messages of %d bytes", o.N, o.Size)
	}
	return nil
}

// runInside is run for what takes both ends in one process.
func (c *Crew) runInside(o Order, job Job) (res Result, err error) {
	if err := o.check(); err != nil {
		return res, err
	}
	if o.For > 0 || o.Burst > 0 {
		return res, errors.New("bench: in one process a number of messages is sent, one after the other or paced")
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if c.inside == nil {
		if c.inside, err = startProcess(setup{Senders: len(c.senders), CPU: -1}, nil); err != nil {
			return res, err
		}
	}
	o.Job = job
	if err := c.inside.order(o); err != nil {
		return res, err
	}
	r, err := c.inside.report(patienceAll)
	if err != nil {
		return res, err
	}
	res = Result{N: o.N, Elapsed: time.Duration(r.Last - r.First), Latency: r.Latency}
	res.sent(r)
	return res, nil
}

// Contend has all senders send N messages at the same time while nobody reads,
// and has them received afterwards. They must fit the ring. Elapsed is the time
// of the sending alone. More messages than fit are an error; others are those of
// Stream.
func (c *Crew) Contend(o Order) (res Result, err error) {
	if err := o.check(); err != nil {
		return res, err
	}
	if room := c.capacity / ring.Granule; o.N*uint64((o.Size+ring.Granule-1)/ring.Granule) > uint64(room) {
		return res, fmt.Errorf("bench: %d messages of %d bytes do not fit a ring that nobody reads", o.N, o.Size)
	}
	o.Via, o.From = Ring, now()+int64(time.Millisecond)
	_, sent, err := c.exchange(o, "", jobSend, c.senders)
	if err != nil {
		return res, err
	}
	got, _, err := c.exchange(o, jobReceive, "", nil)
	if err != nil {
		return res, err
	}
	res.N = o.N
	first, last := sent[0].First, sent[0].Last
	for _, s := range sent {
		first, last = min(first, s.First), max(last, s.Last)
		res.sent(s)
	}
	res.received(got)
	res.Elapsed = time.Duration(last - first)
	return res, nil
}

// exchange gives the receiver its order, if there is one for it, then the senders
// theirs, and collects the reports. On an error the crew is closed.
func (c *Crew) exchange(o Order, receive, send Job, senders []*process) (got Report, sent []Report, err error) {
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if o.Job = receive; receive != "" {
		if err := c.receiver.order(o); err != nil {
			return got, nil, err
		}
		if r, err := c.receiver.report(patienceAll); err != nil {
			return got, nil, err
		} else if !r.Ready {
			return got, nil, errors.New("bench: the receiver has reported without being ready")
		}
	}
	o.Job = send
	for _, p := range senders {
		if err := p.order(o); err != nil {
			return got, nil, err
		}
	}
	// The receiver's complaint comes first: where it stops receiving, the
	// senders wait for room and never report.
	sent = make([]Report, 0, len(senders))
	for end := time.After(patienceAll); len(sent) < len(senders); {
		select {
		case r, ok := <-c.receiver.reports:
			if !ok || r.Err != "" {
				return got, nil, c.receiver.failure(r)
			}
			// Done before the senders said so; kept for later.
			c.receiver.early = &r
		case r, ok := <-senders[len(sent)].reports:
			if !ok || r.Err != "" {
				return got, nil, senders[len(sent)].failure(r)
			}
			sent = append(sent, r)
		case <-end:
			return got, nil, fmt.Errorf("bench: no reports within %v", patienceAll)
		}
	}
	if receive == "" {
		return got, sent, nil
	}
	got, err = c.receiver.report(c.patience)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w: %d were sent, and the receiver still waits %v later", ErrBadMessage, o.N, c.patience)
	}
	return got, sent, err
}

// Close ends the processes.
func (c *Crew) Close() {
	c.closed = true
	for _, p := range append(c.senders, c.receiver, c.inside) {
		if p != nil {
			p.close()
		}
	}
	if c.gauge != nil {
		c.gauge.Close()
	}
}
