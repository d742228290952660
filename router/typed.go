package router

import (
	"context"
	"fmt"
	"iter"
	"reflect"
	"runtime/debug"

	"github.com/shmrouter/shmrouter/sender/codec"
)

// Typed receives what a sender.Typed sends: values of type T, by the same codec. A payload that is no T is an
// error for that message, a *DecodeError, and the next one is received as if it had not been. All methods may
// be called concurrently. It holds nothing that has to be closed: the Receiver is closed as ever.
//
// Every value is the receiver's for good, as Message.Data is. One of codec.Struct lies in those bytes.
type Typed[T any] struct {
	rcv    *Receiver
	codec  codec.Codec[T]
	layout *codec.Layout[T] // what codec is, or nil
}

// NewTyped returns a Typed that receives from rcv.
func NewTyped[T any](rcv *Receiver, c codec.Codec[T]) *Typed[T] {
	t := &Typed[T]{rcv: rcv, codec: c}
	t.layout, _ = c.(*codec.Layout[T])
	return t
}

// Receiver returns the Receiver that it receives from.
func (t *Typed[T]) Receiver() *Receiver { return t.rcv }

// Handle has the router call onValue on the loop with each value, and with the message that it came in, of which
// Seq and Redelivered may be of interest. A message that is no T goes to onBad, in its place in the order; where
// that is nil the router logs it, at most once a second. onEnd, which may be nil, is called behind the last
// one. All that is said at Receiver.Handle is true here, too; a nil onValue takes the handlers away.
func (t *Typed[T]) Handle(onValue func(v *T, m Message), onBad func(*DecodeError), onEnd func(error)) {
	if onValue == nil {
		t.rcv.Handle(nil, onEnd)
		return
	}
	if onBad == nil {
		onBad = t.rcv.run.undecoded
	}
	t.rcv.Handle(func(m Message) {
		v, err := t.decode(m)
		if err != nil {
			onBad(err)
			return
		}
		onValue(v, m)
	}, onEnd)
}

// Recv returns the next value, waiting for it until ctx is done. If the next message is no T the error is a
// *DecodeError, and the next call goes on behind it. The other errors are those of Receiver.Recv.
func (t *Typed[T]) Recv(ctx context.Context) (*T, error) {
	m, err := t.rcv.Recv(ctx)
	if err != nil {
		return nil, err
	}
	return t.Decode(m)
}

// Messages returns the pipe's values as a sequence, for
//
//	for v, err := range in.Messages(ctx) {
//		if bad, ok := errors.AsType[*router.DecodeError](err); ok {
//			report(bad.Seq, bad.Data)
//			continue // with the next one
//		}
//		if err != nil {
//			return err
//		}
//		... v ...
//	}
//
// It is Receiver.Messages, and ends as that does; but a pair with a *DecodeError, which stands for a message that
// is no T, is followed by others.
func (t *Typed[T]) Messages(ctx context.Context) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		for m, err := range t.rcv.Messages(ctx) {
			var v *T
			if err == nil {
				v, err = t.Decode(m)
			}
			if !yield(v, err) {
				return
			}
		}
	}
}

// Decode returns the value in a message that was received otherwise, as by Receiver.Messages, whose pairs have
// the number, too. The error is a *DecodeError.
func (t *Typed[T]) Decode(m Message) (*T, error) {
	v, err := t.decode(m)
	if err != nil {
		return nil, err // not a nil *DecodeError in an error
	}
	return v, nil
}

func (t *Typed[T]) decode(m Message) (v *T, bad *DecodeError) {
	fail := func(err error) *DecodeError {
		return &DecodeError{Message: m, Pipe: t.rcv.id, Type: reflect.TypeFor[T](), Err: err}
	}
	defer func() {
		if p := recover(); p != nil {
			err, ok := p.(error)
			if !ok {
				err = fmt.Errorf("%v", p)
			}
			v, bad = nil, fail(fmt.Errorf("codec panicked: %w", err))
			bad.Stack = debug.Stack()
		}
	}()
	var err error
	if t.layout != nil {
		v, err = t.layout.View(m.Data)
	} else {
		v = new(T)
		err = t.codec.Decode(m.Data, v)
	}
	if err != nil {
		return nil, fail(err)
	}
	return v, nil
}

// DecodeError says that a message is not what its receiver expects, and has it.
type DecodeError struct {
	Message              // as it came; a codec may have changed Data, though none of ours does
	Pipe    uint64       // the receiver's ID
	Type    reflect.Type // which its bytes are no encoding of
	Err     error        // the codec's
	Stack   []byte       // where the codec panicked; nil if it did not
}

// Error names pipe, message and reason.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("router: pipe %d: message %d, of %d bytes, is no %v: %v", e.Pipe, e.Seq, len(e.Data), e.Type, e.Err)
}

// Unwrap returns what the codec said, or panicked with.
func (e *DecodeError) Unwrap() error { return e.Err }

// undecoded reports a message that nobody else is told of.
func (n *run) undecoded(e *DecodeError) {
	if more, ok := n.decodeLog.allow(); ok {
		n.log.Warn("dropping message that cannot be decoded", "error", e, "pipe", e.Pipe, "unreported", more)
	}
}
