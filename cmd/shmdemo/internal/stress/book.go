package stress

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/shmrouter/shmrouter/shm"
)

// book gathers what was sent and what arrived, and everything that should not
// have been. Messages come in on the router's loop; the display and the watchdog
// read at any time.
type book struct {
	meter *meter

	mu         sync.Mutex
	total      tally  // of members that are settled
	sent       uint64 // likewise
	acked      uint64
	heldAtEnd  int // members that died inside a claim, by their own account
	open       map[*member]struct{}
	good       uint64   // messages delivered up to now, of everybody
	goodBytes  uint64   // likewise
	bySeat     []uint64 // likewise
	violations []string
	more       int // violations beyond maxViolations

	arrived atomic.Uint64 // messages, good or bad
	steps   atomic.Uint64 // raised by whatever else is progress
	last    atomic.Int64  // shm.Now of the last message
}

// maxViolations is how many are told; a broken ring has millions.
const maxViolations = 50

func newBook(m *meter, seats int) *book {
	return &book{meter: m, open: map[*member]struct{}{}, bySeat: make([]uint64, seats)}
}

// arrive takes a message of m. It runs on the loop.
func (b *book) arrive(m *member, data []byte) {
	now := shm.Now()
	b.mu.Lock()
	if m.lane.next == 1 {
		b.open[m] = struct{}{}
	}
	before := m.lane.tally
	sent := m.lane.arrive(data)
	if n := m.lane.delivered - before.delivered; n > 0 {
		b.good += n
		b.goodBytes += m.lane.bytes - before.bytes
		b.bySeat[m.seat] += n
	}
	b.mu.Unlock()
	if sent != 0 {
		b.meter.latency(sent, now)
	}
	m.lastAt.Store(now)
	b.meter.pinged(m, now)
	b.last.Store(now)
	b.arrived.Add(1)
	b.meter.brake()
}

// arriveIn takes a message of m in a life of the main process, which may be a second
// delivery.
func (b *book) arriveIn(m *member, data []byte, life int, marked bool, again *atomic.Int64) {
	b.mu.Lock()
	repeated := m.lane.repeated(data, life, marked)
	b.mu.Unlock()
	if repeated {
		again.Add(1)
		b.steps.Add(1)
		return
	}
	b.arrive(m, data)
}

// settle closes the account of a member whose process is gone and whose pipe has
// ended. The caller keeps its diary from being unmapped.
func (b *book) settle(m *member) {
	page := m.diary.page
	sent, acked := page.sent.Load(), page.acked.Load()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, m)
	m.lane.settle(sent, acked)
	b.total.add(m.lane.tally)
	b.sent += sent
	b.acked += acked
	if page.hold.Load() != 0 {
		b.heldAtEnd++
	}
	if c := m.lane.complaint(); c != "" {
		b.violate(c)
	}
	b.steps.Add(1)
}

func (b *book) violation(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.violate(fmt.Sprintf(format, args...))
}

// violate is violation for who holds mu.
func (b *book) violate(text string) {
	if len(b.violations) == maxViolations {
		b.more++
		return
	}
	b.violations = append(b.violations, text)
}

// account is the book at one moment.
type account struct {
	tally
	sent, acked uint64
	heldAtEnd   int
	violations  []string
}

// account adds what the members that are there have noted so far. Their losses show
// only when they are settled.
func (b *book) account(present []*member) account {
	b.mu.Lock()
	a := account{tally: b.total, sent: b.sent, acked: b.acked, heldAtEnd: b.heldAtEnd}
	a.violations = append(a.violations, b.violations...)
	if b.more > 0 {
		a.violations = append(a.violations, fmt.Sprintf("and %d more", b.more))
	}
	for m := range b.open {
		a.tally.add(m.lane.tally)
	}
	b.mu.Unlock()
	for _, m := range present {
		m.note(func(p *diaryPage) {
			a.acked += p.acked.Load()
			a.sent += p.sent.Load()
		})
	}
	return a
}
