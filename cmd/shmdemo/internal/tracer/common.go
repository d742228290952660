package tracer

import (
	"maps"
	"math"
	"slices"
)

// Common returns the points that all of the traces have, for records of one operation in equal
// states: what only one of them saw, another run will not come to either. Where the number of
// passes differs, the last pass is the smallest of them. What was left out is in Dropped.
func Common(traces ...Trace) Trace {
	if len(traces) == 0 {
		return Trace{}
	}
	common := traces[0]
	common.Points, common.Dropped = nil, nil
	all := make([]map[place][]Point, len(traces))
	for i, t := range traces {
		all[i] = byPlace(t.Points)
		common.Distinct = min(common.Distinct, t.Distinct)
		common.Steps = min(common.Steps, t.Steps)
	}
	done := map[place]bool{}
	for _, t := range traces {
		common.Dropped = append(common.Dropped, t.Dropped...)
		for _, p := range t.Points {
			at := p.place()
			if done[at] {
				continue
			}
			done[at] = true
			kept, dropped := commonAt(at, all)
			common.Points = append(common.Points, kept...)
			common.Dropped = append(common.Dropped, dropped...)
		}
	}
	return common
}

// place is what a point is, apart from its pass.
type place struct {
	pc, site uintptr
	kind     Kind
	syscall  int
}

func (p Point) place() place { return place{p.PC, p.Site, p.Kind, p.Syscall} }

func byPlace(points []Point) map[place][]Point {
	m := map[place][]Point{}
	for _, p := range points {
		m[p.place()] = append(m[p.place()], p)
	}
	return m
}

// commonAt returns the points of one place, by rising pass, that are in all traces.
func commonAt(at place, all []map[place][]Point) (kept, dropped []Point) {
	traces := map[int]int{} // pass → how many have it
	points := map[int]Point{}
	last := math.MaxInt
	for _, m := range all {
		least := 0
		for _, p := range m[at] {
			traces[p.Pass]++
			points[p.Pass] = p
			least = max(least, p.Pass)
		}
		last = min(last, least)
	}
	for _, pass := range slices.Sorted(maps.Keys(points)) {
		p := points[pass]
		p.Last = pass == last
		switch {
		case last == 0:
			dropped = append(dropped, p)
		// What comes to an instruction n times has come to it fewer times before. What else stands at
		// an address may differ from one pass to the next: there all must agree.
		case at.kind == Instruction && pass <= last, traces[pass] == len(all):
			kept = append(kept, p)
		case at.kind == Instruction: // the smaller last pass stands for this one
		default:
			dropped = append(dropped, p)
		}
	}
	return kept, dropped
}
