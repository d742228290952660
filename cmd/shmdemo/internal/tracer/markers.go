package tracer

import (
	"os"
	"runtime"
)

// envVictim is set in the environment of every process that a Tracer starts.
const envVictim = "SHMDEMO_TRACED"

// The environment of a victim: one processor, no collection, no preemption by signal, so that
// the same operation executes the same instructions each time.
var victimEnvironment = []string{envVictim + "=1", "GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1"}

// Only the main thread is traced, so the victim's main goroutine stays on it.
func init() {
	if os.Getenv(envVictim) != "" {
		runtime.LockOSThread()
	}
}

// Begin marks the beginning of an operation, for the victim's main goroutine. Without a tracer it
// does nothing, and so does End.
func Begin() {
	for begin() {
		runtime.Gosched() // a new time slice
	}
}

// End marks the end of an operation.
func End() { end() }

// The tracer stops the victim at the first instruction of these, and lets it return in its way: from
// begin with true if the runtime has asked the goroutine to give way, since the operation's first
// call would be to the scheduler then.

//go:noinline
func begin() bool { return false }

//go:noinline
func end() {}
