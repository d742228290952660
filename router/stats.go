package router

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
)

// counters are written by whoever does the monitor's work, and by whoever has the turn.
type counters struct {
	copied      atomic.Uint64
	bytes       atomic.Uint64
	routed      tally
	discarded   atomic.Uint64
	unfinished  atomic.Uint64
	malformed   atomic.Uint64
	unrouted    atomic.Uint64
	ends        atomic.Uint64
	deaths      atomic.Uint64
	pings       atomic.Uint64
	turns       atomic.Uint64
	panics      atomic.Uint64
	stalls      atomic.Uint64
	claimStalls atomic.Uint64
	damages     atomic.Uint64
	wakeups     atomic.Uint64
	queries     atomic.Uint64
	watched     atomic.Int64
}

// Stats are a router's figures since Start. They are read one after the other
// while it runs.
//
// In JSON, as expvar publishes them, fields have stable names with their units,
// StalledBy is the number of the pipe, "stalled_by_pipe", 0 if none, and the
// ring's are in "ring":
//
//	expvar.Publish("router", expvar.Func(func() any { return r.Stats() }))
type Stats struct {
	Copied     uint64 `json:"copied_messages"`     // messages taken out of the ring
	Bytes      uint64 `json:"copied_bytes"`        // payload bytes in them
	Routed     uint64 `json:"routed_messages"`     // messages given to a handler or to a receiver's queue
	Discarded  uint64 `json:"discarded_messages"`  // messages for closed pipes
	Unfinished uint64 `json:"unfinished_messages"` // large messages of which the end never came
	Malformed  uint64 `json:"malformed_frames"`    // frames that no sender makes: somebody else wrote to the segment
	Unrouted   uint64 `json:"unrouted_messages"`   // messages that Stop found sent and not routed, short of a living worker's open claim; final after Done
	Queued     int64  `json:"queued_messages"`     // messages and ends between the monitor and the loop
	Ends       uint64 `json:"ended_pipes"`         // pipes that have ended
	Deaths     uint64 `json:"died_pipes"`          // of these, by the death of a process
	Pings      uint64 `json:"pings"`               // times the event loop was pinged
	Turns      uint64 `json:"turns"`               // turns of the loop
	Panics     uint64 `json:"handler_panics"`      // of handlers
	Stalls     uint64 `json:"receiver_stalls"`     // times routing stopped for a receiver whose queue was full
	// StalledBy is the receiver that routing waits for now, nil if none.
	StalledBy   *Receiver `json:"-"`
	ClaimStalls uint64    `json:"claim_stalls"`      // times a living worker's claim held up everybody (WithStallHook)
	Damages     uint64    `json:"damages"`           // times damage in the segment was stepped over
	Broken      bool      `json:"broken"`            // the segment is beyond repair; nothing is received any more
	Wakeups     uint64    `json:"monitor_wakeups"`   // times the monitor woke from its sleep
	Queries     uint64    `json:"liveness_queries"`  // times the kernel was asked whether a worker lives
	Watched     int64     `json:"watched_processes"` // worker processes whose death a pidfd will tell

	Pipes        PipeStats  `json:"pipes"`         // by state
	EarlierLives uint64     `json:"earlier_lives"` // how many routers have resumed on this segment before
	Ring         ring.Stats `json:"ring"`          // of the memory below
}

// PipeStats counts the pipes by how far they have come.
type PipeStats struct {
	Open      int `json:"open"`      // no sender has attached
	Attached  int `json:"attached"`  // a sender lives
	Ended     int `json:"ended"`     // no more messages can come, and ClosePipe was not called
	Lingering int `json:"lingering"` // closed, and the sender still lives
}

// MarshalJSON implements json.Marshaler.
func (s Stats) MarshalJSON() ([]byte, error) {
	type plain Stats
	out := struct {
		plain
		StalledByPipe uint64 `json:"stalled_by_pipe"`
	}{plain: plain(s)}
	if s.StalledBy != nil {
		out.StalledByPipe = s.StalledBy.ID()
	}
	if out.Ring.Slots == nil {
		out.Ring.Slots = []ring.SlotInfo{} // a list, not null
	}
	return json.Marshal(out)
}

// Stats returns the figures of the current run, or of the last one; zero before
// the first. It looks at every pipe: with ten thousands of them, call it now and
// then only.
func (r *Router) Stats() Stats {
	n := r.cur.Load()
	if n == nil {
		return Stats{}
	}
	c := &n.count
	s := Stats{
		Copied: c.copied.Load(), Bytes: c.bytes.Load(), Routed: c.routed.Load(), Discarded: c.discarded.Load(),
		Unfinished: c.unfinished.Load(), Malformed: c.malformed.Load(), Unrouted: c.unrouted.Load(),
		Queued: n.inbox.queued(), Ends: c.ends.Load(), Deaths: c.deaths.Load(),
		Pings: c.pings.Load(), Turns: c.turns.Load(), Panics: c.panics.Load(), Stalls: c.stalls.Load(),
		StalledBy: n.stalled.Load(), ClaimStalls: c.claimStalls.Load(), Damages: c.damages.Load(),
		Broken: n.broken.Load(), Wakeups: c.wakeups.Load(), Queries: c.queries.Load(), Watched: c.watched.Load(),
	}
	err := n.withSegment(func() error {
		s.EarlierLives = n.dir.Life()
		s.Pipes = n.pipes.stats(n.dir)
		var err error
		s.Ring, err = n.ring.Stats()
		return err
	})
	if err != nil {
		n.mu.Lock()
		s.Ring = n.final
		n.mu.Unlock()
	}
	return s
}

func (p *pipes) stats(dir *wire.Directory) (s PipeStats) {
	p.each(func(rcv *Receiver) {
		switch state := dir.Word(rcv.index).State(); {
		case rcv.isClosed():
			s.Lingering++
		case rcv.gone || state == wire.PipeEnded:
			s.Ended++
		case state == wire.PipeAttached:
			s.Attached++
		default:
			s.Open++
		}
	})
	return s
}

// rateLimit lets one report a second through, and counts the rest.
type rateLimit struct {
	mu   sync.Mutex
	next time.Time
	kept int
}

const reportEvery = time.Second

// allow reports whether to report now, and how many were not since the last.
func (l *rateLimit) allow() (unreported int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Before(l.next) {
		l.kept++
		return 0, false
	}
	unreported, l.kept = l.kept, 0
	l.next = now.Add(reportEvery)
	return unreported, true
}
