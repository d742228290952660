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

// State is what the locks say about who is there.
type State string

const (
	Alive    State = "alive"    // a consumer holds its seat
	Orphaned State = "orphaned" // none does, but producers hold slots
	Stale    State = "stale"    // nobody holds anything
)

// Geometry is what the superblock says. Sizes are in bytes.
type Geometry struct {
	Version  int   `json:"version"`
	Capacity int64 `json:"capacity"`
	Granule  int   `json:"granule"`
	MaxFrame int   `json:"max_frame"`
	Slots    int   `json:"slots"`
	Size     int64 `json:"size"` // of the whole segment
	UserSize int64 `json:"user_size"`
	PageSize int   `json:"page_size"`
}

// Positions count granules from the segment's beginning.
type Positions struct {
	Head     uint64  `json:"head"`     // the first that is not released
	Hint     uint64  `json:"hint"`     // where producers begin to look for room; may lag
	Frontier uint64  `json:"frontier"` // the first that nobody has claimed
	Used     int64   `json:"used"`     // bytes from head to frontier
	Fill     float64 `json:"fill"`     // Used by capacity, 0 to 1
	Moved    uint64  `json:"moved"`    // granules that head went on while the picture was taken: 0 is exact
}

// Process names a process as it was noted in the segment. Only within its pid namespace does the number mean
// anything.
type Process struct {
	PID       int    `json:"pid"`       // 0: it left in order, or never came
	Namespace uint64 `json:"namespace"` // inode number of the pid namespace
	Here      bool   `json:"here"`      // it is this one, and the process of that number is the one meant
	Name      string `json:"name"`      // "" unless Here
	Stopped   bool   `json:"stopped"`   // by a signal, or a debugger; false unless Here
}

// Consumer is the consumer's seat. Counters are of all consumers since the segment was made.
type Consumer struct {
	Process
	Alive          bool   `json:"alive"`
	Sleeping       bool   `json:"sleeping"`
	Life           uint64 `json:"life"` // consumers so far
	Records        uint64 `json:"records"`
	Messages       uint64 `json:"messages"`
	Bytes          uint64 `json:"bytes"`
	SkippedDead    uint64 `json:"skipped_dead"`    // claims of dead producers
	SkippedAborted uint64 `json:"skipped_aborted"` // records that were aborted
	Pads           uint64 `json:"pads"`
	Sleeps         uint64 `json:"sleeps"`
	Resyncs        uint64 `json:"resyncs"` // times it went on behind damage
}

// Room is about who waits for space.
type Room struct {
	Waiters bool `json:"waiters"` // somebody waits, or has waited since room was last made
	Turn    int  `json:"turn"`    // slot that the others leave room for; -1: none
}

// Claims are the records that are claimed and not complete.
type Claims struct {
	Open     int    `json:"open"`
	Examined uint64 `json:"examined"` // records from head on that were looked at
	Complete bool   `json:"complete"` // these were all
	// Oldest is the open claim nearest to head, which holds up everything behind it; nil if none is open.
	Oldest *Claim `json:"oldest"`
}

// Claim is an open claim. How long it has been open nobody writes down: SeenFor is the time since this tool saw
// it first, so it has been open for at least that.
type Claim struct {
	Position uint64  `json:"position"`
	Slot     int     `json:"slot"`
	PID      int     `json:"pid"`
	Bytes    int64   `json:"bytes"`    // of its space
	Front    bool    `json:"front"`    // it is what the consumer waits for
	SeenFor  float64 `json:"seen_for"` // seconds
}

// Slot is a producer's seat.
type Slot struct {
	Process
	Slot       int     `json:"slot"`
	Instance   uint32  `json:"instance"` // holders so far
	Alive      bool    `json:"alive"`
	Age        float64 `json:"age"`     // seconds since it joined; 0 if not of this boot
	Records    uint64  `json:"records"` // sent by the last holder
	Bytes      uint64  `json:"bytes"`   // likewise
	Dropped    uint64  `json:"dropped"` // claims that its program forgot
	Swept      uint64  `json:"swept"`   // claims of dead holders that later ones skipped
	OpenClaims int     `json:"open_claims"`
	Backlog    int64   `json:"backlog"`   // bytes of space from head on that are its, among the records that were looked at
	ClaimFor   float64 `json:"claim_for"` // seconds since its oldest open claim was first seen; 0 without one

	claim  uint64 // position of that
	behind int64  // bytes of space from head to the end of its last record, among those that were looked at
}

// Router is what the directory says about the router and its pipes.
type Router struct {
	State      string `json:"state"` // none, running or stopped; one that was killed says running for ever
	Epoch      string `json:"epoch"`
	Life       uint64 `json:"life"` // times that a router resumed here
	Resumable  bool   `json:"resumable"`
	MaxMessage uint64 `json:"max_message"` // bytes, 0: no limit
	Pipes      Pipes  `json:"pipes"`
}

// Pipes counts pipes by their state.
type Pipes struct {
	Entries  int    `json:"entries"` // that there is space for
	Opened   uint64 `json:"opened"`  // ever
	Open     int    `json:"open"`    // no sender yet
	Attached int    `json:"attached"`
	Ended    int    `json:"ended"`
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
			Sleeping: st.Sleeping, Life: st.Life,
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
