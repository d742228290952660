package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"github.com/shmrouter/shmrouter/bench"
)

// What the kernel offers, as a Go programmer uses it: frames of a length in
// four bytes and the payload, one write for each or for a batch, and a buffered
// reader of 64 KiB.

func init() {
	addPeer(&peer{name: "unix", title: "unix stream socket", open: openUnix,
		how: "a frame per write (4 bytes of length, payload), a batch in one write; a bufio.Reader of 64 KiB; net.Conn, so both sides wait in the runtime's poller."})
	addPeer(&peer{name: "pipe", title: "pipe", open: openPipe,
		how: "as the unix socket; the files in blocking mode, as a child inherits them, which is faster than through the poller."})
	addPeer(&peer{name: "seqpacket", title: "unix seqpacket socket", open: openSeqpacket, most: 64 << 10,
		how: "a write and a read per message: the socket keeps them apart."})
}

const (
	frameHeader = 4
	readBuffer  = 64 << 10
)

// frameLink is a stream each way.
type frameLink struct {
	w     io.Writer
	r     *bufio.Reader
	frame []byte
}

func newFrameLink(r io.Reader, w io.Writer) *frameLink {
	return &frameLink{w: w, r: bufio.NewReaderSize(r, 2*readBuffer)}
}

func numbered(name string, i int) string { return fmt.Sprintf("%s%d", name, i) }

func openConn(p *bench.Post, name string, e end) (net.Conn, error) {
	f, err := p.File(numbered(name, e.sender))
	if err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

func openUnix(p *bench.Post, e end) (link, error) {
	c, err := openConn(p, bench.FileUnix, e)
	if err != nil {
		return nil, err
	}
	return newFrameLink(c, c), nil
}

func openPipe(p *bench.Post, e end) (link, error) {
	up, err := p.File(numbered(bench.FilePipeUp, e.sender))
	if err != nil {
		return nil, err
	}
	down, err := p.File(numbered(bench.FilePipeDown, e.sender))
	if err != nil {
		return nil, err
	}
	if p.Receiver {
		return newFrameLink(up, down), nil
	}
	return newFrameLink(down, up), nil
}

func (l *frameLink) send(b []byte) error {
	l.frame = appendFrame(l.frame[:0], b)
	_, err := l.w.Write(l.frame)
	return err
}

func (l *frameLink) sendBatch(msgs [][]byte) error {
	l.frame = l.frame[:0]
	for _, b := range msgs {
		l.frame = appendFrame(l.frame, b)
	}
	_, err := l.w.Write(l.frame)
	return err
}

func appendFrame(to, b []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(to, uint32(len(b))), b...)
}

func (l *frameLink) receive(n uint64, s *sequence) error {
	for range n {
		head, err := l.r.Peek(frameHeader)
		if err != nil {
			return err
		}
		size := frameHeader + int(binary.LittleEndian.Uint32(head))
		b, err := l.r.Peek(size)
		if err != nil {
			return err
		}
		if err := s.check(b[frameHeader:]); err != nil {
			return err
		}
		if _, err := l.r.Discard(size); err != nil {
			return err
		}
	}
	return nil
}

// packetLink is a socket that keeps messages apart.
type packetLink struct {
	conn net.Conn
	buf  []byte
}

func openSeqpacket(p *bench.Post, e end) (link, error) {
	c, err := openConn(p, bench.FileSeq, e)
	if err != nil {
		return nil, err
	}
	return &packetLink{c, make([]byte, 128<<10)}, nil
}

func (l *packetLink) send(b []byte) error {
	_, err := l.conn.Write(b)
	return err
}

func (l *packetLink) sendBatch(msgs [][]byte) error { return eachOf(l, msgs) }

func (l *packetLink) receive(n uint64, s *sequence) error {
	for range n {
		size, err := l.conn.Read(l.buf)
		if err != nil {
			return err
		}
		if err := s.check(l.buf[:size]); err != nil {
			return err
		}
	}
	return nil
}
