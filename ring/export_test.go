package ring

import (
	"errors"
	"math"
	"time"
)

// What tests outside the package plant in a segment, or read from it.

const (
	Free      = uint8(free)
	Busy      = uint8(busy)
	Commit    = uint8(commit)
	Skip      = uint8(skip)
	OwnerNone = ownerNone
	TagBits   = tagBits
	ScrubLap  = scrubLap
	Void      = void
	MaxRecord = maxGranules

	OffOrder    = offOrder
	OffVersion  = offVersion
	OffCapacity = offCapacity
	OffUserSize = offUserSize
	OffGranule  = offGranule
	OffMagic    = offMagic
	OffData     = offData
	OffSegment  = offSegmentSize
	OffChecksum = offChecksum
	TableAt     = tableAt
)

func Checksum(superblock []byte) uint64 { return checksum(superblock) }

func MakeHeader(state uint8, tag uint64, owner int, granules uint64) uint64 {
	return uint64(makeHeader(stateOf(state), tag&tagMask, owner, granules))
}

func stateOf(s uint8) state { return state(s) }

func StateOf(w uint64) uint8         { return uint8(header(w).state()) }
func GranulesOf(w uint64) uint64     { return header(w).granules() }
func AgeOf(w uint64, t uint64) int64 { return header(w).age(t) }

func MakeInfo(length int, meta uint64) uint64 { return makeInfo(length, meta) }

func (r *Ring) Granules() uint64         { return r.size }
func (r *Ring) TagAt(pos uint64) uint64  { return r.tag(pos) }
func (r *Ring) WordAt(pos uint64) uint64 { return uint64(r.load(pos)) }
func (r *Ring) SetWord(pos, w uint64)    { r.entry(pos).word.Store(w) }
func (r *Ring) SetInfo(pos, info uint64) { r.entry(pos).info.Store(info) }
func (r *Ring) SetHead(pos uint64)       { r.head.Store(pos) }
func (r *Ring) SetHint(pos uint64)       { r.hint.Store(pos) }
func (r *Ring) HintAt() uint64           { return r.hint.Load() }
func (r *Ring) SetSleep(w uint64)        { r.sleep.Store(w) }
func (r *Ring) SetTurn(w uint64)         { r.turn.Store(w) }
func (r *Ring) TurnAt() uint64           { return r.turn.Load() }
func (r *Ring) SetRoomWaiters(n uint32)  { r.roomWaiters.Store(n) }
func (r *Ring) RoomWaiters() uint32      { return r.roomWaiters.Load() }
func (r *Ring) RoomEpisode() uint32      { return r.roomEpisode.Load() }
func (r *Ring) SleepMode() int           { return int(sleepWord(r.sleep.Load()).mode()) }
func (r *Ring) SleepEpisode() uint64     { return sleepWord(r.sleep.Load()).episode() }

// StartAt puts a fresh ring at a position as if it had come there by records
// of one granule: each word carries the tag of the last lap that passed it.
func (r *Ring) StartAt(pos uint64) {
	for p := pos - min(pos, r.size); p != pos; p++ {
		r.entry(p).word.Store(uint64(makeHeader(skip, r.tag(p), ownerNone, 1)))
	}
	r.head.Store(pos)
	r.hint.Store(pos)
}

// CommitSilently commits without looking whether the consumer sleeps, as a
// producer does that dies between its commit and its wake.
func (c Claim) CommitSilently() bool {
	l := c.l
	p, pos, w := l.p, l.pos, l.w
	p.entry(pos).info.Store(makeInfo(l.n, l.m))
	c.end()
	return p.cas(pos, w, w.with(commit))
}

// Forget makes a producer search from head or the hint, as a new one would.
func (p *Producer) Forget() { p.pos, p.seen, p.hinted = 0, 0, 0 }

// IdleNap is how long an idle sleep lasts, if nobody ends it.
var IdleNap = time.Duration(idleNap)

// SetNaps changes the time limits of sleeps that a wake should end, so that a
// lost wake shows as a standstill. It returns how to set them back.
func SetNaps(d time.Duration) (reset func()) {
	i, r, q := idleNap, roomNap, queuedNap
	idleNap, roomNap, queuedNap = int64(d), int64(d), int64(d)
	return func() { idleNap, roomNap, queuedNap = i, r, q }
}

// SetQueuedNap changes only that of who waits for room behind others.
func SetQueuedNap(d time.Duration) (reset func()) {
	q := queuedNap
	queuedNap = int64(d)
	return func() { queuedNap = q }
}

// SetFirstAsk changes the time limit of the first sleep behind a claim likewise.
func SetFirstAsk(d time.Duration) (reset func()) {
	a := firstAsk
	firstAsk = int64(d)
	return func() { firstAsk = a }
}

// Barriers is what the consumer says of itself.
func (r *Ring) Barriers() uint32 { return r.fence.Load() & hasBarriers }

func (r *Ring) SetBarriers(n uint32) { r.fence.Store(n) }

// LoseLock has the attachment's lock freed while its process goes on, as who closes
// descriptors that are not his may do.
// Books returns how many producers the attachment knows.
func (a *Attachment) Books() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.all)
}

func (a *Attachment) LoseLock() error { return a.locks.Unlock(int64(a.slot)) }

// Where fuzzed images are damaged.
const (
	OffHint         = offHint
	OffRoomWaiters  = offRoomWaiters
	OffTurn         = offTurn
	OffHead         = offHead
	OffSleep        = offSleep
	OffRoomEpisode  = offRoomEpisode
	OffLife         = offLife
	OffCounters     = offCounters
	OffRoster       = offRoster
	OffRosterSlot   = slotSize
	OffTable        = offTable
	MaxFrameBytes   = maxFrame
	ConsumerLock    = lockConsumer
	CorruptDistance = 1 << 34 // laps, beyond which tags look the other way round
)

func MakeSleep(pos, episode, mode uint64) uint64 {
	return uint64(makeSleep(pos, episode, sleepWord(mode)))
}

func OwnerOf(w uint64) int { return header(w).owner() }

// AgeAt compares the word at a position with the lap of that position.
func (r *Ring) AgeAt(pos uint64) int64 { return r.load(pos).age(r.tag(pos)) }

// Die leaves as a killed process does: its lock is free, and nothing else is done. Claims
// stay as they are; neither they nor its producers may be used any more.
func (a *Attachment) Die() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed.Store(true)
	a.left = true
	return errors.Join(a.locks.Close(), a.ring.seg.Close())
}

// Die likewise leaves the consumer's seat.
func (c *Consumer) Die() error {
	c.closed.Store(true)
	raceRelease(c.token)
	return errors.Join(c.locks.Close(), c.seg.Close())
}

// TakeTurn has the producer hold the turn, as one that waits for room does.
func (p *Producer) TakeTurn() bool { return p.turn.CompareAndSwap(0, p.id) }

func (p *Producer) DropTurn() { p.turn.CompareAndSwap(p.id, 0) }

// StateInFront is that of the word at head.
func (r *Ring) StateInFront() int { return int(r.load(r.head.Load()).state()) }

// SetLatencyWatch changes how long LowLatency watches; the result restores it.
func SetLatencyWatch(d time.Duration) (restore func()) {
	before := latencyWatch
	latencyWatch = int64(d)
	return func() { latencyWatch = before }
}

// SetYieldEvery changes how often who waits lets others run; the result restores it.
func SetYieldEvery(d time.Duration) (restore func()) {
	before := yieldEvery
	yieldEvery = int64(d)
	return func() { yieldEvery = before }
}

// WatchFor is how long a Wait would watch now, in nanoseconds.
func (c *Consumer) WatchFor() int64 { return c.watchUntil(1) - 1 }

// Guesses reports whether the next send guesses the word that it replaces.
func (p *Producer) Guesses() bool { return p.alike > 0 }

// Gathers reports whether the next look is put off, to let messages gather.
func (c *Consumer) Gathers() bool { return c.gathering.due }

// StaysAway reports whether it is so for a moment.
func (c *Consumer) StaysAway() bool { return c.gathering.finds >= awayFinds }

// LetGather puts the next look off.
func (c *Consumer) LetGather() { c.gathering.due = true }

// Gathering is how a consumer decides to let messages gather, apart from the ring and the clock.
type Gathering struct {
	gathering
	Now, Pauses int64
	Messages    uint64
}

// Reach plays a Poll of n messages that comes to the frontier, and the pause before the next one.
func (g *Gathering) Reach(n uint64) (pause bool) {
	g.Messages += n
	g.reached(n, g.Messages, func() int64 { return g.Now })
	if pause = g.due; pause {
		g.due, g.began, g.before = false, g.Now, g.Messages
		g.Pauses++
		g.Now += gatherTime
	}
	return pause
}

// SetGatherPace changes what a message of a row may take; the result restores it.
func SetGatherPace(d time.Duration) (restore func()) {
	before := gatherPace
	gatherPace = int64(d)
	return func() { gatherPace = before }
}

const GatherTime = time.Duration(gatherTime)

// Watched plays a Wait that a message ended after a time of watching, and its Poll.
func (c *Consumer) Watched(took time.Duration) {
	c.rested()
	c.watched(true, int64(took))
	c.counts.messages++
}

// Rested plays a Wait that slept, and a Poll of n messages.
func (c *Consumer) Rested(n uint64) {
	c.rested()
	c.rests()
	c.counts.messages += n
}

func (c *Consumer) Rests() bool { return c.resting.on }

// NeverCede makes every Wait that finds nothing sleep.
func (c *Consumer) NeverCede() { c.saved = math.MinInt64 }

// SetCedeLong changes how late a message may come that ceding is worth; the result restores it.
func SetCedeLong(d time.Duration) (restore func()) {
	before := cedeLong
	cedeLong = int64(d)
	return func() { cedeLong = before }
}

// CedesGain runs f with an empty account, and reports whether ceding gained something.
func (c *Consumer) CedesGain(f func()) bool {
	c.saved = 0
	f()
	return c.saved >= cedeSaves
}

// MayCede plays a Wait that has to look: whether it would cede the processor.
func (c *Consumer) MayCede() bool { return c.mayCede() }

// Ceded plays what came of that.
func (c *Consumer) Ceded(found bool, took time.Duration) { c.ceded(found, int64(took)) }

// Waits reports whether a Wait is under way that an Interrupt would end.
func (c *Consumer) Waits() bool { return c.waiting.Load()&1 != 0 }
