package model

import "fmt"

// progress checks that a drained state can be reached from every state by steps alone, or by steps and timeouts where
// the run has them: no kill is needed, no new process, no new consumer. Where it has none, a state that fails is a lost
// wake or a deadlock; where it has, something is left for good.
func (x *explorer) progress() *Violation {
	n := x.seen.n
	at := make([]uint32, n+1) // the edges turned round: at[k] is where those into k begin
	for _, to := range x.edges {
		at[to]++
	}
	var sum uint32
	for k := range at {
		at[k], sum = sum, sum+at[k]
	}
	from := make([]uint32, len(x.edges))
	for k := range n {
		for _, to := range x.edges[x.first[k]:x.first[k+1]] {
			from[at[to]] = k
			at[to]++
		}
	}
	reaches := make([]bool, n)
	work := x.drains
	for _, k := range work {
		reaches[k] = true
	}
	for len(work) > 0 {
		k := work[len(work)-1]
		work = work[:len(work)-1]
		begin := uint32(0)
		if k > 0 {
			begin = at[k-1] // at has moved on by one record
		}
		for _, j := range from[begin:at[k]] {
			if !reaches[j] {
				reaches[j] = true
				work = append(work, j)
			}
		}
	}
	return x.judge(reaches)
}

// judge reports the states that cannot drain, by the first one in which nobody has a step left, if there is one.
func (x *explorer) judge(reaches []bool) *Violation {
	stuck, worst := 0, -1
	halted := false
	for k := range reaches {
		if reaches[k] {
			continue
		}
		stuck++
		if halts := x.first[k] == x.first[k+1]; worst < 0 || halts && !halted {
			worst, halted = k, halts
		}
	}
	if stuck == 0 {
		return nil
	}
	v := &Violation{Kind: Stuck, Stuck: stuck, Trace: x.trace(uint32(worst))}
	if (x.m.Bell || x.m.Room) && !x.m.Timeouts && halted {
		v.Kind = LostWake
	}
	v.Text = fmt.Sprintf("%d states never drain", stuck)
	return v
}

// trace tells the way from the beginning to state k, and what is tried there if that is what went wrong. States are
// not kept, so the way is gone once more.
func (x *explorer) trace(k uint32) []string {
	var path []uint32
	for j := k; j != 0; j = x.parent[j] {
		path = append(path, j)
	}
	fault := x.m.fault
	x.m.fault = nil // with one, a step may end early
	var lines []string
	at := x.m.begin()
	for i := len(path) - 1; i >= 0; i-- {
		line, next := x.step(&at, path[i])
		lines = append(lines, line)
		at = next
	}
	if fault != nil {
		lines = append(lines, x.m.faulty(&at)...)
	}
	x.m.fault = fault
	return lines
}

// step finds the transition that leads from a state to the one numbered to.
func (x *explorer) step(from *state, to uint32) (line string, next state) {
	x.m.successors(from, func(n *state, how transition) {
		if line != "" {
			return
		}
		if id, _ := x.seen.add(n); id == to {
			line, next = how.String()+"  ->  "+n.describe(x.m), *n
		}
	})
	return line, next
}

// faulty names the transitions from s that break something.
func (m *model) faulty(s *state) (lines []string) {
	m.fault = nil
	m.successors(s, func(n *state, how transition) {
		if m.fault == nil {
			m.invariants(n)
		}
		if m.fault != nil {
			lines = append(lines, how.String()+"  ->  "+m.fault.String())
		}
		m.fault = nil
	})
	return lines
}

func (t transition) String() string {
	who := [...]string{"reader", "asker", "consumer"}
	if t.actor < 0 {
		return who[t.actor+len(who)] + ": " + t.what.String()
	}
	return fmt.Sprintf("claimant %d: %s", t.actor, t.what)
}
