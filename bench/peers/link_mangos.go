package main

import (
	"path/filepath"

	"go.nanomsg.org/mangos/v3"
	mangospair "go.nanomsg.org/mangos/v3/protocol/pair"
	_ "go.nanomsg.org/mangos/v3/transport/ipc" // registers ipc://

	"github.com/shmrouter/shmrouter/bench"
)

func init() {
	addPeer(&peer{name: "mangos", title: "mangos ipc", module: "go.nanomsg.org/mangos/v3", open: openMangos,
		how: "PAIR over ipc, as its own perf tool does; NewMessage, SendMsg, RecvMsg and Free, so that messages are reused; queues of 1024."})
}

const mangosQueue = 1024

type mangosLink struct{ sock mangos.Socket }

func openMangos(p *bench.Post, e end) (link, error) {
	sock, err := mangospair.NewSocket()
	if err != nil {
		return nil, err
	}
	for _, option := range []string{mangos.OptionReadQLen, mangos.OptionWriteQLen} {
		if err := sock.SetOption(option, mangosQueue); err != nil {
			return nil, err
		}
	}
	url := "ipc://" + filepath.Join(p.Dir, numbered("mangos", e.sender))
	if p.Receiver {
		err = sock.Listen(url)
	} else {
		err = sock.Dial(url)
	}
	return &mangosLink{sock}, err
}

func (l *mangosLink) send(b []byte) error {
	m := mangos.NewMessage(len(b))
	m.Body = append(m.Body, b...)
	return l.sock.SendMsg(m)
}

func (l *mangosLink) sendBatch(msgs [][]byte) error { return eachOf(l, msgs) }

func (l *mangosLink) receive(n uint64, s *sequence) error {
	for range n {
		m, err := l.sock.RecvMsg()
		if err != nil {
			return err
		}
		err = s.check(m.Body)
		m.Free()
		if err != nil {
			return err
		}
	}
	return nil
}
