package main

import (
	"fmt"
	"maps"
	"runtime/debug"
	"slices"

	"github.com/shmrouter/shmrouter/bench"
)

// A link is one end of a connection between a sending process and the
// receiving one. It carries messages both ways.
type link interface {
	// send blocks until b is on its way, or in the peer's own buffer; b may be
	// changed then.
	send(b []byte) error
	// sendBatch sends many at once, as the peer means it to be done.
	sendBatch(msgs [][]byte) error
	// receive takes exactly n messages and gives each to s.
	receive(n uint64, s *sequence) error
}

// tuner is a link that has to be told of each run.
type tuner interface{ tune(e end) error }

// end says which link is wanted; Post.Receiver says which end of it.
type end struct {
	sender int
	size   int
	wait   string
}

// A peer is what carries the messages: the ring, or what is compared with it.
type peer struct {
	name   string // in flags and files
	title  string // in tables
	module string // whose version is stated; empty for what the kernel or Go has
	how    string // how it is driven, for the docs
	most   int    // bytes in a message at most, 0 for any number
	shared bool   // the receiver has one link for all senders
	sized  bool   // a link is made for messages of one size
	open   func(p *bench.Post, e end) (link, error)
}

var peers = map[string]*peer{}

func addPeer(p *peer) { peers[p.name] = p }

// peerNames is in order.
func peerNames() []string { return slices.Sorted(maps.Keys(peers)) }

// version is that of the peer's module in this program.
func (p *peer) version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || p.module == "" {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == p.module {
			return m.Version
		}
	}
	return ""
}

// linkOf opens a link, or takes the one that an earlier run has opened.
func linkOf(p *bench.Post, a args, sender int) (link, error) {
	pr := peers[a.Via]
	if pr == nil {
		return nil, fmt.Errorf("no such peer: %q", a.Via)
	}
	e := end{sender: sender, size: a.Size, wait: a.Wait}
	key := fmt.Sprintf("%s %d", a.Via, sender)
	if pr.sized {
		key = fmt.Sprintf("%s of %d bytes", key, a.Size)
	}
	l, ok := p.Kept[key].(link)
	if !ok {
		var err error
		if l, err = pr.open(p, e); err != nil {
			return nil, fmt.Errorf("%s: %w", a.Via, err)
		}
		p.Kept[key] = l
	}
	if t, ok := l.(tuner); ok {
		return l, t.tune(e)
	}
	return l, nil
}

// eachOf is sendBatch for peers that know no batches.
func eachOf(l link, msgs [][]byte) error {
	for _, b := range msgs {
		if err := l.send(b); err != nil {
			return err
		}
	}
	return nil
}
