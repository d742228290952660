package inspect

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// Snapshot is a picture of a segment. Its parts are read one after the other: Positions.Moved says how far the
// ring went on meanwhile. Figures of slots and consumer are what these published last: a producer when the ring has gone on
// by 256 granules, a consumer before it sleeps and every 4096 polls.
type Snapshot struct {
	Segment  string    `json:"segment"` // as it was asked for
	Path     string    `json:"path"`    // "" for a file without one
	Kind     string    `json:"kind"`    // memfd or file
	File     string    `json:"file"`    // device and inode number
	Identity string    `json:"identity"`
	Created  time.Time `json:"created"`
	Taken    time.Time `json:"taken"`
	State    State     `json:"state"`

	Geometry  Geometry  `json:"geometry"`
	Positions Positions `json:"positions"`
	Consumer  Consumer  `json:"consumer"`
	Room      Room      `json:"room"`
	Claims    Claims    `json:"claims"`
	Slots     []Slot    `json:"slots"`  // those that were ever held
	Router    *Router   `json:"router"` // nil for a ring used without one
	Notes     []string  `json:"notes"`

	Rates *Rates `json:"rates"` // nil in a first picture

	at int64 // shm.Now
}

// maxClaims is how many records from head on are looked at for claims: a full ring of small ones has many more,
// and each look should cost the same.
const maxClaims = 1 << 16

// Snapshot takes a picture. Errors: *ring.CorruptError where the walk to the frontier meets damage,
// shm.ErrFault, and the kernel's.
func (s *Segment) Snapshot() (*Snapshot, error) {
	st, err := s.Ring.Stats()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	identity := s.Ring.Identity()
	_, userSize := s.Ring.User()
	p := &Snapshot{
		Segment: s.Name, Path: s.Path(), Kind: "file", File: s.ID.String(), Identity: hex.EncodeToString(identity[:]),
		Created: s.Ring.Created(), Taken: time.Now(), at: shm.Now(), Notes: []string{},
		Geometry: Geometry{
			Version: ring.Version, Capacity: st.Capacity, Granule: ring.Granule, MaxFrame: s.Ring.MaxFrame(), Slots: ring.MaxSlots,
			Size: s.Ring.Segment().Size(), UserSize: userSize, PageSize: st.PageSize,
		},
		Room: Room{Waiters: st.Waiters, Turn: st.Turn},
		Consumer: Consumer{
			Process:  process(st.PID, st.ConsumerStart, st.ConsumerPIDNamespace),
			Sleeping: st.Sleeping, Life: st.Consumers,
			Records: st.Consumer.Records, Messages: st.Consumer.Messages, Bytes: st.Consumer.Bytes,
			SkippedDead: st.Consumer.SkippedDead, SkippedAborted: st.Consumer.SkippedAborted,
			Pads: st.Consumer.Pads, Sleeps: st.Consumer.Sleeps, Resyncs: st.Consumer.Resyncs,
		},
	}
	if s.Memfd() {
		p.Kind = "memfd"
	}
	damage := s.place(p, st)
	if p.Consumer.Alive, err = s.Ring.ConsumerHeld(); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	if err := s.seats(p, st); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	if damage == nil {
		damage = s.claims(p)
	}
	if damage != nil {
		p.Notes = append(p.Notes, damage.Error())
	}
	if err := s.router(p); err != nil {
		p.Notes = append(p.Notes, err.Error())
	}
	p.Positions.Moved = s.Ring.Head() - p.Positions.Head
	return p, nil
}

// place reads the positions: the frontier between two looks at head, again while head moves, so that on a ring
// that is not too busy they belong together.
func (s *Segment) place(p *Snapshot, st ring.Stats) (damage error) {
	at := Positions{Hint: st.Hint}
	for range 8 {
		at.Head = s.Ring.Head()
		if at.Frontier, damage = s.Ring.Frontier(); damage != nil {
			at.Frontier = at.Head
			break
		}
		if s.Ring.Head() == at.Head {
			break
		}
	}
	used := min(max(int64(at.Frontier-at.Head), 0), st.Capacity/ring.Granule) * ring.Granule
	at.Used, at.Fill = used, float64(used)/float64(st.Capacity)
	p.Positions = at
	return damage
}

func (s *Segment) seats(p *Snapshot, st ring.Stats) error {
	now := shm.Now()
	p.Slots = []Slot{}
	p.State = Stale
	for _, i := range st.Slots {
		held, err := s.Ring.SlotHeld(i.Slot)
		if err != nil {
			return err
		}
		if held {
			p.State = Orphaned
		}
		seat := Slot{
			Process: process(i.PID, i.Start, i.PIDNamespace), Slot: i.Slot, Instance: i.Instance, Alive: held,
			Records: i.Records, Bytes: i.Bytes, Dropped: i.Dropped, Swept: i.Swept,
		}
		if i.Joined > 0 && i.Joined < now {
			seat.Age = time.Duration(now - i.Joined).Seconds()
		}
		p.Slots = append(p.Slots, seat)
	}
	if p.Consumer.Alive {
		p.State = Alive
	}
	return nil
}

// claims walks over the records from head on.
func (s *Segment) claims(p *Snapshot) error {
	byNumber := map[int]*Slot{}
	for i := range p.Slots {
		byNumber[p.Slots[i].Slot] = &p.Slots[i]
	}
	c := &p.Claims
	for pos := p.Positions.Head; c.Examined < maxClaims; c.Examined++ {
		r, err := s.Ring.RecordAt(pos)
		switch err {
		case nil:
		case ring.ErrUnclaimed:
			c.Complete = true
			return nil
		case ring.ErrReleased: // the consumer was faster
			pos = s.Ring.Head()
			continue
		default:
			return err
		}
		seat := byNumber[r.Slot]
		if seat != nil {
			seat.Backlog += int64(r.Granules) * ring.Granule
			seat.behind = int64(r.Position+r.Granules-p.Positions.Head) * ring.Granule
		}
		if r.State == ring.RecordBusy {
			c.Open++
			if seat != nil {
				if seat.OpenClaims == 0 {
					seat.claim = r.Position
				}
				seat.OpenClaims++
			}
			if c.Oldest == nil {
				c.Oldest = &Claim{Position: r.Position, Slot: r.Slot, Bytes: int64(r.Granules) * ring.Granule, Front: r.Position == s.Ring.Head()}
				if seat != nil {
					c.Oldest.PID = seat.PID
				}
			}
		}
		pos += r.Granules
	}
	return nil
}

func (s *Segment) router(p *Snapshot) error {
	if s.Dir == nil {
		if s.DirErr != nil && !errors.Is(s.DirErr, wire.ErrNoDirectory) {
			return s.DirErr
		}
		return nil
	}
	return s.Ring.Segment().Guarded(func() error {
		r := &Router{
			State: s.Dir.State().String(), Epoch: fmt.Sprintf("%016x", s.Dir.Epoch()), Life: s.Dir.Life(),
			Resumable: s.Dir.Resume(), MaxMessage: s.Dir.MaxMessage(),
			Pipes: Pipes{Entries: s.Dir.Len(), Opened: s.Dir.NextID() - 1},
		}
		s.eachEntry(func(_ uint32, w wire.Word) {
			switch w.State() {
			case wire.PipeOpen:
				r.Pipes.Open++
			case wire.PipeAttached:
				r.Pipes.Attached++
			case wire.PipeEnded:
				r.Pipes.Ended++
			}
		})
		p.Router = r
		return nil
	})
}

// eachEntry calls f for the entries of the directory whose pages exist: where none does, no pipe ever was.
func (s *Segment) eachEntry(f func(index uint32, w wire.Word)) {
	off, _ := s.Ring.User()
	page := int64(s.Ring.Segment().PageSize())
	known, exists := int64(-1), false
	for i := range uint32(s.Dir.Len()) {
		at := s.Dir.Offset(i) / page
		if at != known {
			known, exists = at, at == off/page || s.hasPage(at*page)
		}
		if exists {
			f(i, s.Dir.Word(i))
		}
	}
}

// process says whether a process that was noted in the segment is one that can be seen here.
func process(pid int, start, namespace uint64) Process {
	p := Process{PID: pid, Namespace: namespace}
	if pid == 0 || namespace == 0 || namespace != shm.PIDNamespace() {
		return p
	}
	now, err := shm.ProcessStart(pid)
	if p.Here = err == nil && (start == 0 || now == start); p.Here {
		p.Name, p.Stopped = processName(pid), isStopped(pid)
	}
	return p
}
