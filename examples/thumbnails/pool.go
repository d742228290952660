package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"

	"github.com/shmrouter/shmrouter/router"
)

type result struct {
	file string
	data []byte
	err  error
}

// pool hands jobs to worker processes.
type pool struct {
	jobs    chan string
	results chan result // one for each job; then it is closed
	limit   time.Duration
	workers []*router.Worker
	start   sync.WaitGroup // until workers is complete
	feeds   sync.WaitGroup
}

func newPool(rt *router.Router, workers int, limit time.Duration, files []string) *pool {
	p := &pool{jobs: make(chan string, len(files)), results: make(chan result), limit: limit}
	for _, file := range files {
		p.jobs <- file
	}
	close(p.jobs)
	p.start.Add(1)
	for i := range workers {
		p.workers = append(p.workers, nil)
		var rcv *router.Receiver
		w, err := router.Command{
			Name:    fmt.Sprintf("thumbnails-%d", i),
			Restart: router.Restart{When: router.RestartOnFailure, Delay: 10 * time.Millisecond, MaxDelay: time.Second},
			// Each process that is started, the first one and its successors, has a pipe, a standard input and a
			// goroutine that feeds it.
			Receive: func(_ int, receivers []*router.Receiver) { rcv = receivers[0] },
			Prepare: func(cmd *exec.Cmd) error {
				stdin, err := cmd.StdinPipe()
				if err != nil {
					return err
				}
				p.feeds.Add(1)
				go p.feed(i, stdin, rcv)
				return nil
			},
		}.Start(rt)
		check(err)
		p.workers[i] = w
	}
	p.start.Done()
	go p.finish()
	return p
}

// feed gives jobs to one process until there are no more, or it dies: then the job that it had has failed, and its
// successor goes on with the next one.
func (p *pool) feed(worker int, stdin io.WriteCloser, rcv *router.Receiver) {
	defer p.feeds.Done()
	p.start.Wait()
	for file := range p.jobs {
		fmt.Fprintf(stdin, "%q\n", file) // an error says that the worker has died, as Recv does
		ctx, cancel := context.WithTimeout(context.Background(), p.limit)
		m, err := rcv.Recv(ctx)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			p.workers[worker].Kill()
			rcv.Close()
			err = fmt.Errorf("not done within %v", p.limit)
		}
		p.results <- result{file, m.Data, err}
		if err != nil {
			return
		}
	}
	stdin.Close()                  // the worker sees that there are no more jobs, and ends
	rcv.Recv(context.Background()) // so does its pipe
}

// finish waits for the workers to end. If jobs are left, all of them died so often that they were given up
// (router.ErrGaveUp).
func (p *pool) finish() {
	var gaveUp error
	for _, w := range p.workers {
		if err := w.Wait(); err != nil {
			gaveUp = err
		}
	}
	p.feeds.Wait()
	for file := range p.jobs {
		p.results <- result{file: file, err: fmt.Errorf("no worker is left: %w", gaveUp)}
	}
	close(p.results)
}

func (p *pool) restarts() (n int) {
	for _, w := range p.workers {
		n += w.Restarts()
	}
	return n
}
