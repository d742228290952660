// Package stress puts a router under stress and judges it from outside: worker
// processes send messages of all sizes while they are killed, replaced, stopped
// and continued, and every message is compared with what its worker noted down
// beside the router, in memory that the code under test never sees.
//
// A message's life, and where it is told:
//
//	message.go    what the n-th message of a worker looks like: both ends know
//	diary.go      a worker's notes: before and after each send
//	worker.go     the process that sends
//	send.go       its ways to send
//	fleet.go      the workers as the main process sees them: launched, replaced
//	member.go     one of them
//	killer.go     SIGKILL, also inside a claim; SIGSTOP and SIGCONT
//	lane.go       what arrived from one worker: lost, torn, duplicated, reordered
//	book.go       all lanes together
//	meter.go      how long it took, and what stood in the way
//	lateness.go   whether this process itself could run
//	witness.go    from outside: when a killed worker's lock was free, and its claim skipped
//	segment.go    the router's memory by the tables of docs/protocol.md
//	recovery.go   how long it took until the others were rid of the dead
//	quiet.go      after the last kill: are wakes still there?
//	host.go       the router, which may serve several runs
//	run.go        the phases of a run, from the first launch to the verdict
//	watchdog.go   no progress is a verdict too
//	timeline.go   the figures over time, where they are asked for
//	stay.go       who sat where, and when
//	report.go     the figures, as a table and as JSON
//
// A soak (package soak) has more in its runs:
//
//	soak.go       bursts, silence, programs, and progress of everybody
//	churn.go      pipes in the main process, opened and closed all the time
//	elsewhere.go  the main process is another one, and this one only judges
//	steward.go    that other one
//	lives.go      it is killed, and resumed
//	startat.go    its ring begins at a position far on
//	child.go      workers that no router has launched
//	started.go    whom this process waits for
//
// A worker is named by its seat, 0 to workers-1, and its incarnation there, from 1.
package stress
