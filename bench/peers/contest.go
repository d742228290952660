package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/shmrouter/shmrouter/bench"
)

// A contest is one question: ours against theirs, by one or more figures.
type contest struct {
	id      string
	what    string // to print
	ours    spec
	theirs  spec
	metrics []metric
	each    time.Duration // of a run
	pairs   int           // at most, 0 for as many as the command says
}

// metric says how to compare one figure of both sides. Must and goal are
// bounds of the ratio, 0 for none.
type metric struct {
	key        string
	rate       bool // the ratio is of messages per second, theirs' time by ours; else of the figures, ours by theirs
	absolute   bool // the figure of ours alone
	most       bool // and the bounds are upper ones
	must, goal float64
}

// larger says that larger is better.
func (m metric) larger() bool { return m.rate || m.absolute && !m.most }

// keeps reports whether a ratio keeps a bound.
func (m metric) keeps(ratio, bound float64) bool {
	if m.larger() {
		return ratio >= bound
	}
	return ratio <= bound
}

func (m metric) ratio(p pair) float64 {
	switch {
	case m.absolute:
		return p.Ours[m.key]
	case m.rate:
		return p.Theirs[m.key] / p.Ours[m.key]
	}
	return p.Ours[m.key] / p.Theirs[m.key]
}

// pair is both runs, one after the other, with the floor before, between and
// after.
type pair struct {
	Ours, Theirs measure
	Floor        [3]float64
}

// The states of a pair: how far apart the two processors were, by the round
// trip of two cache lines in ns.
const (
	stateNear     = "near"      // two cores that share a cache
	stateFar      = "far"       // two that do not, or a virtual machine that makes it long
	stateSameCore = "same core" // two threads of one core
	stateMixed    = "mixed"     // not the same before, between and after
	stateSingle   = "one processor"

	nearFrom, farFrom = 90, 250
)

var states = []string{stateNear, stateFar, stateSameCore, stateMixed, stateSingle}

func stateOf(floor float64) string {
	switch {
	case floor == 0:
		return stateSingle
	case floor < nearFrom:
		return stateSameCore
	case floor < farFrom:
		return stateNear
	}
	return stateFar
}

func (p pair) state() string {
	s := stateOf(p.Floor[0])
	for _, f := range p.Floor[1:] {
		if stateOf(f) != s {
			return stateMixed
		}
	}
	return s
}

// enoughNear is the number of near pairs that stand for the whole.
const enoughNear = 9

// limits say how long a contest goes on.
type limits struct {
	near   int           // stop at so many near pairs
	pairs  int           // and at so many in all
	each   time.Duration // of a run, instead of the contest's own
	crowd  float64       // part of their time for runs by the clock, 0 for all
	verify uint64        // messages in the run that compares all content
}

// hold runs a contest to its end.
func (s *stage) hold(c contest, lim limits) (result, error) {
	c.ours, c.theirs = c.ours.withDefaults(), c.theirs.withDefaults()
	s.clear([]spec{c.ours, c.theirs})
	res := result{contest: c}
	if c.pairs > 0 {
		lim.pairs = min(lim.pairs, c.pairs)
	}
	each := lim.each
	if c.each > 0 && each == 0 {
		each = c.each
	}
	var sides [2]side
	var n [2]uint64
	specs := [2]spec{c.ours, c.theirs}
	for i := range specs {
		if lim.crowd > 0 {
			specs[i].seconds *= lim.crowd
		}
	}
	for i, sp := range specs {
		var err error
		if sides[i], err = s.side(sp); err == nil {
			if err = verified(sides[i], sp, lim.verify); err == nil {
				n[i], err = enough(sides[i], sp, each)
			}
		}
		if err != nil {
			s.forget(sp)
			return res, fmt.Errorf("%s: %w", sp.via, err)
		}
	}
	for near := 0; near < lim.near && len(res.pairs) < lim.pairs && s.ctx.Err() == nil; {
		p, err := s.pair(sides, n, len(res.pairs)%2)
		if err != nil {
			s.forget(c.ours)
			s.forget(c.theirs)
			return res, err
		}
		res.pairs = append(res.pairs, p)
		if p.state() == stateNear {
			near++
		}
	}
	return res, nil
}

// pair begins with either side in turn, so that what the first does to the
// machine does not always meet the same one.
func (s *stage) pair(sides [2]side, n [2]uint64, first int) (p pair, err error) {
	var m [2]measure
	var errs [5]error
	p.Floor[0], errs[0] = s.gauge.Floor()
	m[first], errs[1] = sides[first].run(n[first], false)
	p.Floor[1], errs[2] = s.gauge.Floor()
	m[1-first], errs[3] = sides[1-first].run(n[1-first], false)
	p.Floor[2], errs[4] = s.gauge.Floor()
	p.Ours, p.Theirs = m[0], m[1]
	return p, errors.Join(errs[:]...)
}

// result is a contest with its answers.
type result struct {
	contest
	pairs   []pair
	skipped string // why there are none
}

// summary of one metric in the pairs of one state.
type summary struct {
	State               string
	Ratio, Ours, Theirs bench.Spread
}

// summaries are of near pairs only where those are enough; else of every state
// that occurred, commonest first.
func (r result) summaries(m metric, wantNear int) []summary {
	by := map[string][]pair{}
	for _, p := range r.pairs {
		by[p.state()] = append(by[p.state()], p)
	}
	if len(by[stateNear]) >= wantNear {
		return []summary{summarise(stateNear, by[stateNear], m)}
	}
	var all []summary
	for _, state := range states {
		if len(by[state]) > 0 {
			all = append(all, summarise(state, by[state], m))
		}
	}
	for i := range all { // few, so simply
		for k := i + 1; k < len(all); k++ {
			if all[k].Ratio.N > all[i].Ratio.N {
				all[i], all[k] = all[k], all[i]
			}
		}
	}
	return all
}

func summarise(state string, pairs []pair, m metric) summary {
	var ratio, ours, theirs []float64
	for _, p := range pairs {
		ratio = append(ratio, m.ratio(p))
		ours = append(ours, p.Ours[m.key])
		theirs = append(theirs, p.Theirs[m.key])
	}
	return summary{state, bench.SpreadOf(ratio), bench.SpreadOf(ours), bench.SpreadOf(theirs)}
}

// floors of all pairs.
func (r result) floors() bench.Spread {
	var all []float64
	for _, p := range r.pairs {
		all = append(all, p.Floor[:]...)
	}
	return bench.SpreadOf(all)
}
