package bench

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"os"
)

// The baselines, as a Go programmer would write them: a frame is its length in
// four bytes and its payload; it goes out in one write, and comes in through a
// buffered reader of 64 KiB. Pipes are used as a child process inherits them,
// in blocking mode, which is a tenth faster than through the runtime's poller;
// sockets, as net makes them, wait in the poller.

const readBuffer = 64 << 10

// frameOutlet writes frames to a stream.
type frameOutlet struct {
	w     io.Writer
	frame []byte
}

func (o *frameOutlet) send(b []byte) error {
	o.frame = o.frame[:0]
	o.add(b)
	return o.write()
}

func (o *frameOutlet) sendBatch(msgs [][]byte) error {
	o.frame = o.frame[:0]
	for _, b := range msgs {
		o.add(b)
	}
	return o.write()
}

func (o *frameOutlet) add(b []byte) {
	o.frame = binary.LittleEndian.AppendUint32(o.frame, uint32(len(b)))
	o.frame = append(o.frame, b...)
}

func (o *frameOutlet) write() error {
	_, err := o.w.Write(o.frame)
	return err
}

// frameInlet reads frames from a stream.
type frameInlet struct {
	r    *bufio.Reader
	head [4]byte
	buf  []byte
}

func newFrameInlet(r io.Reader) *frameInlet {
	return &frameInlet{r: bufio.NewReaderSize(r, readBuffer), buf: make([]byte, 1<<20)}
}

func (in *frameInlet) receive(n uint64, v *verifier) error {
	for range n {
		b, err := in.next()
		if err != nil {
			return err
		}
		if err := v.check(b); err != nil {
			return err
		}
	}
	return nil
}

// next returns a message, which is good until the one after it.
func (in *frameInlet) next() ([]byte, error) {
	if _, err := io.ReadFull(in.r, in.head[:]); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(in.head[:])
	if uint64(size) > uint64(len(in.buf)) {
		return nil, ErrBadMessage
	}
	b := in.buf[:size]
	_, err := io.ReadFull(in.r, b)
	return b, err
}

// packetOutlet and packetInlet use a socket that keeps messages apart.
type packetOutlet struct{ conn net.Conn }

func (o packetOutlet) send(b []byte) error {
	_, err := o.conn.Write(b)
	return err
}

func (o packetOutlet) sendBatch(msgs [][]byte) error {
	for _, b := range msgs {
		if err := o.send(b); err != nil {
			return err
		}
	}
	return nil
}

type packetInlet struct {
	conn net.Conn
	buf  []byte
}

func (in *packetInlet) receive(n uint64, v *verifier) error {
	for range n {
		size, err := in.conn.Read(in.buf)
		if err != nil {
			return err
		}
		if err := v.check(in.buf[:size]); err != nil {
			return err
		}
	}
	return nil
}

// openSocket makes a connection of an inherited socket.
func openSocket(f *os.File) (net.Conn, error) { return net.FileConn(f) }
