package router

import (
	"os/exec"
	"runtime"
	"sync"

	"github.com/shmrouter/shmrouter/internal/label"
)

// launcher starts processes, all of them on one thread that lives as long as this process: the kernel sends a
// child its parent-death signal (SysProcAttr.Pdeathsig) when the thread that started it ends, which for a goroutine's
// thread is at any time. It costs that thread, from the first start on, and that starts wait for each other, which
// they mostly do in the runtime as well. A child has the attributes of this thread: namespaces, processors,
// priorities that a caller has given its own locked thread are not passed on.
var launcher = sync.OnceValue(func() chan<- func() {
	starts := make(chan func())
	go launchThread(starts)
	return starts
})

func launchThread(starts <-chan func()) {
	label.Launch.Set()
	runtime.LockOSThread() // for good
	for start := range starts {
		start()
	}
}

// startOnLauncher is cmd.Start on that thread.
func startOnLauncher(cmd *exec.Cmd) (err error) {
	done := make(chan struct{})
	launcher() <- func() {
		defer close(done)
		err = cmd.Start()
	}
	<-done
	return err
}
