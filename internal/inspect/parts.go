package inspect

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
