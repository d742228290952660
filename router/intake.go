package router

import (
	"runtime"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
)

// poll copies what is there, a batch at most, and returns how many frames.
func (m *monitor) poll() int {
	if m.n.broken.Load() {
		return 0
	}
	if m.n.opts.resume {
		m.release = newReleaseRef(m.n)
	}
	m.messages, m.bytes, m.resynced = 0, 0, false
	polled, err := m.cons.Poll(batchItems, m.taker)
	if m.messages > 0 {
		m.n.count.copied.Add(m.messages)
		m.n.count.bytes.Add(m.bytes)
	}
	if m.release != nil {
		if pos := m.cons.Position(); polled > 0 || pos != m.released {
			m.release.publish(pos)
			m.released = pos
		}
		m.release = nil
	}
	if err != nil {
		m.trouble(err)
	}
	return polled
}

// take is step 5 of a message's way: from a frame, borrowed, to a message, owned.
// What a frame says of itself is not trusted.
func (m *monitor) take(f ring.Frame) ring.Action {
	kind, index, seq, ok := wire.UnpackMeta(f.Meta)
	rcv := m.n.pipes.at(index)
	if !ok || rcv == nil || rcv.endQueued {
		m.n.count.malformed.Add(1)
		return ring.Continue
	}
	switch kind {
	case wire.Data:
		m.add(rcv, m.slab.clone(f.Data), seq, f.Position)
	case wire.First, wire.More, wire.Last:
		if data, whole := m.parts.take(m, rcv, kind, f); whole {
			m.add(rcv, data, seq, f.Position)
		}
	case wire.End:
		if !wire.Ends(f.Data, rcv.id) { // left behind by an earlier pipe, and met by damage
			m.n.count.malformed.Add(1)
			return ring.Continue
		}
		m.queueEnd(rcv, nil)
	}
	if len(m.out.items) >= batchItems || m.outBytes >= batchBytes {
		return ring.Break
	}
	return ring.Continue
}

func (m *monitor) add(rcv *Receiver, data []byte, seq uint16, pos uint64) {
	if rcv.resumed {
		// The number of an earlier life may be behind or, if that died between noting
		// it and releasing, ahead.
		rcv.seq += uint64(int16(seq - uint16(rcv.seq)))
		rcv.resumed = false
	} else {
		rcv.seq = wire.ExtendSeq(rcv.seq, seq)
	}
	msg := Message{Data: data, Seq: rcv.seq, Redelivered: int64(pos-m.newUntil) < 0}
	if m.release != nil {
		m.release.hold(rcv)
		m.out.held = m.release
	}
	m.out.items = append(m.out.items, item{to: rcv, msg: msg})
	m.outBytes += len(data)
	m.messages++
	m.bytes += uint64(len(data))
}

// queueEnd puts rcv's end behind all of its messages, once. Its sender is gone.
func (m *monitor) queueEnd(rcv *Receiver, end error) {
	if rcv.endQueued {
		return
	}
	rcv.endQueued = true
	if rcv.part > 0 {
		m.parts.drop(m, rcv.part-1)
	}
	m.n.count.ends.Add(1)
	if end != nil {
		m.n.count.deaths.Add(1)
	}
	m.out.items = append(m.out.items, item{to: rcv, mark: &mark{end: end}})
	m.n.senderGone(rcv)
}

// handOver is step 6. While the inbox is full the monitor waits here, the ring
// fills, and senders wait: memory is bounded.
func (m *monitor) handOver() {
	if len(m.out.items) == 0 {
		return
	}
	if !m.n.inbox.put(m.out, m.n.stopping) {
		return
	}
	m.handed++
	m.n.ping()
	m.out = m.n.inbox.fresh()
	m.outBytes = 0
	// The loop that was just made ready may wait in this thread's queue. Going to
	// sleep in the kernel would leave it there until the scheduler's own watch
	// comes by, up to 10 ms later.
	runtime.Gosched()
}
