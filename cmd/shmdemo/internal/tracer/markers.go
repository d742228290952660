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

// IsVictim tells whether a Tracer has started this process.
func IsVictim() bool { return os.Getenv(envVictim) != "" }

// Begin marks the beginning of an operation, for the victim's main goroutine. Without a tracer it
// does nothing, and so does End.
//
//go:noinline
func Begin() {}

// End marks the end of an operation.
//
//go:noinline
func End() {}
