package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/shmrouter/shmrouter/bench"
)

func init() {
	addPeer(&peer{name: "nats", title: "NATS, embedded server", module: "github.com/nats-io/nats-server/v2", open: openNATS, most: 512 << 10,
		how: "the server runs in the receiver's process, senders come over loopback (it has no unix sockets); Publish, which the client coalesces " +
			"and flushes by itself; a callback subscription without limits, so that nothing is dropped."})
}

// natsLink is two subjects.
type natsLink struct {
	conn *nats.Conn
	out  string

	mu    sync.Mutex
	armed sync.Cond // left is not 0
	left  uint64    // messages that the current receive still wants
	s     *sequence
	done  chan error
}

const (
	natsPending = 1 << 30
	natsStart   = 10 * time.Second
)

func openNATS(p *bench.Post, e end) (link, error) {
	url, err := natsURL(p)
	if err != nil {
		return nil, err
	}
	conn, err := nats.Connect(url, nats.NoReconnect())
	if err != nil {
		return nil, err
	}
	in, out := numbered("down", e.sender), numbered("up", e.sender)
	if p.Receiver {
		in, out = out, in
	}
	l := &natsLink{conn: conn, out: out, done: make(chan error)}
	l.armed.L = &l.mu
	sub, err := conn.Subscribe(in, l.onMessage)
	if err != nil {
		return nil, err
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return nil, err
	}
	return l, conn.Flush()
}

// natsURL starts the server, or finds it: its address is in a file.
func natsURL(p *bench.Post) (string, error) {
	note := filepath.Join(p.Dir, "nats")
	if url, err := os.ReadFile(note); err == nil {
		return string(url), nil
	}
	if !p.Receiver {
		return "", errors.New("the receiver has started no server")
	}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, MaxPending: natsPending})
	if err != nil {
		return "", err
	}
	go s.Start()
	if !s.ReadyForConnections(natsStart) {
		return "", fmt.Errorf("no server within %v", natsStart)
	}
	return s.ClientURL(), os.WriteFile(note, []byte(s.ClientURL()), 0o600)
}

func (l *natsLink) send(b []byte) error { return l.conn.Publish(l.out, b) }

func (l *natsLink) sendBatch(msgs [][]byte) error { return eachOf(l, msgs) }

// onMessage is the subscription's callback.
func (l *natsLink) onMessage(m *nats.Msg) {
	l.mu.Lock()
	for l.left == 0 {
		l.armed.Wait()
	}
	err := l.s.check(m.Data)
	if l.left--; err != nil {
		l.left = 0
	}
	done := l.left == 0
	l.mu.Unlock()
	if done {
		l.done <- err
	}
}

func (l *natsLink) receive(n uint64, s *sequence) error {
	l.mu.Lock()
	l.s, l.left = s, n
	l.armed.Signal()
	l.mu.Unlock()
	return <-l.done
}
