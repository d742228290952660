// Package sender is the worker's side of a router: it sends messages through one pipe, from this process or
// another, to the receiver that the pipe was made with.
//
// A router's Pipe returns a [Sender] in its initial state. It may be started in the router's own process, or
// travel once: by [Sender.HandOver] into an exec.Cmd, whose process gets it back from [FromEnv]; or by
// [Sender.Token], where the router has a path, to an unrelated process, which calls [Open].
//
// A worker's main function is [Main], which takes the sender, starts it, and stops it behind the last message:
//
//	err := sender.Main(func(ctx context.Context, s *sender.Sender) error {
//		for ctx.Err() == nil {
//			if err := s.Send(ctx, message); err != nil {
//				return err
//			}
//		}
//		return nil
//	})
//
// # What a send promises
//
// When [Sender.Send] returns nil the message is committed: a router that lives and is not stopped will deliver
// it, even if this process is killed at the next instruction. An error means that it will not be delivered.
// Where Send did not return, because this process was killed in it, the message is delivered whole or not at
// all.
//
// A router that was stopped, or has died, delivers nothing more, unless another one goes on in its place
// (router.WithResume). A stop is seen by the next send, a death by every send a quarter of a second later, as
// [ErrRouterGone].
//
// Messages of one Sender arrive in the order of their sends, and a send that began after another one returned,
// in whatever process, is delivered after it.
//
// Memory is bounded: where the router does not keep up the ring fills, and Send waits, while [Sender.TrySend]
// says [ErrFull].
//
// # Values, and streams
//
// [NewTyped] sends values instead of bytes, by a codec of package sender/codec: structs as they lie in memory, types
// that encode themselves, JSON, protocol buffers. [NewWriter] makes an io.Writer of a Sender.
//
// # Many senders
//
// All methods may be called by any number of goroutines. A process takes one seat in the router's roster for
// all senders of that router, from the first Start to the last Stop; the kernel frees it when the process is
// gone. For as long a process other than the router's keeps a goroutine or two that notice the router's death and
// take up no thread; [Sender.Context] takes one up. A router knows that a sender stopped, and what from; it tells the receiver after
// every message sent before.
//
// Small sends cost one uncontended mutex more than a bare ring, and no allocation unless they have to wait.
package sender
