package stress

import "time"

// Seat is who sat at one of the fleet's places, and when.
type Seat struct {
	Stays  []Stay  `json:"stays"`
	Pauses []Pause `json:"pauses"`
	Kills  []Kill  `json:"kills"`
	// Sums of these, whatever was joined.
	Workers       int    `json:"workers"`
	Sent          uint64 `json:"sent"`
	Killed        int    `json:"killed"`
	KilledInClaim int    `json:"killed_in_claim"`
	Stopped       int    `json:"stopped"`
	StoppedFor    int64  `json:"stopped_for_ns"`

	open bool // the last stay has not ended
}

// Stay is the time that one worker had, from its launch to its end. Where there are too many, those that are short are joined to
// the next ones, throughout the run and at all seats alike: a stay is then of several workers, and of the time between them.
type Stay struct {
	Workers       int    `json:"workers"`
	Incarnation   int    `json:"incarnation"` // of the first
	PID           int    `json:"pid"`         // likewise
	From          int64  `json:"from_ns"`
	To            int64  `json:"to_ns"`
	Alive         int64  `json:"alive_ns"`
	Sent          uint64 `json:"sent"`
	Killed        int    `json:"killed"`
	KilledInClaim int    `json:"killed_in_claim"`
}

// Pause is a time for which a worker was stopped, or, where there are too many, several, and the time between them.
type Pause struct {
	From    int64 `json:"from_ns"`
	To      int64 `json:"to_ns"`
	Stops   int   `json:"stops"`
	Stopped int64 `json:"stopped_ns"`
}

// Kill is a moment in which workers were killed: one, or, where there are too many, those of a few milliseconds.
type Kill struct {
	At      int64 `json:"at_ns"`
	Killed  int   `json:"killed"`
	InClaim int   `json:"in_claim"`
}

// killsMost is how many moments there are of all seats, and killsLeast those of a seat in any case: so many that on a
// drawing each is where it was.
const (
	killsMost  = 4000
	killsLeast = 32
)

// addKill keeps the moments of a seat in order, of which none lie in the same grain of time.
func (rec *recorder) addKill(s *Seat, k Kill) {
	if len(s.Kills) >= max(killsLeast, killsMost/len(rec.line.Seats)) {
		rec.killGrain = 2 * max(rec.killGrain, int64(time.Millisecond)/2)
		for i := range rec.line.Seats {
			seat := &rec.line.Seats[i]
			all := seat.Kills
			seat.Kills = nil
			for _, k := range all {
				rec.addKill(seat, k)
			}
		}
		rec.addKill(s, k)
		return
	}
	if n := len(s.Kills); n > 0 && rec.killGrain > 0 && s.Kills[n-1].At/rec.killGrain == k.At/rec.killGrain {
		s.Kills[n-1].Killed += k.Killed
		s.Kills[n-1].InClaim += k.InClaim
		return
	}
	s.Kills = append(s.Kills, k)
}

// staysMost is how many stays there are of all seats, and staysLeast those of a seat in any case.
const (
	staysMost  = 800
	staysLeast = 8
)

// most is how many stays, and pauses, a seat may have.
func (rec *recorder) most() int { return max(staysLeast, staysMost/len(rec.line.Seats)) }

// stretch is what stays and pauses have in common.
type stretch interface{ length() int64 }

func (s Stay) length() int64  { return s.To - s.From }
func (p Pause) length() int64 { return p.To - p.From }

// gather joins what is shorter than grain to what follows. What lies in the same time is treated alike, be it old or new.
func gather[T stretch](all []T, grain int64, join func(a, b T) T) []T {
	few := all[:0]
	for _, one := range all {
		if n := len(few); n > 0 && few[n-1].length() < grain {
			few[n-1] = join(few[n-1], one)
		} else {
			few = append(few, one)
		}
	}
	return few
}

// coarser returns a grain with which at most half as many fit into the time up to now.
func (rec *recorder) coarser() int64 { return 2 * rec.time() / int64(rec.most()-2) }

// gatherStays makes room at all seats. Whoever still sits there stays apart.
func (rec *recorder) gatherStays() {
	for i := range rec.line.Seats {
		s := &rec.line.Seats[i]
		closed, open := s.Stays, []Stay(nil)
		if s.open {
			closed, open = s.Stays[:len(s.Stays)-1], []Stay{s.Stays[len(s.Stays)-1]}
		}
		s.Stays = append(gather(closed, rec.stayGrain, joinStays), open...)
	}
}

// came, killed, left and stopped tell of a worker. They are called from different goroutines: who was killed may have
// left before the killer says so.

func (rec *recorder) came(m *member) {
	rec.at(m, func(s *Seat) {
		if len(s.Stays) >= rec.most() {
			rec.stayGrain = rec.coarser()
			rec.gatherStays()
		}
		s.Stays = append(s.Stays, Stay{Workers: 1, Incarnation: m.incarnation, PID: m.worker.PID(), From: rec.time()})
		s.Workers++
		s.open = true
	})
}

func (rec *recorder) killed(m *member, inClaim bool) {
	rec.at(m, func(s *Seat) {
		its := len(s.Stays) - 1
		for its > 0 && s.Stays[its].Incarnation > m.incarnation {
			its-- // the next one has come meanwhile
		}
		kill := Kill{At: m.killedAt.Load() - rec.run.began, Killed: 1}
		s.Stays[its].Killed++
		s.Killed++
		if inClaim {
			kill.InClaim = 1
			s.Stays[its].KilledInClaim++
			s.KilledInClaim++
		}
		rec.addKill(s, kill)
	})
}

func (rec *recorder) left(m *member) {
	rec.at(m, func(s *Seat) {
		to := rec.time()
		if at := m.killedAt.Load(); at != 0 {
			to = at - rec.run.began
		}
		sent := m.diary.page.sent.Load()
		s.leave(to, sent)
		s.Sent += sent
		if n := len(s.Stays); n > 1 {
			s.Stays = append(s.Stays[:n-2], gather(s.Stays[n-2:], rec.stayGrain, joinStays)...)
		}
	})
}

func (s *Seat) leave(to int64, sent uint64) {
	last := &s.Stays[len(s.Stays)-1]
	last.To, last.Sent = max(to, last.From), sent
	last.Alive = last.To - last.From
	s.open = false
}

func (rec *recorder) stopped(m *member, from, to int64) {
	rec.at(m, func(s *Seat) {
		if len(s.Pauses) >= rec.most() {
			rec.pauseGrain = rec.coarser()
			for i := range rec.line.Seats {
				all := &rec.line.Seats[i].Pauses
				*all = gather(*all, rec.pauseGrain, joinPauses)
			}
		}
		s.Pauses = append(s.Pauses, Pause{From: from - rec.run.began, To: to - rec.run.began, Stops: 1, Stopped: to - from})
		if n := len(s.Pauses); n > 1 {
			s.Pauses = append(s.Pauses[:n-2], gather(s.Pauses[n-2:], rec.pauseGrain, joinPauses)...)
		}
		s.Stopped++
		s.StoppedFor += to - from
	})
}

// at has fn write to m's seat.
func (rec *recorder) at(m *member, fn func(s *Seat)) {
	if rec == nil {
		return
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if !rec.over {
		fn(&rec.line.Seats[m.seat])
	}
}

// finish ends the stay of who is still there, when a run is given up.
func (s *Seat) finish(now int64) {
	if s.open {
		s.leave(now, 0)
	}
	if s.Stays == nil {
		s.Stays = []Stay{} // a list, also in JSON
	}
	if s.Pauses == nil {
		s.Pauses = []Pause{}
	}
	if s.Kills == nil {
		s.Kills = []Kill{}
	}
}

func joinStays(a, b Stay) Stay {
	a.To = b.To
	a.Workers += b.Workers
	a.Alive += b.Alive
	a.Sent += b.Sent
	a.Killed += b.Killed
	a.KilledInClaim += b.KilledInClaim
	return a
}

func joinPauses(a, b Pause) Pause {
	a.To = b.To
	a.Stops += b.Stops
	a.Stopped += b.Stopped
	return a
}
