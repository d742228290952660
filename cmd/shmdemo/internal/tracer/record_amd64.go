package tracer

import "fmt"

// maxSteps bounds a record.
const maxSteps = 20_000_000

// Record executes the operation from Begin to End by single steps, and returns its points.
func (v *Victim) Record(onBlocked func() error) (Trace, error) {
	if err := v.leaveBegin(); err != nil {
		return Trace{}, err
	}
	r := recorder{in: glue, t: v.t, hits: map[uintptr]int{}, series: map[place]*series{}}
	slept := false
	wake := v.waker(onBlocked)
	asleep := func(s sleeping) (bool, error) {
		slept = true
		return wake(s)
	}
	for r.steps < maxSteps {
		regs, err := v.registers()
		if err != nil {
			return Trace{}, err
		}
		pc := v.here(regs.Rip)
		switch pc {
		case v.t.end:
			return r.trace(), v.passMarker(0)
		case v.t.begin:
			return Trace{}, fmt.Errorf("tracer: victim %d came to Begin inside of an operation", v.PID)
		}
		s := v.t.at(pc)
		fresh := r.visit(pc, s)
		call, err := v.isSyscall(pc, s)
		if err != nil {
			return Trace{}, err
		}
		slept = false
		if call && fresh {
			r.enter(int(regs.Rax), s)
		}
		if err := v.step(asleep); err != nil {
			return Trace{}, err
		}
		if call && slept {
			r.sleep(s)
		}
	}
	return Trace{}, fmt.Errorf("tracer: victim %d did not come to End within %d instructions", v.PID, maxSteps)
}

// A recorder makes points of a sequence of addresses.
type recorder struct {
	t       *Tracer
	hits    map[uintptr]int // how often each address came
	steps   int
	last    uintptr // address
	entered bool    // last is a SYSCALL that was executed
	call    int     // its number
	in      class   // inside, glue, or outside as called from inside
	site    uintptr // the last address inside, 0 in glue and what glue calls
	series  map[place]*series
	order   []place // as first seen
}

// series is at which passes of its address a place was come to.
type series struct{ count, first, second, last int }

// visit takes note of the next instruction. It returns false if that is the last one again: one that
// repeats itself (REP), or a syscall that is restarted.
func (r *recorder) visit(pc uintptr, s *spot) bool {
	if r.steps > 0 && pc == r.last {
		return false
	}
	r.steps++
	r.hits[pc]++
	if r.entered && s.function != "" {
		r.note(place{pc, r.site, SyscallExit, r.call})
	}
	r.entered, r.last = false, pc
	switch {
	case s.class == inside:
		r.in, r.site = inside, pc
		r.note(place{pc: pc, kind: Instruction})
	case s.class == memory && r.in == inside:
		r.note(place{pc: pc, kind: Instruction})
	case s.class == glue:
		r.in, r.site = glue, 0
	case r.in == inside:
		r.in = outside
		if s.function != "" {
			r.note(place{pc: pc, site: r.site, kind: Library})
		}
	}
	return true
}

// enter takes note that the instruction visited last is a SYSCALL.
func (r *recorder) enter(number int, s *spot) {
	r.entered, r.call = true, number
	if s.function != "" { // the vDSO is elsewhere in each process
		r.note(place{r.last, r.site, SyscallEntry, number})
	}
}

// sleep takes note that this SYSCALL slept.
func (r *recorder) sleep(s *spot) {
	if s.function != "" {
		r.note(place{r.last, r.site, InSyscall, r.call})
	}
}

func (r *recorder) note(at place) {
	pass := r.hits[at.pc]
	s := r.series[at]
	if s == nil {
		s = &series{first: pass}
		r.series[at] = s
		r.order = append(r.order, at)
	}
	if s.last == pass {
		return // a syscall that slept twice, as it was restarted
	}
	if s.count++; s.count == 2 {
		s.second = pass
	}
	s.last = pass
}

// trace returns the first, second and last pass of each place.
func (r *recorder) trace() Trace {
	trace := Trace{Steps: r.steps, Distinct: len(r.hits)}
	for _, at := range r.order {
		s := r.series[at]
		spot := r.t.at(at.pc)
		p := Point{PC: at.pc, Passes: r.hits[at.pc], Kind: at.kind, Syscall: at.syscall, Site: at.site,
			Function: spot.function, File: spot.file, Line: spot.line, Offset: spot.offset}
		if at.site != 0 {
			p.From = r.t.at(at.site).String()
		}
		for i, pass := range []int{s.first, s.second, s.last} {
			if i < min(s.count, 3) && (i < 2 || s.count > 2) {
				p.Pass, p.Last = pass, pass == s.last
				trace.Points = append(trace.Points, p)
			}
		}
	}
	return trace
}
