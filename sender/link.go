package sender

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// link is what all senders of one segment share in this process: the mapping while anybody has a reference,
// and the seat in the roster while anybody sits, which is from Start to Stop.
type link struct {
	ring  *ring.Ring
	seg   *shm.Segment
	dir   *wire.Directory
	close func() error // unmaps
	refs  int          // guarded by links.mu

	large chan struct{} // one element while a large message is on its way
	room  chan struct{} // one element while a goroutine waits for room: the others wait here, where they need no thread

	dead atomic.Bool // the router's process, as the vigil last saw it

	mu      sync.Mutex
	seated  int              // guarded by mu
	att     *ring.Attachment // guarded by mu; nil unless somebody sits
	spare   []*ring.Producer // guarded by mu; producers of att at rest
	watched map[*Sender]bool // guarded by mu; see context.go
	watcher *watcher         // guarded by mu; nil unless somebody is watched
	vigil   *vigil           // guarded by mu; nil unless somebody sits, and in the router's own process
}

// links holds one link for each segment. Its mutex is taken before a link's, and after a Sender's.
var links = struct {
	mu sync.Mutex
	by map[string]*link // by identity of the memory
}{by: make(map[string]*link)}

// linkTo returns the link to a ring, with one more reference, to be given back by release. A ring that is
// given is the link's to close. Another one stays its owner's, who may close it at any time, since the link
// retains the segment.
func linkTo(r *ring.Ring, given bool) (*link, error) {
	seg := r.Segment()
	links.mu.Lock()
	defer links.mu.Unlock()
	if l := links.by[seg.Identity()]; l != nil {
		l.refs++
		if given {
			r.Close()
		}
		return l, nil
	}
	unmap := r.Close
	if !given {
		if err := seg.Retain(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRouterGone, err)
		}
		unmap = seg.Close
	}
	off, size := r.User()
	dir, err := wire.Open(seg, off, size)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrBadHandover, err), unmap())
	}
	l := &link{
		ring: r, seg: seg, dir: dir, close: unmap, refs: 1,
		large: make(chan struct{}, 1), room: make(chan struct{}, 1),
		watched: make(map[*Sender]bool),
	}
	links.by[seg.Identity()] = l
	return l, nil
}

// release gives a reference back; the last one unmaps, unless claims still hold the segment.
func (l *link) release() error {
	links.mu.Lock()
	defer links.mu.Unlock()
	if l.refs--; l.refs > 0 {
		return nil
	}
	delete(links.by, l.seg.Identity())
	return l.close()
}

// check compares a token with the segment that it led to.
func (l *link) check(t wire.Token) error {
	if l.ring.Identity() != t.Identity {
		return fmt.Errorf("%w: its segment is %x, the sender's %x", ErrOtherRouter, l.ring.Identity(), t.Identity)
	}
	if int(t.Index) >= l.dir.Len() {
		return fmt.Errorf("%w: index %d of %d", ErrBadHandover, t.Index, l.dir.Len())
	}
	return l.seg.Guarded(func() error {
		if l.dir.Epoch() != t.Epoch {
			return fmt.Errorf("%w: it was started anew since", ErrRouterGone)
		}
		if !l.dir.Serves(t.Epoch) {
			return fmt.Errorf("%w: it was stopped", ErrRouterGone)
		}
		return nil
	})
}

// sit takes a place on this process's seat, and the seat itself if nobody sits there, and returns a producer
// to begin with.
func (l *link) sit() (*ring.Attachment, *ring.Producer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seated == 0 {
		att, err := l.ring.Attach()
		if errors.Is(err, os.ErrClosed) { // the router in this process has closed its ring
			err = fmt.Errorf("%w: %w", ErrRouterGone, err)
		}
		if err != nil {
			return nil, nil, err
		}
		l.att = att
		l.dead.Store(false) // whatever an earlier vigil saw
	}
	l.seated++
	return l.att, l.takeLocked(), nil
}

// stand gives back producers and a place on the seat. The last one leaves the roster.
func (l *link) stand(ps ...*ring.Producer) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spare = append(l.spare, ps...)
	if l.seated--; l.seated > 0 {
		return nil
	}
	l.vigil.end() // takes no mu
	att := l.att
	l.att, l.spare, l.vigil = nil, nil, nil
	return att.Close()
}

// take returns a producer for the caller alone, who sits. Since a producer lives as long as the attachment,
// they are used again.
func (l *link) take() *ring.Producer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.takeLocked()
}

func (l *link) takeLocked() *ring.Producer {
	if n := len(l.spare); n > 0 {
		p := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return p
	}
	return l.att.NewProducer()
}

// give returns a producer of att at rest. Nobody may sit there any more.
func (l *link) give(att *ring.Attachment, p *ring.Producer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.att == att {
		l.spare = append(l.spare, p)
	}
}
