package main

import (
	"context"
	"path/filepath"

	"github.com/go-zeromq/zmq4"

	"github.com/shmrouter/shmrouter/bench"
)

func init() {
	addPeer(&peer{name: "zmq", title: "go-zeromq/zmq4 ipc", module: "github.com/go-zeromq/zmq4", open: openZmq,
		how: "PAIR over ipc; SendMulti, which writes header and payload at once where Send writes them apart; a batch is one message of many frames."})
}

type zmqLink struct {
	sock  zmq4.Socket
	early [][]byte // frames of a message that were not asked for yet
}

func openZmq(p *bench.Post, e end) (link, error) {
	sock := zmq4.NewPair(context.Background())
	url := "ipc://" + filepath.Join(p.Dir, numbered("zmq", e.sender))
	if p.Receiver {
		return &zmqLink{sock: sock}, sock.Listen(url)
	}
	return &zmqLink{sock: sock}, sock.Dial(url)
}

func (l *zmqLink) send(b []byte) error { return l.sock.SendMulti(zmq4.NewMsg(b)) }

func (l *zmqLink) sendBatch(msgs [][]byte) error { return l.sock.SendMulti(zmq4.NewMsgFrom(msgs...)) }

func (l *zmqLink) receive(n uint64, s *sequence) error {
	for ; n > 0; n-- {
		if len(l.early) == 0 {
			m, err := l.sock.Recv()
			if err != nil {
				return err
			}
			l.early = m.Frames
		}
		b := l.early[0]
		l.early = l.early[1:]
		if err := s.check(b); err != nil {
			return err
		}
	}
	return nil
}
