package stress

// Seat is who sat at one of the fleet's places, and when.
type Seat struct {
	Stays  []Stay  `json:"stays"`
	Pauses []Pause `json:"pauses"`
	// Sums of these, whatever was joined.
	Workers       int    `json:"workers"`
	Sent          uint64 `json:"sent"`
	Killed        int    `json:"killed"`
	KilledInClaim int    `json:"killed_in_claim"`
	Stopped       int    `json:"stopped"`
	StoppedFor    int64  `json:"stopped_for_ns"`

	open bool // the last stay has not ended
}

// Stay is the time that one worker had, from its launch to its end. Where there are too many, a stay is of several, one after
// the other, and of the time between them.
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

// staysMost is how many stays there are of all seats, and staysLeast those of a seat in any case.
const (
	staysMost  = 1200
	staysLeast = 8
)

// came, killed, left and stopped tell of a worker. They are called from different goroutines: who was killed may have
// left before the killer says so.

func (rec *recorder) came(m *member) {
	rec.at(m, func(s *Seat, most int) {
		if len(s.Stays) >= most {
			s.Stays = halve(s.Stays, joinStays)
		}
		s.Stays = append(s.Stays, Stay{Workers: 1, Incarnation: m.incarnation, PID: m.worker.PID(), From: rec.time()})
		s.Workers++
		s.open = true
	})
}

func (rec *recorder) killed(m *member, inClaim bool) {
	rec.at(m, func(s *Seat, _ int) {
		its := len(s.Stays) - 1
		for its > 0 && s.Stays[its].Incarnation > m.incarnation {
			its-- // the next one has come meanwhile
		}
		s.Stays[its].Killed++
		s.Killed++
		if inClaim {
			s.Stays[its].KilledInClaim++
			s.KilledInClaim++
		}
	})
}

func (rec *recorder) left(m *member) {
	rec.at(m, func(s *Seat, _ int) {
		to := rec.time()
		if at := m.killedAt.Load(); at != 0 {
			to = at - rec.run.began
		}
		sent := m.diary.page.sent.Load()
		s.leave(to, sent)
		s.Sent += sent
	})
}

func (s *Seat) leave(to int64, sent uint64) {
	last := &s.Stays[len(s.Stays)-1]
	last.To, last.Sent = max(to, last.From), sent
	last.Alive = last.To - last.From
	s.open = false
}

func (rec *recorder) stopped(m *member, from, to int64) {
	rec.at(m, func(s *Seat, most int) {
		if len(s.Pauses) >= most {
			s.Pauses = halve(s.Pauses, joinPauses)
		}
		s.Pauses = append(s.Pauses, Pause{From: from - rec.run.began, To: to - rec.run.began, Stops: 1, Stopped: to - from})
		s.Stopped++
		s.StoppedFor += to - from
	})
}

// at has fn write to m's seat, which may have so many stays, and pauses.
func (rec *recorder) at(m *member, fn func(s *Seat, most int)) {
	if rec == nil {
		return
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if !rec.over {
		fn(&rec.line.Seats[m.seat], max(staysLeast, staysMost/len(rec.line.Seats)))
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
