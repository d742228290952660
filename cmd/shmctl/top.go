package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/inspect"
)

type topCmd struct {
	Segment  string        `arg:"" optional:"" name:"segment" help:"PATH or PID:FD (the only one there is)."`
	Interval time.Duration `placeholder:"D" default:"1s" help:"Time between looks (${default})."`
	Count    int           `placeholder:"N" help:"End after so many looks (no limit)."`
	Sort     string        `enum:"slot,rate,sent,age,claim,wait,backlog" default:"slot" help:"Order of the slots: ${enum} (${default})."`
}

// Help is printed with the flags.
func (*topCmd) Help() string {
	return `Keys: s sorts by the next column, r turns the order around, f shows living slots, all, or those with an open claim,
p pauses, + and - look more or less often, arrows scroll, q quits. Without a terminal, or with TERM=dumb, it writes a line for each look.
With NO_COLOR set it uses no colour.

CLAIM is for how long the oldest unfinished claim of the slot has been seen: nobody writes down when it began. BACKLOG is the space
that the slot's records take between the consumer and the last claim, WAIT how long the last of them will take to come through: the
latency of the sender's messages, as far as the ring has a part in it.`
}

const (
	shortest = 50 * time.Millisecond
	longest  = time.Minute
)

// Run watches.
func (c *topCmd) Run(e *env) error {
	if c.Interval < shortest || c.Interval > longest || c.Count < 0 {
		return usageError{fmt.Errorf("--interval %v is not between %v and %v, or --count %d is negative", c.Interval, shortest, longest, c.Count)}
	}
	defer e.untilSignal()()
	s, err := e.one(c.Segment)
	if err != nil {
		return err
	}
	f := follow(s)
	defer f.close()
	t := &top{env: e, follower: f, interval: c.Interval, count: c.Count, view: view{sort: c.Sort}}
	if out, ok := e.stdout.w.(*os.File); ok {
		t.screen = newScreen(os.Stdin, out)
	}
	if t.screen == nil {
		return t.lines()
	}
	return t.run()
}

type top struct {
	env      *env
	follower *follower
	screen   *screen
	view     view
	interval time.Duration
	count    int
	paused   bool
	last     *inspect.Snapshot
}

// lines is top without a screen.
func (t *top) lines() error {
	for n := 1; ; n++ {
		p, err := t.follower.look()
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(t.env.stdout, oneLine(p)); err != nil {
			return err
		}
		if n == t.count || !pause(t.env, t.interval) {
			return nil
		}
	}
}

// run is top on a screen, which it gives back whichever way it ends; SIGKILL leaves it as it is, and "reset" helps.
func (t *top) run() error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGWINCH, unix.SIGTSTP, unix.SIGHUP, unix.SIGQUIT)
	defer signal.Stop(signals)
	if err := t.screen.enter(); err != nil {
		return err
	}
	defer t.screen.leave()
	keys := t.screen.keys()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for looks := 0; ; {
		select {
		case <-timer.C:
			if !t.paused {
				p, err := t.follower.look()
				if err != nil {
					return err
				}
				t.last = p
				looks++
			}
			timer.Reset(t.interval)
		case key, ok := <-keys:
			if !ok { // the terminal is gone
				return nil
			}
			if t.press(key) {
				return nil
			}
		case s := <-signals:
			switch s {
			case unix.SIGTSTP:
				if err := t.suspend(); err != nil {
					return err
				}
			case unix.SIGHUP, unix.SIGQUIT:
				return nil
			}
		case <-t.env.ctx.Done():
			return nil
		}
		if t.last == nil {
			continue
		}
		columns, rows := t.screen.size()
		if err := t.screen.draw(t.view.draw(t.last, columns, rows, t.interval, t.paused)); err != nil {
			return err
		}
		if t.count > 0 && looks >= t.count {
			return nil
		}
	}
}

// suspend gives the terminal to the shell until somebody continues this process.
func (t *top) suspend() error {
	runtime.LockOSThread() // sent to this thread, the signal takes effect before anything else is done here
	defer runtime.UnlockOSThread()
	t.screen.leave()
	unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGSTOP)
	return t.screen.enter()
}

// press returns whether to quit.
func (t *top) press(key string) (quit bool) {
	v := &t.view
	switch key {
	case "q", "Q", "\x04":
		return true
	case "s":
		v.sort = next(orders, v.sort)
	case "r":
		v.reverse = !v.reverse
	case "f":
		v.filter = next(filters, v.filter)
		v.from = 0
	case "p", " ":
		t.paused = !t.paused
	case "+":
		t.interval = max(t.interval/2, shortest)
	case "-":
		t.interval = min(t.interval*2, longest)
	case "\x1bB":
		v.from++
	case "\x1bA":
		v.from = max(v.from-1, 0)
	}
	return false
}
