package main

import (
	"github.com/shmrouter/shmrouter/internal/inspect"
)

// follower looks at a name again and again, also when another file gets it: the main process was started anew.
type follower struct {
	segment *inspect.Segment
	watch   *inspect.Watch
	lost    bool // at the last look the name led to no segment
}

// follow begins. The segment is the follower's from now on.
func follow(s *inspect.Segment) *follower { return &follower{segment: s, watch: inspect.NewWatch(s)} }

func (f *follower) close() { f.segment.Close() }

// look takes a picture. Where the name leads elsewhere since the last look, a note says so.
func (f *follower) look() (*inspect.Snapshot, error) {
	note := ""
	if f.lost = f.segment.Lost(); f.lost {
		s, err := inspect.Open(f.segment.Name)
		switch {
		case err == nil:
			f.close()
			*f = *follow(s)
			note = "another file has this name since the last look: it is this one"
		case gone(err):
			note = "the name leads to nothing any more: this is what is left of the file that had it"
		default:
			note = "the name leads to another file, and this is the one that had it: " + err.Error()
		}
	}
	p, err := f.watch.Next()
	if err == nil && note != "" {
		p.Notes = append(p.Notes, note)
	}
	return p, err
}

// group follows everything that was asked for; where that is all, also what comes while it looks.
type group struct {
	env   *env
	asked []string
	by    map[string]*follower
	told  map[string]bool // what could not be looked at
}

func newGroup(e *env, asked []string) *group {
	return &group{env: e, asked: asked, by: map[string]*follower{}, told: map[string]bool{}}
}

func (g *group) close() {
	for _, f := range g.by {
		f.close()
	}
}

// look takes a picture of each. What cannot be looked at is a problem, told once.
func (g *group) look(keep bool) (pictures []*inspect.Snapshot, problems []problem, err error) {
	pictures, problems = []*inspect.Snapshot{}, []problem{}
	trouble := func(name string, err error) {
		if !g.told[name+err.Error()] {
			g.told[name+err.Error()] = true
			problems = append(problems, problem{name, err.Error()})
		}
	}
	for name, f := range g.by {
		if all(g.asked) && f.segment.Lost() { // found anew, if it is anything
			f.close()
			delete(g.by, name)
		}
	}
	for _, name := range g.env.names(g.asked) {
		f := g.by[name]
		if f == nil {
			s, err := inspect.Open(name)
			if isUsage(err) {
				return nil, nil, err
			}
			if err != nil {
				if !all(g.asked) || !gone(err) {
					trouble(name, err)
				}
				continue
			}
			f = follow(s)
			g.by[name] = f
		}
		p, err := f.look()
		if err != nil {
			trouble(name, err)
		} else {
			pictures = append(pictures, p)
		}
		if !keep {
			f.close()
			delete(g.by, name)
		}
	}
	return pictures, problems, nil
}

// lost tells whether something that was asked for was not there at the last look.
func (g *group) lost() bool {
	for _, f := range g.by {
		if f.lost && !all(g.asked) {
			return true
		}
	}
	return false
}
