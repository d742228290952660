package sender

import (
	"context"
	"sync"
)

// Writer is an io.Writer whose bytes arrive, in their order, at a router.Reader; or, as messages, at any
// receiver. Goroutines may use it concurrently.
type Writer struct {
	ctx context.Context
	s   *Sender
	mu  sync.Mutex // writes do not mix
}

// NewWriter returns a Writer that sends through s. Writes wait for room until ctx ends; s.Context() ends
// when nobody reads any more. The reader's end of file is the Sender's Stop, which remains the caller's to call;
// nothing is buffered here that would have to be flushed before.
func NewWriter(ctx context.Context, s *Sender) *Writer { return &Writer{ctx: ctx, s: s} }

// Write sends b: as one message if it fits a frame (an eighth of the ring, 16 MiB at most), which so stays in
// one piece; a longer one as several, so that the reader has the first while the last are written, and nobody
// has to hold all of them. No bytes are no message. Small writes cost as much as small messages: put a
// bufio.Writer in front of those.
//
// It returns the number of bytes that were committed: fewer than len(b) with an error only, which is one of
// Sender.Send's. It may be called concurrently; one is done after the other.
func (w *Writer) Write(b []byte) (n int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n < len(b) {
		most, err := w.s.frameSize()
		if err != nil {
			return n, err
		}
		part := b[n:min(n+most, len(b))]
		if err := w.s.Send(w.ctx, part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// frameSize returns the length of the longest message that is one frame.
func (s *Sender) frameSize() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != StateOpen {
		return 0, &StateError{"write", s.state}
	}
	return s.frame, nil
}
