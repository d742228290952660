package inspect

import "time"

// Rates are differences between two pictures, for each second.
type Rates struct {
	Interval float64    `json:"interval"` // seconds between the pictures
	Released float64    `json:"released"` // bytes of space by head: exact
	Claimed  float64    `json:"claimed"`  // bytes of space by the frontier
	Records  float64    `json:"records"`  // consumed, by the consumer's figures
	Messages float64    `json:"messages"`
	Bytes    float64    `json:"bytes"` // payload
	Slots    []SlotRate `json:"slots"` // of the living
	// Wait is how long something that is sent now will take to be released at this rate, in seconds: what is
	// used by what is released. -1 if something is there and nothing is released.
	Wait float64 `json:"wait"`
}

// SlotRate is what one producer sent, for each second.
type SlotRate struct {
	Slot    int     `json:"slot"`
	Records float64 `json:"records"`
	Bytes   float64 `json:"bytes"`
	// Wait is how long its last record in the ring will take to be released at this rate, in seconds: the latency
	// of its messages, as far as the ring has a part in it. 0 if it has none there, -1 if nothing is released.
	Wait float64 `json:"wait"`
}

// Watch takes pictures of a segment one after the other, and knows from one to the next.
type Watch struct {
	segment *Segment
	last    *Snapshot
	since   map[claimKey]int64 // when the claim was first seen
}

type claimKey struct {
	position uint64
	slot     int
}

// NewWatch begins to watch. The segment stays the caller's.
func NewWatch(s *Segment) *Watch { return &Watch{segment: s} }

// Next takes a picture, with the rates since the last one.
func (w *Watch) Next() (*Snapshot, error) {
	p, err := w.segment.Snapshot()
	if err != nil {
		return nil, err
	}
	if w.last != nil {
		p.Rates = rates(w.last, p)
	}
	since := map[claimKey]int64{}
	seenFor := func(position uint64, slot int) float64 {
		key := claimKey{position, slot}
		first, known := w.since[key]
		if !known {
			first = p.at
		}
		since[key] = first
		return time.Duration(p.at - first).Seconds()
	}
	if c := p.Claims.Oldest; c != nil {
		c.SeenFor = seenFor(c.Position, c.Slot)
	}
	for i := range p.Slots {
		if s := &p.Slots[i]; s.OpenClaims > 0 {
			s.ClaimFor = seenFor(s.claim, s.Slot)
		}
	}
	w.last, w.since = p, since
	return p, nil
}

func rates(a, b *Snapshot) *Rates {
	seconds := time.Duration(max(b.at-a.at, 1)).Seconds()
	per := func(from, to uint64) float64 {
		if to < from { // figures of another instance, or damage
			return 0
		}
		return float64(to-from) / seconds
	}
	r := &Rates{
		Interval: seconds,
		Released: per(a.Positions.Head, b.Positions.Head) * float64(b.Geometry.Granule),
		Claimed:  per(a.Positions.Frontier, b.Positions.Frontier) * float64(b.Geometry.Granule),
		Records:  per(a.Consumer.Records, b.Consumer.Records),
		Messages: per(a.Consumer.Messages, b.Consumer.Messages),
		Bytes:    per(a.Consumer.Bytes, b.Consumer.Bytes),
		Slots:    []SlotRate{},
	}
	wait := func(bytes int64) float64 {
		switch {
		case bytes == 0:
			return 0
		case r.Released == 0:
			return -1
		}
		return float64(bytes) / r.Released
	}
	r.Wait = wait(b.Positions.Used)
	before := map[int]Slot{}
	for _, s := range a.Slots {
		before[s.Slot] = s
	}
	for _, s := range b.Slots {
		if !s.Alive {
			continue
		}
		from := before[s.Slot]
		if from.Instance != s.Instance {
			from = Slot{}
		}
		r.Slots = append(r.Slots, SlotRate{
			Slot: s.Slot, Records: per(from.Records, s.Records), Bytes: per(from.Bytes, s.Bytes), Wait: wait(s.behind),
		})
	}
	return r
}
