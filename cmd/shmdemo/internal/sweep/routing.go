package sweep

import (
	"errors"
	"os"
	"strings"

	"time"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/sender"
)

// The operations of a router's worker.
var routing = []*operation{
	{
		name: "sender-start", routed: true,
		setup: func(a *actor) error { return a.fromEnv(0, 0, false) },
		run:   func(a *actor) (outcome, error) { return ended(startSender(a.sender)) },
	},
	{
		name: "sender-send", routed: true,
		setup: func(a *actor) error { return a.fromEnv(1, frameSize, true) },
		run:   func(a *actor) (outcome, error) { return ended(a.sending(a.sendsBy)) },
	},
	{
		// A message of six frames.
		name: "send-frames", routed: true,
		setup: func(a *actor) error { return a.fromEnv(1, 5*ring.MinCapacity/8, true) },
		run:   func(a *actor) (outcome, error) { return ended(a.sending(a.sendsBy)) },
	},
	{
		name: "sender-stop", routed: true,
		setup: func(a *actor) error {
			if err := a.fromEnv(1, frameSize, true); err != nil {
				return err
			}
			return a.sending(a.sendsBy)
		},
		run: func(a *actor) (outcome, error) { return ended(stopSender(a.sender)) },
	},
}

// fromEnv makes the victim a worker with n messages of some size to send.
func (a *actor) fromEnv(n, size int, start bool) (err error) {
	if a.sender, err = sender.FromEnv(); err != nil {
		return err
	}
	a.make(n, size)
	if !start {
		return nil
	}
	if err := a.sender.Start(); err != nil {
		return err
	}
	return restOfVigil()
}

// restOfVigil waits until the goroutine that watches for the router's death has come to rest, so that no other
// thread comes to the points of the operation: it has a pidfd then.
func restOfVigil() error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(200 * time.Microsecond) {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			return err
		}
		for _, fd := range fds {
			if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); to == "anon_inode:[pidfd]" || strings.HasPrefix(to, "pidfd:") {
				time.Sleep(time.Millisecond)
				return nil
			}
		}
	}
	return errors.New("nobody watches for the router's death")
}

func (a *actor) sendsBy(b []byte) error { return sendBy(a.sender, background, b) }
