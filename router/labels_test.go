package router

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/sender"
)

// labelOf returns the label in the goroutine profile of the goroutine that is in fn: "" if it has none, "?" if
// there is no such goroutine.
func labelOf(fn string) string {
	var profile strings.Builder
	pprof.Lookup("goroutine").WriteTo(&profile, 1)
	for _, entry := range strings.Split(profile.String(), "\n\n") {
		if strings.Contains(entry, fn+"+0x") {
			_, text, _ := strings.Cut(entry, `# labels: {`)
			text, _, _ = strings.Cut(text, "}")
			return text
		}
	}
	return "?"
}

func waitsHere(ch chan struct{})     { <-ch }
func waitsForHook(ch chan struct{})  { <-ch }
func waitsAlone(ch chan struct{})    { <-ch }
func waitsInPosted(ch chan struct{}) { <-ch }

// Goroutines are named in profiles, and nobody's has a name that is not its own: neither does the library inherit
// the program's labels, nor does a hook inherit the monitor's.
func TestGoroutinesAreLabelled(t *testing.T) {
	guard(t)
	inHandler, inHook, alone := make(chan struct{}), make(chan struct{}), make(chan struct{})
	defer close(alone)
	var r *Router
	pprof.Do(background, pprof.Labels("program", "own"), func(context.Context) {
		r = begin(t, WithStallHook(func(ring.StallEvent) { waitsForHook(inHook) }))
	})
	s, rcv := pipe(t, r)
	must(t, s.Start())
	eventually(t, "the monitor's label", func() bool { return labelOf("router.(*monitor).loop") == `"shmrouter":"monitor"` })

	rcv.Handle(func(Message) { go waitsAlone(alone); waitsHere(inHandler) }, nil)
	must(t, s.Send(background, nil))
	for fn, want := range map[string]string{
		"router.waitsHere":  `"shmrouter":"loop"`,
		"router.waitsAlone": `"shmrouter":"loop"`, // as the documentation says
	} {
		eventually(t, fn, func() bool { return labelOf(fn) == want })
	}
	close(inHandler)

	claim, err := s.TryClaim(1) // and leave it: the hook is called
	require.NoError(t, err)
	eventually(t, "the hook's label", func() bool { return labelOf("router.waitsForHook") == `"shmrouter":"hook"` })
	claim.Abort()
	close(inHook)
	must(t, s.Stop())
	must(t, rcv.Close())

	posted := make(chan struct{})
	other := begin(t, WithEventLoop(PostLoop(func(f func()) { waitsInPosted(posted); f() })))
	s, rcv = pipe(t, other)
	must(t, s.Start())
	must(t, s.Send(background, nil))
	eventually(t, "the label of who posts", func() bool { return labelOf("router.waitsInPosted") == `"shmrouter":"post"` })
	close(posted)
	must(t, s.Stop())
	must(t, rcv.Close())
}

func TestWorkersGoroutinesAreLabelled(t *testing.T) {
	guard(t)
	r := begin(t)
	s, rcv := pipe(t, r)
	worker, err := r.Launch(command(t, "labelled", ""), s)
	must(t, err)
	eventually(t, "the label of who waits for the worker", func() bool {
		for _, fn := range []string{"(*process).wait", "(*Router).Launch.func1", "launchThread"} {
			if got := labelOf("router." + fn); got != `"shmrouter":"launch"` {
				t.Log(fn, got)
				return false
			}
		}
		return true
	})
	msg, err := rcv.Recv(background)
	must(t, err)
	eventually(t, "the label of who sees the worker die", func() bool {
		return labelOf("shm.WatchDeath.func1") == `"shmrouter":"watch"`
	})
	require.Equal(t, `"shmrouter":"context" "shmrouter":"vigil"`, string(msg.Data))
	must(t, rcv.Close())
	must(t, worker.Wait()) // its context has ended
}

// labelledRole sends the labels of its goroutines, and waits for the end of its pipe.
func labelledRole(string) error {
	s, err := sender.FromEnv()
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		return err
	}
	ctx := s.Context()
	var got string
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // until both have begun
		got = labelOf("sender.(*link).keepWatch") + " " + labelOf("sender.(*vigil).run")
		if strings.Count(got, "shmrouter") == 2 || time.Now().After(end) {
			break
		}
	}
	if err := s.Send(ctx, []byte(got)); err != nil {
		return err
	}
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, os.ErrClosed) {
		return fmt.Errorf("ended by %w", cause)
	}
	return s.Stop()
}
