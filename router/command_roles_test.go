package router

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/sender"
)

// worksman is a worker of a Command, which does what its argument says.
func worksman(arg string) error {
	switch arg {
	case "plain": // knows neither Main nor Context
		s, err := sender.FromEnv()
		if err == nil {
			err = s.Start()
		}
		if err == nil {
			err = s.Send(background, []byte("ready"))
		}
		if err != nil {
			return err
		}
		time.Sleep(time.Hour)
	case "naive": // does not know that it is a worker, and starts the program that it is
		r, err := New()
		if err == nil {
			err = r.Start()
		}
		if err != nil {
			return err
		}
		_, refused := Command{}.Start(r)
		if err := r.Stop(); err != nil {
			return err
		}
		return sender.Main(func(ctx context.Context, s *sender.Sender) error {
			return s.Send(ctx, fmt.Append(nil, errors.Is(refused, ErrNotWorker)))
		})
	case "absent":
		os.Exit(3)
	case "two":
		return sender.MainAll(func(ctx context.Context, ss []*sender.Sender) error {
			for i, s := range ss {
				if err := s.Send(ctx, fmt.Append(nil, i, " of ", len(ss))); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return sender.Main(func(ctx context.Context, s *sender.Sender) error {
		if err := s.Send(ctx, []byte("ready")); err != nil {
			return err
		}
		switch arg {
		case "good":
		case "error":
			return errors.New("an error of its own")
		case "exit 3":
			os.Exit(3)
		case "panic":
			panic("on purpose")
		case "obedient":
			<-ctx.Done()
			return s.Send(background, []byte(context.Cause(ctx).Error()))
		case "flood":
			for {
				if err := s.Send(ctx, make([]byte, 1000)); err != nil {
					return err
				}
			}
		case "deaf":
			select {}
		case "busy":
			for n := 0; n >= 0; n++ {
			}
		case "lines":
			fmt.Println("to stdout")
			fmt.Fprint(os.Stderr, "to stderr\nand without an end")
		case "spam":
			return spam()
		case "mute":
			os.Stdout.Close()
			return s.Send(ctx, []byte("still here"))
		case "parent": // its child holds its stderr open
			cmd := exec.Command("sleep", "600")
			cmd.Stderr = os.Stderr
			if err := cmd.Start(); err != nil {
				return err
			}
			return s.Send(ctx, fmt.Append(nil, cmd.Process.Pid))
		default:
			return fmt.Errorf("no task %q", arg)
		}
		return nil
	})
}

// ignorantMain never learns how a worker ended.
func ignorantMain(string) error {
	signal.Ignore(unix.SIGCHLD)
	r, err := New()
	if err == nil {
		err = r.Start()
	}
	if err != nil {
		return err
	}
	ends := make(chan error, 2)
	w, err := Command{Env: roleVars("worksman", "exit 3"), Restart: Restart{When: RestartOnFailure, Delay: 1, Limit: 1},
		Receive: func(_ int, receivers []*Receiver) {
			receivers[0].Handle(func(Message) {}, func(err error) { ends <- err })
		}}.Start(r)
	if err != nil {
		return err
	}
	if err := w.Wait(); !errors.Is(err, ErrGaveUp) || !errors.Is(err, unix.ECHILD) || w.LastExit() != nil {
		return fmt.Errorf("it ended by %v: %w", w.LastExit(), err)
	}
	for range 2 {
		if peer, ok := errors.AsType[*PeerError](<-ends); !ok || peer.State != nil {
			return fmt.Errorf("not a death of which nothing is known: %w", peer)
		}
	}
	return r.Stop()
}

const spamSize = 10 << 20

func spam() error {
	part := []byte(strings.Repeat("x", 64<<10))
	for range spamSize / len(part) {
		if _, err := os.Stderr.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// commandingMain is a main process that starts workers, says their numbers when they are ready, and waits to be
// killed. Its argument are the workers' tasks; those behind a slash may outlive it.
func commandingMain(arg string) error {
	r, err := New()
	if err == nil {
		err = r.Start()
	}
	if err != nil {
		return err
	}
	dying, outliving, _ := strings.Cut(arg, "/")
	for i, tasks := range []string{dying, outliving} {
		for task := range strings.SplitSeq(tasks, ",") {
			if task == "" {
				continue
			}
			w, err := Command{Env: roleVars("worksman", task), Stdout: os.Stdout, Outlive: i == 1}.Start(r)
			if err != nil {
				return err
			}
			if _, err := w.Receivers()[0].Recv(background); err != nil {
				return err
			}
			fmt.Println(w.PID())
		}
	}
	select {}
}
