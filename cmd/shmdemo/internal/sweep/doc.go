// Package sweep stops processes at every instruction of every operation of the library, kills them there or
// lets them go on, and judges what the others see.
//
// An operation (operation.go) is recorded once by internal/tracer: which instructions it executes, in the
// compiled code as shipped. Then, for each of these points, a fresh victim is brought to it in a fresh world:
//
//	kill    the victim dies at the point; the others go on, and a new consumer drains if it was the consumer
//	pause   the victim stands at the point while the others go on as far as they can; then it goes on
//	pair    two victims at one point each: both die, or one dies while the other stands
//
// A world (world.go, routed.go, making.go) is a ring of 64 KiB with real survivors: a neighbour in a process of
// its own (neighbour.go), and the consumer in this one. It is made anew for each try, so that all tries of an
// operation begin in the same state.
//
// The judge (book.go) knows what the victim noted in a log of its own (log.go), intent before and
// acknowledgement after each call, what the neighbour was told to send, and what was delivered; nothing of the
// ring's own bookkeeping, and of the router's only whether the victim had taken its pipe. What was acknowledged
// is delivered, what is delivered was intended, whole, in order, and once; everybody gets on within a bound;
// who had taken its pipe is told of as dead; and Ring.Check finds nothing.
package sweep
