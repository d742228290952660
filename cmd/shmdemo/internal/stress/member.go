package stress

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/shm"
)

// member is one incarnation.
type member struct {
	seat, incarnation int
	claims            bool
	far               bool // its router is in another process

	diary  *diary
	stderr *os.File
	worker process
	pipe   sendersEnd
	lane   *lane // guarded by the book's mutex

	killed    atomic.Bool   // we did
	isStopped atomic.Bool   // see meter.stopping
	endOnce   sync.Once     // a router that resumes may tell it again
	ended     chan struct{} // closed when the pipe's end was told
	dismissed bool          // dismiss's own
	end       error         // before ended is closed, the loop's
	endAt     int64         // likewise: when it was told

	// Times of shm.Now; 0: not known.
	killedAt atomic.Int64 // just before
	freeAt   atomic.Int64 // its lock was still held then, and soon after no more
	lastAt   atomic.Int64 // when its last message arrived

	mu   sync.Mutex // for the diary, which is unmapped when the member is settled
	gone bool       // guarded by mu
}

func (m *member) endOfPipe(err error) {
	m.endOnce.Do(func() {
		m.end, m.endAt = err, shm.Now()
		close(m.ended)
	})
}

// endUnheard ends the pipe of a process of which nothing can have come. A router that
// has not started a process cannot know that it died before it attached.
func (m *member) endUnheard(exit error) {
	if exit == nil {
		m.endOfPipe(nil)
	} else {
		m.endOfPipe(&router.PeerError{Slot: -1})
	}
}

// judgeEnd compares what the router said about the end with what happened. How a worker ended is told with it if the
// router learns that within a second, which in a crowd it may not: no promise is broken by that.
func (m *member) judgeEnd(exit error, crowd bool) (complaints []string) {
	var died *router.PeerError
	killed, stopping := m.killed.Load(), m.diary.page.stopping.Load() != 0
	isDeath := errors.As(m.end, &died)
	if exit != nil && !killed {
		complaints = append(complaints, fmt.Sprintf("failed: %v: %s", exit, m.lastWords()))
	}
	switch {
	case m.end == nil && !stopping:
		complaints = append(complaints, "was killed, and its receiver was told that it stopped")
	case m.end != nil && !isDeath:
		complaints = append(complaints, fmt.Sprintf("ended with an unexpected error: %v", m.end))
	case isDeath && died.State == nil && !m.far && !crowd:
		complaints = append(complaints, "died, and its receiver was not told how")
	case m.end != nil && exit == nil:
		complaints = append(complaints, fmt.Sprintf("stopped, and its receiver was told that it died: %v", m.end))
	}
	return complaints
}

// lastWords returns the start of what the worker wrote to stderr.
func (m *member) lastWords() string {
	b, _ := io.ReadAll(io.NewSectionReader(m.stderr, 0, 2000))
	return strings.TrimSpace(string(b))
}

// order tells the worker what to do.
func (m *member) order(o uint64) { m.note(func(p *diaryPage) { p.order.Store(o) }) }

// note calls fn with the worker's diary, unless the member is settled.
func (m *member) note(fn func(*diaryPage)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.gone {
		fn(m.diary.page)
	}
}

func (m *member) did(o uint64) (yes bool) {
	yes = true
	m.note(func(p *diaryPage) { yes = p.did.Load() == o })
	return yes
}

// state says what the worker is at, by its own account and by the kernel's.
func (m *member) state() string {
	text := "gone"
	m.note(func(p *diaryPage) {
		text = doing(p.doing.Load()).String()
		if n := p.tries.Load(); n > 0 {
			text += fmt.Sprintf(" (%d in vain)", n)
		}
	})
	ran, waited := runTimes(m.worker.PID())
	return fmt.Sprintf("%s, process %s, has run for %v and waited %v for a processor", text, processState(m.worker.PID()), ran, waited)
}
