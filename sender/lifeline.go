package sender

import (
	"os"
	"sync"

	"github.com/shmrouter/shmrouter/internal/label"
	"github.com/shmrouter/shmrouter/internal/wire"
	"golang.org/x/sys/unix"
)

// lifeline is how a worker that was launched learns at once, and also where it can watch no process (in another pid
// namespace, without pidfd), that the router's process is gone: the kernel ends the pipe then, however that process
// died. To the vigil it is a reason to ask for the router's lock, as a pidfd's news is.
var lifeline struct {
	mu  sync.Mutex
	cut chan struct{} // closed with the pipe's end; nil without a lifeline
}

// takeLifeline finds the pipe that this process inherited, if it did, and sees to it that its children do not. What
// is not that pipe is left alone: without one, a death is noticed all the same, later. It stays open as long as
// this process lives.
func takeLifeline() {
	text := os.Getenv(wire.EnvLifeline)
	if text == "" {
		return
	}
	os.Unsetenv(wire.EnvLifeline)
	fd, inode, err := wire.ParseLifeline(text)
	if err != nil {
		return
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO || st.Ino != inode {
		return
	}
	unix.CloseOnExec(fd)
	unix.SetNonblock(fd, true) // for the runtime's poller: waiting takes no thread
	pipe := os.NewFile(uintptr(fd), wire.EnvLifeline)
	cut := make(chan struct{})
	lifeline.mu.Lock()
	lifeline.cut = cut
	lifeline.mu.Unlock()
	go func() {
		label.Vigil.Set()
		var b [64]byte
		for {
			if _, err := pipe.Read(b[:]); err != nil {
				break // mostly io.EOF; if somebody closed it, the question will tell
			}
		}
		close(cut)
	}()
}

// lifelineCut returns a channel that is closed when the lifeline has ended, nil if there is none.
func lifelineCut() <-chan struct{} {
	lifeline.mu.Lock()
	defer lifeline.mu.Unlock()
	return lifeline.cut
}
