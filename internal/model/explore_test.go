package model

import "testing"

// TestHashesLoseNothing explores by value, and must find as many states as Explore, which knows them by their hashes.
func TestHashesLoseNothing(t *testing.T) {
	for _, c := range []Config{
		{Name: "kills", Scripts: []Script{Sends(2, 1), Sends(2, 2)}, Start: 3, Batch: 1, Kills: 1},
		{Name: "room", Room: true, Timeouts: true, Scripts: []Script{Sends(2), Sends(3)}, Kills: 1, Rebirths: 1},
		{Name: "bell, store buffers", Bell: true, Buffers: 2, Commit: ByStore, Scripts: []Script{Sends(1), Sends(1)}},
	} {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			m := newModel(c)
			seen := map[state]bool{m.begin(): true}
			edges, events := 0, 0
			for work := []state{m.begin()}; len(work) > 0; {
				s := work[len(work)-1]
				work = work[:len(work)-1]
				m.successors(&s, func(n *state, how transition) {
					if !seen[*n] {
						seen[*n] = true
						work = append(work, *n)
					}
					if how.kind == event {
						events++
					} else {
						edges++
					}
				})
			}
			r := Explore(c, maxStates)
			t.Log(r)
			if r.States != len(seen) || r.Edges != edges || r.Events != events {
				t.Errorf("by value %d states, %d edges, %d events", len(seen), edges, events)
			}
		})
	}
}
