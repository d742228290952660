package router

import (
	"context"
	"fmt"
	"io"
)

// Reader is an io.Reader of a pipe's bytes, in the order in which a sender.Writer, or Sender.Send, sent them.
// How they were cut into messages is of no importance to it. One goroutine at a time may use it.
type Reader struct {
	ctx  context.Context
	rcv  *Receiver
	rest []byte // of the last message
}

// NewReader returns a Reader of rcv. Reads wait until ctx is done.
//
// To a router that resumes (WithResume), a message is handled when Read returns the first of it, or when
// WriteTo has written it.
func NewReader(ctx context.Context, rcv *Receiver) *Reader { return &Reader{ctx: ctx, rcv: rcv} }

// Read reads what is there, waiting only if that is nothing. Behind the last byte the error is io.EOF if the
// sender was stopped, and a *PeerError if its process died: then what it had sent was read, and there is no
// telling whether it was all. The other errors are those of Receiver.Recv.
func (r *Reader) Read(b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	for len(r.rest) == 0 {
		m, err := r.rcv.Recv(r.ctx)
		if err != nil {
			return 0, err
		}
		r.rest = m.Data
	}
	n = copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// WriteTo writes everything to w until the end, message by message and without another copy; io.Copy uses it.
// The error is nil at a clean end, else w's, or one of Read's. What w did not take is read next.
func (r *Reader) WriteTo(w io.Writer) (n int64, err error) {
	if err := r.writeRest(w, &n); err != nil {
		return n, err
	}
	for m, err := range r.rcv.Messages(r.ctx) {
		if err != nil {
			return n, err
		}
		r.rest = m.Data
		if err := r.writeRest(w, &n); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (r *Reader) writeRest(w io.Writer, total *int64) error {
	if len(r.rest) == 0 {
		return nil
	}
	n, err := w.Write(r.rest)
	if n < 0 || n > len(r.rest) {
		return fmt.Errorf("router: a writer of %d bytes says it wrote %d", len(r.rest), n)
	}
	*total += int64(n)
	if r.rest = r.rest[n:]; err == nil && len(r.rest) > 0 {
		err = io.ErrShortWrite
	}
	return err
}

// Close closes the pipe, as Receiver.Close does: what is left of it is discarded, and the sender's Context
// ends. Errors are those of Router.ClosePipe.
func (r *Reader) Close() error {
	r.rest = nil
	return r.rcv.Close()
}
