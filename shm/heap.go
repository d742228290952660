package shm

import (
	"fmt"
	"os"
	"sync"
)

// NewHeap creates a segment of size bytes on this process's heap, where the race detector sees
// every access. Locks on it have the meaning of file locks, between the Locks of this segment. The
// error is ErrSize.
func NewHeap(size int64) (_ *Segment, err error) {
	defer wrapf(&err, "create heap segment")
	if err := checkSize(size); err != nil {
		return nil, err
	}
	s := &Segment{kind: Heap, name: "heap", mem: alignedHeap(int(size)), pageSize: os.Getpagesize(), fd: -1}
	s.identity = fmt.Sprintf("heap:%x", s.address())
	s.heap = &heapLockTable{holder: make(map[int64]*heapLocks)}
	s.token = takeToken(s.identity)
	s.refs.Store(1)
	return s, nil
}

// heapLockTable plays the kernel's part for the locks of a heap segment.
type heapLockTable struct {
	mu     sync.Mutex
	holder map[int64]*heapLocks // by byte
}

// heapLocks plays the part of one open file description.
type heapLocks struct{ table *heapLockTable }

func (h *heapLocks) lock(b int64) (bool, error) {
	h.table.mu.Lock()
	defer h.table.mu.Unlock()
	if other := h.table.holder[b]; other != nil && other != h {
		return false, nil
	}
	h.table.holder[b] = h
	return true, nil
}

func (h *heapLocks) unlock(b int64) error {
	h.table.mu.Lock()
	defer h.table.mu.Unlock()
	if h.table.holder[b] == h {
		delete(h.table.holder, b)
	}
	return nil
}

func (h *heapLocks) held(b int64) (bool, error) {
	h.table.mu.Lock()
	defer h.table.mu.Unlock()
	other := h.table.holder[b]
	return other != nil && other != h, nil
}

func (h *heapLocks) close() error {
	h.table.mu.Lock()
	defer h.table.mu.Unlock()
	for b, holder := range h.table.holder {
		if holder == h {
			delete(h.table.holder, b)
		}
	}
	return nil
}

// raceToken is a place on the heap that stands for a segment's memory before the race detector.
type raceToken struct {
	target uint64
	refs   int // guarded by tokens.mu
}

// tokens holds one token for each identity that is open in this process: two mappings of one file
// are one memory.
var tokens = struct {
	mu sync.Mutex
	by map[string]*raceToken
}{by: make(map[string]*raceToken)}

func takeToken(identity string) *raceToken {
	tokens.mu.Lock()
	defer tokens.mu.Unlock()
	t := tokens.by[identity]
	if t == nil {
		t = new(raceToken)
		tokens.by[identity] = t
	}
	t.refs++
	return t
}

func (t *raceToken) release(identity string) {
	tokens.mu.Lock()
	defer tokens.mu.Unlock()
	if t.refs--; t.refs == 0 {
		delete(tokens.by, identity)
	}
}
