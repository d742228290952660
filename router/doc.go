// Package router delivers, on an event loop of the main process, what worker
// processes send through shared memory.
//
//	worker process                          main process
//	sender.Send ─▶ ring in shared memory ─▶ monitor ─▶ inbox ─▶ event loop ─▶ Receiver
//	               (claim, fill, commit)    (copies)   (ping)   (turn, route) (handler, Recv)
//
// Command starts a worker with its pipes, and looks after it: its output goes to the
// log, it is started again if wanted, stopped in order, and does not outlive this
// process. Its main function is sender.Main. For other ways to start processes, Pipe
// makes a pair of a Sender, which travels to a worker (Launch, HandOver, or
// its token), and a Receiver, which stays. A worker may be killed at any
// instruction: what its Send had returned from is delivered, nothing torn is, no
// other worker waits for it longer than milliseconds, and its receivers are told
// behind its last message (PeerError).
//
// # A message's way
//
// Steps 1 to 4 are the sender's and the ring's. Step 5, copy out (intake.go): one
// goroutine takes frames, copies each into memory of the main process, puts large
// messages together (parts.go), and resolves the receiver; then the ring's space
// is free again. On a GoLoop that serves one router, the default, the loop itself
// does that while it has nothing else to do (duty.go). Step 6, hand over and ping (inbox.go): batches go through a
// bounded channel, and the loop is pinged unless it has been. Step 7, the loop's
// turn (loop.go and its neighbours): it calls the router on its own thread. Step
// 8, route (route.go): at most so many messages a turn, each to its receiver, or
// to a warning if that is closed. Step 9, deliver (receiver.go): to the handler,
// or into the queue of Recv.
//
// NewTyped makes values of the messages, by the codec that the sender.Typed at the
// other end has, and NewReader an io.Reader of the pipe.
//
// # What is promised
//
//   - Messages of one pipe arrive in the order of their sends, each once. Of two
//     pipes: a send that began after another had returned is delivered after it.
//   - Handlers of one router never run at the same time; they run on the event loop,
//     or on the goroutine of RouteUntil.
//   - Memory is bounded: if handlers do not keep up, the inbox fills, then the ring,
//     then Send waits, and TrySend says full.
//   - The end of a pipe comes once, behind every message: nil (io.EOF for Recv)
//     if the sender was stopped, a *PeerError if its process died.
//   - Stop completes whatever workers and handlers do.
//
// # In profiles
//
// Goroutines of this module have the pprof label "shmrouter": "monitor", "loop"
// (a GoLoop, which runs handlers), "launch", "post", "hook", "watch"; in workers
// "context", "vigil". They do not inherit the labels of who called Start. What the
// program's functions start with go inherits the label of where they are called,
// unless it sets its own: "loop" from a handler on a GoLoop, "hook" from a hook,
// "launch" from Command.Receive in later lives, "context" from a context.AfterFunc
// on a worker's context. On loops that the program runs itself, handlers have the
// program's labels.
//
// # What is not
//
// A living worker that is stopped (SIGSTOP) in the midst of a send holds up
// everybody as long as it is stopped: its space is never taken on a timeout
// (WithStallHook). A launched worker that exits without having attached a pipe ends
// it, even if it left the sender to a child. A handler that waits for something
// that only a later message brings waits for ever, as does Recv on the loop. Workers that no
// Command started outlive a killed main process until they look at Sender.Context or wait
// for room.
package router
