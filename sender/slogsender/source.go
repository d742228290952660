package slogsender

import (
	"log/slog"
	"sync"

	"github.com/shmrouter/shmrouter/internal/logwire"
)

// sources remembers what a call's place in the program looks like encoded: looking it up takes longer than sending
// a record, and a program has only so many.
type sources struct {
	mu sync.RWMutex
	of map[uintptr][]byte
}

// maxSources bounds it against records whose PC is no call's.
const maxSources = 1 << 12

// encoded returns nil for a record without a PC.
func (s *sources) encoded(r *slog.Record) []byte {
	if r.PC == 0 {
		return nil
	}
	s.mu.RLock()
	b := s.of[r.PC]
	s.mu.RUnlock()
	if b != nil {
		return b
	}
	src := r.Source()
	if src == nil {
		return nil
	}
	b = logwire.AppendSource(nil, src)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil || len(s.of) >= maxSources {
		s.of = map[uintptr][]byte{}
	}
	s.of[r.PC] = b
	return b
}
