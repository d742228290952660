package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/shmrouter/shmrouter/shm"
)

// An actor is a process at one end of the transports. It is told what it is by
// an environment variable, reads Orders from standard input, one JSON object a
// line, and writes a Report for each to standard output; for orders that
// receive, one more when it is ready for the first message. When standard
// input ends it exits, whatever it is doing: no actor outlives its crew.

// envActor holds a setup as JSON, and makes a process an actor.
const envActor = "SHMROUTER_BENCH_ACTOR"

// setup is what an actor has to know from the start.
type setup struct {
	Receiver bool
	Index    int // of the sender
	Senders  int
	CPU      int // processor to stay on, -1 for any
	Dir      string
	Files    []string
}

// Job is what an actor can be ordered to do.
type Job string

const (
	jobReceive      Job = "receive"
	jobSend         Job = "send"
	jobPing         Job = "ping" // sends and waits for the answer, again and again
	jobEcho         Job = "echo"
	jobStreamInside Job = "stream-inside" // both ends in one process
	jobTripInside   Job = "trip-inside"
	jobFloorPing    Job = "floor-ping"
	jobFloorEcho    Job = "floor-echo"
)

// Order is one run.
type Order struct {
	Job    Job           // set by Crew's methods
	Via    Transport     // what the messages take
	N      uint64        // messages, or round trips
	Size   int           // of a message in bytes, MinSize or more
	Batch  int           // so many messages go out at once, where that is more than one
	Verify bool          // write and check the content
	Wait   Wait          // of a ring's receiver
	Rate   int           // messages per second from each sender, 0 for as many as possible
	Burst  int           // on a ring: so many at full speed, then nothing until it is empty
	For    time.Duration // send for so long, and not N

	Mute bool  // do everything but send
	From int64 // do not begin before this time of the monotonic clock

	Args json.RawMessage `json:",omitempty"` // of a Task

	// Fault makes the first sender cheat with the message in the middle, to see
	// that the harness finds out: drop, repeat, garble or stretch.
	Fault string `json:",omitempty"`
}

// Report is an actor's answer to an Order.
type Report struct {
	Ready bool   `json:",omitempty"` // not the answer yet: senders may start
	Err   string `json:",omitempty"` // why the run failed

	First, Last int64    // time on the monotonic clock before the first and after the last message
	Latency     *Latency `json:",omitempty"` // of round trips, of paced messages one way, or of bursts
	Counts      []uint64 `json:",omitempty"` // of each sender's messages, where an Order says For
	Floor       float64  `json:",omitempty"` // jobFloorPing, ns
	Mallocs     uint64   // of the process during the run
	Switches    int64    // times it slept, likewise
	CPU         int64    // processor time in ns, likewise; of a paced sender without Spun
	Spun        int64    // ns that a paced sender spun until the next message's time

	Figures map[string]float64 `json:",omitempty"` // of a Task
}

// Main makes this process an actor if it was started as one, and then does not
// return. Programs and tests that use this package call it first thing.
func Main() {
	text := os.Getenv(envActor)
	if text == "" {
		return
	}
	var s setup
	err := json.Unmarshal([]byte(text), &s)
	if err == nil {
		err = newActor(s).run(os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: actor:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

type actor struct {
	setup
	files map[string]*os.File
	floor *shm.Segment
	in    map[string]inlet
	out   map[string]outlet
	post  *Post // from the first Task on
}

func newActor(s setup) *actor {
	a := &actor{setup: s, files: map[string]*os.File{}, in: map[string]inlet{}, out: map[string]outlet{}}
	for i, name := range s.Files {
		a.files[name] = os.NewFile(uintptr(3+i), name)
	}
	return a
}

func (a *actor) run(orders io.Reader, reports io.Writer) error {
	if a.CPU >= 0 {
		if err := pinProcess(a.CPU); err != nil {
			return err
		}
	}
	todo := make(chan Order)
	go func() {
		for dec := json.NewDecoder(orders); ; {
			var o Order
			if err := dec.Decode(&o); err != nil {
				os.Exit(0) // the crew is gone
			}
			todo <- o
		}
	}()
	enc := json.NewEncoder(reports)
	for o := range todo {
		ready := func() error { return enc.Encode(Report{Ready: true}) }
		before := usageBefore()
		rep, err := a.perform(o, ready)
		before.until(&rep)
		if err != nil {
			rep.Err = err.Error()
		}
		if err := enc.Encode(rep); err != nil {
			return err
		}
	}
	return nil
}

// perform carries out one order. ready must be called when a sender may start.
func (a *actor) perform(o Order, ready func() error) (Report, error) {
	switch o.Job {
	case jobSend:
		return a.doSend(o)
	case jobReceive:
		return a.doReceive(o, ready)
	case jobPing:
		return a.doPing(o)
	case jobEcho:
		return a.doEcho(o, ready)
	case jobStreamInside:
		return a.doStreamInside(o)
	case jobTripInside:
		return a.doTripInside(o)
	case jobFloorPing, jobFloorEcho:
		return a.doFloor(o, ready)
	}
	return a.doTask(o, ready)
}

// inlet opens the receiving end from sender i, or on sender 0 that of the way
// back, and keeps it for later orders.
func (a *actor) inlet(o Order, i int) (inlet, error) {
	name := a.linkName(o.Via, i, a.Receiver)
	in, ok := a.in[name]
	if !ok {
		f, err := a.file(name)
		if err != nil {
			return nil, err
		}
		if in, err = openInlet(o.Via, f); err != nil {
			return nil, fmt.Errorf("bench: %s: %w", name, err)
		}
		a.in[name] = in
	}
	if r, ok := in.(*ringInlet); ok {
		return in, r.setWait(o.Wait)
	}
	return in, nil
}

// outlet opens the sending end, and keeps it.
func (a *actor) outlet(o Order) (outlet, error) {
	name := a.linkName(o.Via, a.Index, !a.Receiver)
	out, ok := a.out[name]
	if !ok && o.Via == viaRouter {
		out, err := openRouterOutlet()
		if err == nil {
			a.out[name] = out
		}
		return out, err
	}
	if !ok {
		f, err := a.file(name)
		if err != nil {
			return nil, err
		}
		if out, err = openOutlet(o.Via, f); err != nil {
			return nil, fmt.Errorf("bench: %s: %w", name, err)
		}
		a.out[name] = out
	}
	return out, nil
}

func (a *actor) linkName(via Transport, i int, up bool) string {
	switch {
	case via == Channel || via == viaRouter:
		return string(via)
	case via == Ring && up:
		return fileRingUp
	case via == Ring:
		return fileRingDown
	case via == Pipe && up:
		return numbered(filePipeUp, i)
	case via == Pipe:
		return numbered(filePipeDown, i)
	}
	return numbered(string(via), i)
}

func (a *actor) file(name string) (*os.File, error) {
	f := a.files[name]
	if f == nil {
		return nil, fmt.Errorf("bench: no link %q here", name)
	}
	return f, nil
}

func openInlet(via Transport, f *os.File) (inlet, error) {
	switch via {
	case Ring:
		return openRingInlet(f)
	case Pipe:
		return newFrameInlet(f), nil
	case Unix:
		conn, err := openSocket(f)
		return newFrameInlet(conn), err
	}
	conn, err := openSocket(f)
	return &packetInlet{conn: conn, buf: make([]byte, 1<<20)}, err
}

func openOutlet(via Transport, f *os.File) (outlet, error) {
	switch via {
	case Ring:
		return openRingOutlet(f)
	case Pipe:
		return &frameOutlet{w: f}, nil
	case Unix:
		conn, err := openSocket(f)
		return &frameOutlet{w: conn}, err
	}
	conn, err := openSocket(f)
	return packetOutlet{conn}, err
}

// usage is what the process had used at the beginning. Processor time is looked
// at last then, and first at the end: to count allocations stops the world.
type usage struct {
	mallocs uint64
	times   syscall.Rusage
}

func usageBefore() (u usage) {
	u.mallocs = mallocs()
	u.times = rusage()
	return u
}

func (u usage) until(r *Report) {
	now := rusage()
	r.Mallocs = mallocs() - u.mallocs
	r.Switches = now.Nvcsw - u.times.Nvcsw
	r.CPU = processorTime(now) - processorTime(u.times) - r.Spun
}

func rusage() (ru syscall.Rusage) {
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &ru) // cannot fail for oneself
	return ru
}

func processorTime(ru syscall.Rusage) int64 { return ru.Utime.Nano() + ru.Stime.Nano() }

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}
