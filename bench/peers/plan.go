package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/shmrouter/shmrouter/bench"
)

// What is asked. Lines are those of the table in docs/benchmarks-peers.md.

const (
	streamTime = 80 * time.Millisecond
	tripTime   = 80 * time.Millisecond
	pacedTime  = 400 * time.Millisecond
	slowTime   = time.Second // at a thousand a second
	peerPairs  = 15
	crowdPairs = 9
	sharePairs = 5  // of sums of some twenty turns each, which differ much
	longCrowd  = 10 // seconds
	// 255 that share a processor in slices of some milliseconds come to it once a
	// second: within one of those the first turn of all is measured, and no more.
	severalTurns = 5 // seconds
)

// A line is a group of contests.
type line struct {
	name     string
	title    string
	contests []contest
}

func rate(must, goal float64) []metric {
	return []metric{{key: "ns", rate: true, must: must, goal: goal}}
}
func cost(must, goal float64) []metric { return []metric{{key: "ns", must: must, goal: goal}} }
func trips(p50, p50Goal, p99, p99Goal float64) []metric {
	return []metric{{key: "p50", must: p50, goal: p50Goal}, {key: "p99", must: p99, goal: p99Goal}}
}

func stream(size int) spec { return spec{kind: kindStream, via: "ring", size: size} }

// against is a contest whose other side differs only as said.
func against(what string, ours spec, via string, m []metric, change ...func(*spec)) contest {
	theirs := ours
	theirs.via, theirs.wait = via, waitDefault
	for _, f := range change {
		f(&theirs)
	}
	each := streamTime
	if ours.kind == kindTrip {
		each = tripTime
	}
	return contest{what: what, ours: ours, theirs: theirs, metrics: m, each: each}
}

func gathering(s *spec) { s.gather, s.batch = true, 0 }

func job(name string) func(*spec) { return func(s *spec) { s.cjob = name } }

const (
	agrona = "c:agrona"
	slots  = "c:slots"
	floors = "c:floors"
)

// rings is what is held against the best rings in C and against the kernel.
func rings() []line {
	batch := stream(64)
	batch.batch = 32
	busy := spec{kind: kindTrip, via: "ring", size: 64, wait: waitSpin}
	small := busy
	small.size = 48
	claims := spec{kind: kindClaims, via: "ring", senders: 2, place: bench.Alternate}
	asleep := spec{kind: kindTrip, via: "ring", wait: waitThrift}
	oneCore := asleep
	oneCore.place = bench.Together
	many := func(n int) spec {
		s := stream(64)
		s.senders = n
		return s
	}
	lines := []line{
		{"1", "stream of 64 B, one producer", []contest{
			against("Agrona in C, gathering", stream(64), agrona, rate(0.9, 1.15), gathering),
			against("fixed slots in C, gathering", stream(64), slots, rate(0, 0.9), gathering),
			against("Agrona in C, eager", stream(64), agrona, rate(0, 0)),
			against("a flag per record, no claim", stream(64), floors, rate(0, 0), job("record")),
		}},
		{"1b", "streams of other sizes", []contest{
			against("16 B: Agrona in C, gathering", stream(16), agrona, rate(0.7, 1), gathering),
			against("16 B: fixed slots in C, gathering", stream(16), slots, rate(0, 0), gathering),
			against("1 KiB: Agrona in C, gathering", stream(1<<10), agrona, rate(0.9, 1), gathering),
			against("16 KiB: Agrona in C, gathering", stream(16<<10), agrona, rate(0.9, 1), gathering),
		}},
		{"1c", "64 B in batches of 32", []contest{
			against("Agrona in C, gathering, one by one", batch, agrona, rate(1.2, 0), gathering),
			against("fixed slots in C, gathering, one by one", batch, slots, rate(0, 1.3), gathering),
		}},
		{"2", "busy round trip", []contest{
			against("64 B: Agrona in C", busy, agrona, trips(1.3, 1, 1.3, 1)),
			against("64 B: fixed slots in C", busy, slots, trips(0, 0, 0, 0)),
			against("48 B: two cache lines", small, floors, trips(0, 1.4, 0, 0), job("lines")),
		}},
		{"3", "streams of 64 B, several producers", []contest{
			against("2: Agrona in C, gathering", many(2), agrona, rate(0.8, 1), gathering),
			against("4: Agrona in C, gathering", many(4), agrona, rate(0.8, 1), gathering),
		}},
		{"3b", "claims by two producers on two processors, nobody reading", []contest{
			against("Agrona in C", claims, agrona, cost(1.3, 1)),
		}},
		crowds(),
		{"4", "asleep round trip of 64 B, the ring in thrift mode", []contest{
			against("two processors: raw futex in C", asleep, floors, trips(1.1, 1, 0, 0), job("futex")),
			against("two processors: unix socket", asleep, "unix", trips(0.9, 0.75, 0, 0)),
			against("two processors: unix socket in C", asleep, floors, trips(0, 0, 0, 0), job("unix")),
			against("one processor: raw futex in C", oneCore, floors, trips(1.1, 1, 0, 0), job("futex")),
			against("one processor: unix socket", oneCore, "unix", trips(0.9, 0.75, 0, 0)),
		}},
		{"4b", "1,000 messages a second, paced", []contest{
			paced("thrift mode: unix socket", 1e3, waitThrift, 0.9, 0, 1, 0.8),
			paced("latency mode: unix socket", 1e3, waitLatency, 0.25, 0, 0, 0),
			paced("default: unix socket", 1e3, waitDefault, 0, 0, 0, 0),
		}},
		{"4c", "100,000 messages a second, paced", []contest{
			paced("default: unix socket", 1e5, waitDefault, 0.5, 0.1, 0.7, 0),
		}},
		{"5", "cost of a send of 64 B while the consumer drains", []contest{
			against("Agrona in C", spec{kind: kindBurst, via: "ring"}, agrona, cost(1.2, 1)),
		}},
	}
	return append(lines, walks()...)
}

func paced(what string, perSecond float64, wait string, p50, p50Goal, cpu, cpuGoal float64) contest {
	c := against(what, spec{kind: kindPaced, via: "ring", wait: wait, rate: perSecond}, "unix",
		[]metric{{key: "p50", must: p50, goal: p50Goal}, {key: "cpu", must: cpu, goal: cpuGoal}})
	c.each, c.pairs = pacedTime, peerPairs
	if perSecond <= 1e3 {
		c.each = slowTime
	}
	return c
}

// crowds compare the ring with itself at two producers.
func crowds() line {
	l := line{name: "3c", title: "many producers, against two"}
	two := spec{kind: kindCrowd, via: "ring", senders: 2, seconds: 1}
	for _, n := range []int{8, 64, 255} {
		two := two
		if n == 255 {
			two.seconds = severalTurns
		}
		s := two
		s.senders = n
		l.contests = append(l.contests, contest{what: fmt.Sprintf("%d: rate", n), ours: s, theirs: two, metrics: rate(0.5, 0.7), pairs: crowdPairs})
		s.seconds = longCrowd
		l.contests = append(l.contests, contest{
			what: fmt.Sprintf("%d: smallest share by largest, 10 s", n), ours: s, theirs: two, pairs: sharePairs,
			metrics: []metric{{key: "share", absolute: true, must: 0.25, goal: 0.5}},
		})
	}
	return l
}

// others is the ring beside what a Go program would use instead.
func others() []line {
	var lines []line
	batches := map[string]bool{"unix": true, "pipe": true, "shmipc": true, "zmq": true}
	for _, name := range append(peerNames(), "channel") {
		if name == "ring" || name == "cheat" {
			continue
		}
		l := line{name: name, title: titleOf(name)}
		add := func(id, what string, ours spec, m []metric) {
			c := against(what, ours, name, m)
			c.id, c.pairs = name+"/"+id, peerPairs
			l.contests = append(l.contests, c)
		}
		for _, size := range []int{64, 1 << 10, 16 << 10} {
			if p := peers[name]; p == nil || p.most == 0 || p.most >= size {
				add(fmt.Sprintf("stream-%d", size), "stream of "+bytesText(size), stream(size), rate(0, 0))
			}
		}
		if batches[name] {
			ours := stream(64)
			ours.batch = 32
			add("batch-64", "64 B in batches of 32", ours, rate(0, 0))
		}
		add("trip-64", "round trip of 64 B", spec{kind: kindTrip, via: "ring"}, trips(0, 0, 0, 0))
		lines = append(lines, l)
	}
	return lines
}

// plan numbers the contests of all lines that are wanted: names of lines, with
// or without the contest's, separated by commas. None means all.
func plan(wanted string) []line {
	var lines []line
	for _, l := range append(rings(), others()...) {
		kept := l
		kept.contests = nil
		for i, c := range l.contests {
			if c.id == "" {
				c.id = fmt.Sprintf("%s/%d", l.name, i+1)
			}
			if chosen(wanted, l.name, c.id) {
				kept.contests = append(kept.contests, c)
			}
		}
		if len(kept.contests) > 0 {
			lines = append(lines, kept)
		}
	}
	return lines
}

func chosen(wanted, lineName, id string) bool {
	if wanted == "" {
		return true
	}
	for _, w := range strings.Split(wanted, ",") {
		switch {
		case w == lineName || w == id:
			return true
		case w == "c" && lineName[0] <= '9', w == "peers" && lineName[0] > '9':
			return true
		}
	}
	return false
}

func titleOf(via string) string {
	if via == "channel" {
		return "Go channel, one process"
	}
	if p := peers[via]; p != nil {
		return p.title
	}
	return via
}

func bytesText(n int) string {
	if n >= 1<<10 && n%(1<<10) == 0 {
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}
