// Package bench measures the ring and the router between real processes, and
// beside them what a Go programmer would use instead: pipes and unix sockets.
//
//	go test -run '^$' -bench . ./bench                          # everything
//	go test -run '^$' -bench Compare -benchtime 15x ./bench     # the ratios of docs/benchmarks.md
//
// # How it is measured
//
// A [Crew] is one receiving and some sending processes, each the running binary
// started again (a program that uses this package calls [Main] first thing).
// Between them lie all the [Transport]s at once, so that one pair of processes
// is compared with itself. The process that asks only gives orders and reads
// reports; while a measurement runs it sleeps.
//
// Every message carries its sender and its number, the receiver checks both
// and the length of each, and a message that is missing, doubled, out of order
// or of another length is an error of the measurement, never a figure. With
// Order.Verify the rest of the payload is written and checked as well; that
// costs more than the transport, and is therefore a run of its own.
//
// All processes read the same clock, so latencies are one way. Paced senders
// follow absolute deadlines; what they use to wait for them is measured by the
// same loop without sending, and subtracted (Crew.Paced).
//
// Two processors are not always equally far from each other: in a virtual
// machine a round trip of a cache line may take 70 ns now and 400 ns a second
// later. So ratios come from pairs measured back to back ([Compare]), each with
// the [Crew.Floor] before, between and after.
//
// # The files
//
// message.go says what is sent and how it is checked; transport.go and its
// neighbours carry it, channel.go within one process; floor_unsafe.go is the
// cache-line floor, state.go what it says. actor.go is the process at either
// end, perform.go what it can be ordered to do, send.go and pace.go the ways of
// sending, pin.go keeps it where it was put; process.go is an actor seen from
// outside, crew.go gives orders and collects reports, compare.go runs pairs;
// task.go lets another program add to it. walk.go is the whole way from Sender to
// handler, funnel.go the same with sockets, workers.go what both have in common.
// host.go describes the machine, histogram.go condenses figures.
package bench
