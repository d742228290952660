package router

import (
	"encoding/binary"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
)

// parts puts large messages together. A process sends one at a time, so there is
// at most one for each slot; whole messages pass between its frames.
type parts struct {
	open [ring.MaxSlots + 1]*part
}

type part struct {
	to   *Receiver
	data []byte
	size int
}

// trust is how many times what has arrived of a message its memory may be: a
// peer that announces much and sends little costs little.
const trust = 4

// take returns a whole message with its last frame.
func (p *parts) take(m *monitor, rcv *Receiver, kind wire.Kind, f ring.Frame) (data []byte, whole bool) {
	open := p.open[f.Slot]
	payload := f.Data
	if kind == wire.First {
		p.drop(m, f.Slot) // its sender gave that one up, or died
		if len(payload) < 8 {
			m.n.count.malformed.Add(1)
			return nil, false
		}
		size := binary.LittleEndian.Uint64(payload)
		if most := m.n.dir.MaxMessage(); m.n.opts.resume || most > 0 && size > most || size > 1<<40 {
			m.n.count.malformed.Add(1)
			return nil, false
		}
		open = &part{to: rcv, size: int(size)}
		p.drop(m, rcv.part-1) // of another slot: only who does not keep to the rules has two
		p.open[f.Slot], rcv.part = open, f.Slot+1
		payload = payload[8:]
	}
	switch {
	case open == nil: // the rest of one that was dropped
		return nil, false
	case open.to != rcv || len(open.data)+len(payload) > open.size:
		m.n.count.malformed.Add(1)
		p.drop(m, f.Slot)
		return nil, false
	}
	open.append(payload)
	if kind != wire.Last {
		return nil, false
	}
	if len(open.data) != open.size {
		m.n.count.malformed.Add(1)
		p.drop(m, f.Slot)
		return nil, false
	}
	p.open[f.Slot], rcv.part = nil, 0
	return open.data[:open.size:open.size], true
}

func (p *part) append(b []byte) {
	if need := len(p.data) + len(b); need > cap(p.data) {
		grown := make([]byte, len(p.data), min(p.size, trust*need))
		copy(grown, p.data)
		p.data = grown
	}
	p.data = append(p.data, b...)
}

// drop gives up what was begun by a slot. A pipe's end does so, too: not the
// death of its process, of which the rest of the message may still lie in the ring.
func (p *parts) drop(m *monitor, slot int) {
	if slot >= 0 && p.open[slot] != nil {
		m.n.count.unfinished.Add(1)
		p.open[slot].to.part = 0
		p.open[slot] = nil
	}
}
