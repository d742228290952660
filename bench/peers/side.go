package main

import (
	"fmt"
	"time"

	"github.com/shmrouter/shmrouter/bench"
	"github.com/shmrouter/shmrouter/shm"
)

// measure is what one run found: ns for a message, p50, p99 and so on of round
// trips or latencies, cpu as processors kept busy.
type measure map[string]float64

// A side is one of the two in a pair.
type side interface {
	// run sends n messages. verify writes and checks all content.
	run(n uint64, verify bool) (measure, error)
}

// The kinds of run.
const (
	kindStream = "stream"
	kindTrip   = "trip"
	kindPaced  = "paced"
	kindClaims = "claims"
	kindBurst  = "burst"
	kindCrowd  = "crowd" // by the clock
)

// spec describes a side; it can be compared, and so names what runs can share.
type spec struct {
	kind    string
	via     string // a peer, "c:" and a C program, or "channel"
	size    int
	senders int
	place   bench.Place
	batch   int
	wait    string
	rate    float64
	gather  bool // C rings: both sides pause about 5 µs when empty or full
	asleep  bool // C rings: both sides sleep in futexes
	cjob    string
	seconds float64 // of a crowd
}

func (s spec) withDefaults() spec {
	if s.size == 0 {
		s.size = 64
	}
	s.senders = max(s.senders, 1)
	return s
}

// crewSide is a peer between this program's processes.
type crewSide struct {
	spec
	crew *bench.Crew
}

func (s *crewSide) args(n uint64, verify bool) args {
	return args{Via: s.via, N: n, Size: s.size, Batch: s.batch, Verify: verify, Wait: s.wait, Rate: s.rate}
}

func (s *crewSide) run(n uint64, verify bool) (measure, error) {
	a := s.args(n, verify)
	switch s.kind {
	case kindStream:
		return s.stream(a)
	case kindTrip:
		_, sent, err := s.crew.Perform(taskEcho, taskPing, 1, a)
		if err != nil {
			return nil, err
		}
		m := measure{"ns": float64(sent[0].Last-sent[0].First) / float64(n)}
		m.add(sent[0].Latency)
		return m, nil
	case kindPaced:
		if verify {
			a.Rate = 0 // the instants stand where content would
			return s.stream(a)
		}
		return s.paced(a)
	case kindClaims:
		return s.claims(a)
	case kindBurst:
		a.N = (n + burstLength - 1) / burstLength * burstLength
		_, sent, err := s.crew.Perform(taskReceive, taskBurst, 1, a)
		if err != nil {
			return nil, err
		}
		return sent[0].Figures, nil
	case kindCrowd:
		return s.crowd(a)
	}
	return nil, fmt.Errorf("no such kind of run: %q", s.kind)
}

func (s *crewSide) stream(a args) (measure, error) {
	a.At = s.together()
	got, sent, err := s.crew.Perform(taskReceive, taskSend, s.senders, a)
	if err != nil {
		return nil, err
	}
	first := sent[0].First
	for _, r := range sent {
		first = min(first, r.First)
	}
	return measure{"ns": float64(got.Last-first) / float64(a.N)}, nil
}

// paced sends at a rate. What the sender's loop takes by itself, and an order by
// itself, measured right before, is not counted.
func (s *crewSide) paced(a args) (measure, error) {
	mute := a
	mute.Mute = true
	quiet, alone, err := s.crew.Perform(taskIdle, taskSend, 1, mute)
	if err != nil {
		return nil, err
	}
	got, sent, err := s.crew.Perform(taskReceive, taskSend, 1, a)
	if err != nil {
		return nil, err
	}
	took := float64(sent[0].Last - sent[0].First)
	m := measure{
		"cpu":    float64(got.CPU+sent[0].CPU-quiet.CPU-alone[0].CPU) / took,
		"pacing": float64(alone[0].CPU) / float64(alone[0].Last-alone[0].First),
		"ns":     took / float64(a.N),
	}
	m.add(got.Latency)
	return m, nil
}

// together is an instant by which all senders have got their orders: from the
// first one's start to the last one's a run would not be what it says.
func (s *crewSide) together() int64 {
	if s.senders == 1 {
		return 0
	}
	return shm.Now() + int64(toBeThere) + int64(s.senders)*int64(toBeThereEach)
}

const (
	toBeThere     = 10 * time.Millisecond
	toBeThereEach = 500 * time.Microsecond
)

// claims fills the ring while nobody reads, and empties it afterwards.
func (s *crewSide) claims(a args) (measure, error) {
	a.At = s.together()
	_, sent, err := s.crew.Perform(taskIdle, taskClaims, s.senders, a)
	if err != nil {
		return nil, err
	}
	if _, _, err := s.crew.Perform(taskReceive, taskIdle, s.senders, a); err != nil {
		return nil, err
	}
	sum := 0.0
	for _, r := range sent {
		sum += r.Figures["ns"]
	}
	return measure{"ns": sum / float64(len(sent))}, nil
}

// crowd lets all senders send for a time.
func (s *crewSide) crowd(a args) (measure, error) {
	a.For, a.At = int64(s.seconds*1e9), s.together()
	got, sent, err := s.crew.Perform(taskReceive, taskSend, s.senders, a)
	if err != nil {
		return nil, err
	}
	first := sent[0].First
	for _, r := range sent {
		first = min(first, r.First)
	}
	return measure{
		"ns":    float64(got.Last-first) / got.Figures["n"],
		"share": got.Figures["least"] / max(got.Figures["most"], 1),
	}, nil
}

func (m measure) add(l *bench.Latency) {
	m["p50"], m["p99"], m["p999"], m["max"] = float64(l.P50), float64(l.P99), float64(l.P999), float64(l.Max)
}

// cSide is a C program, which starts its processes itself.
type cSide struct {
	spec
	built   cBinaries
	program string
	garble  bool // a message on its way, for tests
}

func (s *cSide) run(n uint64, verify bool) (measure, error) {
	senders, receiver := bench.TwoCPUs()
	if receiver < 0 || s.place == bench.Together {
		receiver = senders
	}
	job := s.kind
	if s.cjob != "" {
		job = s.cjob
	}
	return s.built.run(s.program, job, map[string]any{
		"n": max(n, burstLength), "size": s.size, "producers": s.senders, "cpu": senders, "other": receiver,
		"verify": number(verify), "gather": number(s.gather), "sleep": number(s.asleep), "garble": number(s.garble),
	})
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
