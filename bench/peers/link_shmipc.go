package main

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cloudwego/shmipc-go"

	"github.com/shmrouter/shmrouter/bench"
)

func init() {
	addPeer(&peer{name: "shmipc", title: "shmipc-go", module: "github.com/cloudwego/shmipc-go", open: openShmipc, sized: true,
		how: "the settings of its own benchmark (memfd, queue of 65535, buffers cut to the message's size, in 256 MiB of shared memory; the queue " +
			"shorter where messages would not fit); Reserve and Flush per message, one Flush for a batch; ReadBytes and ReleasePreviousRead."})
	shmipc.SetLogLevel(5) // none
}

const (
	shmipcMemory   = 256 << 20 // of all sessions
	shmipcLeast    = 16 << 20
	shmipcQueue    = 65535
	shmipcPatience = 20 * time.Second
)

func shmipcConfig(size, senders int) *shmipc.Config {
	c := shmipc.DefaultConfig()
	c.InitializeTimeout = shmipcPatience
	memory := max(uint32(shmipcMemory/senders), shmipcLeast)
	c.LogOutput = io.Discard
	c.MemMapType = shmipc.MemMapTypeMemFd
	c.ShareMemoryBufferCap = memory
	slice := (uint32(size) + 256 + 63) &^ 63
	c.BufferSliceSizes = []*shmipc.SizePercentPair{{Size: slice, Percent: 70}, {Size: 16 << 10, Percent: 20}, {Size: 64 << 10, Percent: 10}}
	// Where the buffers run out before the queue does, a stream goes over to
	// its socket for good.
	c.QueueCap = min(shmipcQueue, memory/2/(slice+64)) &^ 7
	return c
}

// shmipcLink is a stream of a session of its own. Streams have no messages:
// both ends know the size.
type shmipcLink struct {
	ready  chan struct{}
	stream *shmipc.Stream
	err    error
	size   int
}

func openShmipc(p *bench.Post, e end) (link, error) {
	path := filepath.Join(p.Dir, "shmipc-"+strconv.Itoa(e.size)+"-"+strconv.Itoa(e.sender))
	l := &shmipcLink{ready: make(chan struct{}), size: e.size}
	config := shmipcConfig(e.size, p.Senders)
	if p.Receiver {
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			return nil, err
		}
		go func() {
			defer close(l.ready)
			l.err = l.accept(ln, config)
		}()
		return l, nil
	}
	defer close(l.ready)
	mc := shmipc.DefaultSessionManagerConfig()
	mc.Config, mc.Network, mc.Address, mc.SessionNum = config, "unix", path, 1
	manager, err := shmipc.NewSessionManager(mc)
	if err != nil {
		return nil, err
	}
	if l.stream, err = manager.GetStream(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *shmipcLink) accept(ln *net.UnixListener, c *shmipc.Config) error {
	defer ln.Close()
	conn, err := ln.Accept()
	if err != nil {
		return err
	}
	session, err := shmipc.Server(conn, c)
	if err != nil {
		return err
	}
	l.stream, err = session.AcceptStream()
	return err
}

func (l *shmipcLink) await() error {
	<-l.ready
	return l.err
}

func (l *shmipcLink) write(b []byte) error {
	to, err := l.stream.BufferWriter().Reserve(len(b))
	if err != nil {
		return err
	}
	copy(to, b)
	return nil
}

func (l *shmipcLink) put() error {
	for {
		err := l.stream.Flush(false)
		if !errors.Is(err, shmipc.ErrQueueFull) {
			return err
		}
		time.Sleep(time.Microsecond)
	}
}

func (l *shmipcLink) send(b []byte) error {
	if err := l.await(); err != nil {
		return err
	}
	if err := l.write(b); err != nil {
		return err
	}
	return l.put()
}

func (l *shmipcLink) sendBatch(msgs [][]byte) error {
	if err := l.await(); err != nil {
		return err
	}
	for _, b := range msgs {
		if err := l.write(b); err != nil {
			return err
		}
	}
	return l.put()
}

func (l *shmipcLink) receive(n uint64, s *sequence) error {
	if err := l.await(); err != nil {
		return err
	}
	r := l.stream.BufferReader()
	for range n {
		b, err := r.ReadBytes(l.size)
		if err != nil {
			return err
		}
		if err := s.check(b); err != nil {
			return err
		}
		r.ReleasePreviousRead()
	}
	return nil
}
