package slogsender

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shmrouter/shmrouter/internal/logwire"
	"github.com/shmrouter/shmrouter/sender"
)

// DefaultWait is how long Handle waits for room if Options do not say.
const DefaultWait = time.Second

// ErrTooComplex is returned by Handle for a record with more attributes, or deeper groups, than can be sent.
var ErrTooComplex = errors.New("slogsender: record is too complex")

// Options are a Handler's.
type Options struct {
	// Level is the least level that is sent; nil is slog.LevelInfo. A slog.LevelVar can be changed meanwhile.
	Level slog.Leveler
	// AddSource sends where in the program the record was made: as attribute slog.SourceKey, which slog's own
	// handlers print as if it were of their own process.
	AddSource bool
	// Wait is how long Handle waits for room when the ring is full, before it drops the record; 0 is
	// DefaultWait. Negative means not at all: then a record that is larger than a frame is dropped, too
	// (router.WithCapacity; half a megabyte, if nothing else was said).
	Wait time.Duration
	// Fallback, if there is one, is given every record that could not be sent, with the attributes and groups of
	// this handler: because the router is gone, because the ring was full for too long, or because the Sender
	// was stopped, or not started yet.
	Fallback slog.Handler
}

// Handler sends records through a Sender. It may be used concurrently, as may all that are made from it.
type Handler struct {
	*common
	scope    logwire.Scope
	fallback slog.Handler // with the scope's attributes and groups; nil if there is none
}

// common is what a handler and those made from it have in common.
type common struct {
	s         *sender.Sender
	level     slog.Leveler
	addSource bool
	wait      time.Duration
	sources   sources

	dropped atomic.Uint64 // all of them
	untold  atomic.Uint64 // of these, those that the sink has not been told of
}

// NewHandler makes a handler that sends by s; opts may be nil. The Sender stays the caller's, who starts it before
// the first record and stops it after the last.
func NewHandler(s *sender.Sender, opts *Options) *Handler {
	if opts == nil {
		opts = &Options{}
	}
	c := &common{s: s, level: opts.Level, addSource: opts.AddSource, wait: opts.Wait}
	if c.level == nil {
		c.level = slog.LevelInfo
	}
	if c.wait == 0 {
		c.wait = DefaultWait
	}
	return &Handler{common: c, fallback: opts.Fallback}
}

// Enabled reports whether records of this level are sent. It implements slog.Handler.
func (h *Handler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level.Level() }

// WithAttrs implements slog.Handler. The attributes are encoded once, here.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	made := *h
	made.scope = h.scope.WithAttrs(attrs)
	if h.fallback != nil {
		made.fallback = h.fallback.WithAttrs(attrs)
	}
	return &made
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	made := *h
	made.scope = h.scope.WithGroup(name)
	if h.fallback != nil {
		made.fallback = h.fallback.WithGroup(name)
	}
	return &made
}

// Dropped returns how many records were dropped because the ring was full, or because they were too large or too
// complex, by this handler and all that come from the same NewHandler. Those after the last record that came
// through are known here only.
func (h *Handler) Dropped() uint64 { return h.dropped.Load() }

// Handle sends a record. As slog.Handler has it, ctx does not end the wait for room; Options.Wait does. If the error
// is nil, the record is committed. Otherwise it is not in the pipe, and was given to the fallback if there is one,
// whose error is joined then: sender.ErrFull if it was dropped for want of room; sender.ErrTooLarge;
// ErrTooComplex; sender.ErrRouterGone, which a dead router causes within a quarter of a second; a
// *sender.StateError if the Sender is not open; or another of Sender.Send. A closed pipe is no error: the router
// counts and discards what comes.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	err := h.send(&r)
	if err != nil && h.fallback != nil && h.fallback.Enabled(ctx, r.Level) {
		if e := h.fallback.Handle(ctx, r); e != nil {
			err = errors.Join(err, e)
		}
	}
	return err
}

func (h *Handler) send(r *slog.Record) error {
	var src []byte
	if h.addSource {
		src = h.sources.encoded(r)
	}
	var untold uint64
	if h.untold.Load() != 0 {
		untold = h.untold.Swap(0) // this record tells; the next do not
	}
	buf := buffers.Get().(*[]byte)
	b, err := logwire.AppendRecord((*buf)[:0], r, src, untold, &h.scope)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrTooComplex, err)
	} else {
		err = h.transmit(b)
	}
	if cap(b) <= maxPooled {
		*buf = b
		buffers.Put(buf)
	}
	if err != nil {
		if errors.Is(err, sender.ErrFull) || errors.Is(err, sender.ErrTooLarge) || errors.Is(err, ErrTooComplex) {
			h.dropped.Add(1)
			untold++
		}
		h.untold.Add(untold)
	}
	return err
}

// transmit waits for room no longer than it may. Being late is sender.ErrFull.
func (h *Handler) transmit(b []byte) error {
	err := h.s.TrySend(b)
	if h.wait < 0 || err != sender.ErrFull && err != sender.ErrTooLarge {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), h.wait)
	defer cancel()
	err = h.s.Send(ctx, b)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("slogsender: record dropped after %v: %w", h.wait, sender.ErrFull)
	}
	return err
}

// buffers have at most maxPooled bytes; a larger record's is left to the collector.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 1<<10); return &b }}

const maxPooled = 64 << 10
