// Package label names the library's goroutines in profiles: each sets the pprof label "shmrouter" to what it is
// for, once, when it begins. Goroutines inherit labels, so one that calls a program's own code names itself even
// where it lives only for that, or the program would find its time under another's name.
//
// Linking runtime/pprof for this makes a small program 2 % larger.
package label

import (
	"context"
	"runtime/pprof"
)

// What goroutines are for. In the main process:
var (
	Monitor = named("monitor") // takes messages out of the ring
	Loop    = named("loop")    // a GoLoop: handlers run on it
	Post    = named("post")    // calls the func that PostLoop was given
	Hook    = named("hook")    // calls a stall or skip hook
	Launch  = named("launch")  // starts workers, waits for them, restarts them
)

// In any process:
var (
	Watch   = named("watch")   // sees another process die
	Context = named("context") // ends Sender.Context
	Vigil   = named("vigil")   // sees the router die
)

// Name is the value of a label.
type Name struct{ ctx context.Context }

func named(what string) Name {
	return Name{pprof.WithLabels(context.Background(), pprof.Labels("shmrouter", what))}
}

// Set labels the calling goroutine, in place of the labels that it has inherited. It does not allocate.
func (n Name) Set() { pprof.SetGoroutineLabels(n.ctx) }
