package slogrouter

import (
	"context"
	"log/slog"
	"time"

	"github.com/shmrouter/shmrouter/internal/logwire"
	"github.com/shmrouter/shmrouter/router"
)

// ErrMalformed is the class of errors about messages that are not log records, or of a version that this program
// does not know. The text says what is wrong, and at which byte.
var ErrMalformed = logwire.ErrMalformed

// Options are a Sink's.
type Options struct {
	// Attrs are added to every record, in front of its own and outside its groups: the worker's name, its
	// process number (router.Worker.PID).
	Attrs []slog.Attr
	// OnError is called where Message or Collect was, for a message that is not a record (ErrMalformed), and for
	// an error of the handler, with the message in question. The next message is treated as if nothing had been.
	// If it is nil, a malformed message becomes a record of level Error that says so, and the handler's errors
	// are passed over, as slog.Logger does.
	OnError func(m router.Message, err error)
}

// Sink passes a worker's records to a handler. It may be used concurrently if the handler can, as slog asks of it.
type Sink struct {
	h       slog.Handler
	onError func(router.Message, error)
}

// NewSink makes a sink in front of h; opts may be nil.
func NewSink(h slog.Handler, opts *Options) *Sink {
	if opts == nil {
		opts = &Options{}
	}
	if len(opts.Attrs) > 0 {
		h = h.WithAttrs(opts.Attrs)
	}
	return &Sink{h, opts.OnError}
}

// Decode returns the record in a message that a slogsender.Handler sent, and how many it dropped since the
// last that came through. The record's PC is 0; its source, if it was sent, is the first attribute, slog.SourceKey with a
// *slog.Source, which slog's own handlers print as they print their own. Values of no kind of their own are
// error, []byte or json.RawMessage. It takes memory in proportion to the message, whatever is in there. Parts of
// the record refer to data, which has to stay as it is. The error matches ErrMalformed.
func Decode(data []byte) (r slog.Record, dropped uint64, err error) { return logwire.Decode(data) }

// Message is for Receiver.Handle: it passes the record in m to the sink's handler, if that is enabled for the
// record's level. Where the worker had to drop records, one of level Warn comes before it, with their number as
// "count".
func (s *Sink) Message(m router.Message) {
	ctx := context.Background()
	r, dropped, err := Decode(m.Data)
	if err != nil {
		s.malformed(ctx, m, err)
		return
	}
	if dropped > 0 {
		lost := slog.NewRecord(r.Time, slog.LevelWarn, "log records dropped", 0)
		lost.AddAttrs(slog.Uint64("count", dropped))
		s.pass(ctx, m, lost)
	}
	s.pass(ctx, m, r)
}

// Collect takes rcv's messages, until ctx ends or the pipe does, and treats each as Message does. It returns nil
// if the worker stopped its sender; otherwise an error of Receiver.Recv, a *router.PeerError if the worker died,
// always after every record. It must not be called on the router's event loop.
func (s *Sink) Collect(ctx context.Context, rcv *router.Receiver) error {
	for m, err := range rcv.Messages(ctx) {
		if err != nil {
			return err
		}
		s.Message(m)
	}
	return nil
}

func (s *Sink) pass(ctx context.Context, m router.Message, r slog.Record) {
	if !s.h.Enabled(ctx, r.Level) {
		return
	}
	if err := s.h.Handle(ctx, r); err != nil && s.onError != nil {
		s.onError(m, err)
	}
}

func (s *Sink) malformed(ctx context.Context, m router.Message, err error) {
	if s.onError != nil {
		s.onError(m, err)
		return
	}
	r := slog.NewRecord(time.Now(), slog.LevelError, "malformed log record", 0)
	r.AddAttrs(slog.Any("error", err), slog.Uint64("seq", m.Seq), slog.Int("bytes", len(m.Data)))
	s.pass(ctx, m, r)
}
