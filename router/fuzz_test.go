package router

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
)

// FuzzRouter has two processes' worth of frames go through a real ring into a
// router: any kind, pipe, number and payload. A plain account of what a router
// does with them says what must come out, and an honest sender is served
// throughout.
func FuzzRouter(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 0, 1, 5, 2, 0, 1, 5, 4, 0, 1, 5, 3, 0, 1, 5})
	f.Add([]byte{2, 0, 0, 20, 3, 0, 0, 20, 4, 0, 0, 20, 5, 0, 16, 0, 5, 0, 8, 0, 1, 0, 0, 3}) // the End of another pipe, and its own
	f.Fuzz(func(t *testing.T, in []byte) {
		const most = 40
		r, err := New(WithCapacity(64<<10), WithMaxPipes(8), WithMaxMessage(fuzzMax))
		must(t, err)
		must(t, r.Start())
		defer halt(t, r)
		a := newAccount(t, r)
		honest, rcv := pipe(t, r)
		must(t, honest.Start())
		var prods []*ring.Producer
		for range 2 {
			att, err := r.cur.Load().ring.Attach()
			must(t, err)
			defer att.Close()
			prods = append(prods, att.NewProducer())
		}
		for range most {
			if len(in) < 4 {
				break
			}
			frame := fuzzedFrame(in[:4])
			in = in[4:]
			if frame.index == rcv.index {
				frame.index++
			}
			must(t, prods[frame.process].Send(background, frame.payload, frame.meta()))
			a.enter(frame)
		}
		must(t, honest.Send(background, []byte("served")))
		m, err := rcv.Recv(background)
		must(t, err)
		if string(m.Data) != "served" || m.Seq != 1 {
			t.Fatalf("%q, number %d", m.Data, m.Seq)
		}
		must(t, honest.Stop())
		if _, err := rcv.Recv(background); err != io.EOF {
			t.Fatal(err)
		}
		a.compare()
	})
}

const fuzzMax = 5000 // bytes of a message

// fuzzFrame is one frame of somebody who keeps to no rules.
type fuzzFrame struct {
	process int
	kind    wire.Kind
	index   uint32
	seq     uint16
	payload []byte
	stray   uint64 // meta bits that mean nothing
}

func (f *fuzzFrame) meta() uint64 { return wire.Meta(f.kind, f.index, uint64(f.seq)) | f.stray }

// fuzzedFrame makes a frame of four bytes, one that could be meant more often than not.
func fuzzedFrame(in []byte) fuzzFrame {
	f := fuzzFrame{process: int(in[0] >> 7), kind: wire.Kind(in[0] & 7), index: uint32(in[1] & 3), seq: uint16(in[1] >> 4)}
	if in[1]&0xc == 0xc {
		f.index = []uint32{2, 3, 7, 8, 1024, wire.MaxPipes - 1, 0, 1}[in[1]>>5]
	}
	if in[2]&0x40 != 0 {
		f.seq *= 4099
	}
	size := []int{0, 1, 7, 8, 9, 100, 2048, 2049, 3000, fuzzMax}[int(in[3])%10]
	f.payload = bytes.Repeat([]byte{in[3]}, size)
	if f.kind == wire.First && in[0]&0x40 == 0 {
		says := []uint64{0, 1, 100, 2049, 3000, fuzzMax, fuzzMax + 1, 1 << 31, 1 << 63, 1<<64 - 1, uint64(size), 2 * uint64(size)}[int(in[2]&0x3f)%12]
		f.payload = append(binary.LittleEndian.AppendUint64(nil, says), f.payload...)
	}
	if f.kind == wire.End && in[0]&0x40 == 0 { // the pipes' ids are 1 and 2
		f.payload = wire.EndPayload(uint64(in[2]&0x3f) / 8)
	}
	return f
}

// account is what a router has to do with frames, said once more and without
// regard for memory.
type account struct {
	t     *testing.T
	r     *Router
	pipes [2]*accountPipe
	open  [2]*accountPart // by process

	copied, malformed, unfinished, ends uint64
}

type accountPipe struct {
	rcv   *Receiver
	want  []Message
	ended bool
}

type accountPart struct {
	to   *accountPipe
	size uint64
	data []byte
}

func newAccount(t *testing.T, r *Router) *account {
	a := &account{t: t, r: r}
	for i := range a.pipes {
		_, rcv := pipe(t, r)
		a.pipes[i] = &accountPipe{rcv: rcv}
	}
	return a
}

func (a *account) enter(f fuzzFrame) {
	if f.kind < wire.Data || f.kind > wire.End || int(f.index) >= len(a.pipes) || a.pipes[f.index].ended {
		a.malformed++
		return
	}
	p := a.pipes[f.index]
	open := &a.open[f.process]
	switch f.kind {
	case wire.Data:
		a.message(p, f.payload, f.seq)
	case wire.End:
		if !wire.Ends(f.payload, p.rcv.id) {
			a.malformed++
			return
		}
		p.ended = true
		a.ends++
		a.drop(func(part *accountPart) bool { return part.to == p })
	case wire.First:
		a.drop(func(part *accountPart) bool { return part == *open })
		if len(f.payload) < 8 || binary.LittleEndian.Uint64(f.payload) > fuzzMax {
			a.malformed++
			return
		}
		a.drop(func(part *accountPart) bool { return part.to == p })
		*open = &accountPart{to: p, size: binary.LittleEndian.Uint64(f.payload)}
		f.payload = f.payload[8:]
		fallthrough
	default:
		part := *open
		if part == nil {
			return
		}
		part.data = append(part.data, f.payload...)
		n := uint64(len(part.data))
		if part.to != p || n > part.size || f.kind == wire.Last && n != part.size {
			a.malformed++
			a.drop(func(other *accountPart) bool { return other == part })
		} else if f.kind == wire.Last {
			*open = nil
			a.message(p, part.data, f.seq)
		}
	}
}

func (a *account) drop(which func(*accountPart) bool) {
	for i, part := range a.open {
		if part != nil && which(part) {
			a.open[i] = nil
			a.unfinished++
		}
	}
}

func (a *account) message(p *accountPipe, data []byte, seq uint16) {
	var last uint64
	if n := len(p.want); n > 0 {
		last = p.want[n-1].Seq
	}
	last += uint64(seq - uint16(last)) // gaps are not counted beyond 16 bits
	p.want = append(p.want, Message{Data: data, Seq: last})
	a.copied++
}

func (a *account) compare() {
	for i, p := range a.pipes {
		for k, want := range p.want {
			got, err := p.rcv.Recv(background)
			must(a.t, err)
			if !bytes.Equal(got.Data, want.Data) || cap(got.Data) != len(got.Data) || got.Seq != want.Seq {
				a.t.Fatalf("pipe %d, message %d: %d bytes, number %d; want %d bytes, number %d", i, k, len(got.Data), got.Seq, len(want.Data), want.Seq)
			}
		}
		if p.ended {
			if _, err := p.rcv.Recv(background); err != io.EOF {
				a.t.Fatalf("pipe %d: end %v", i, err)
			}
		}
	}
	got := a.r.Stats()
	for name, n := range map[string][2]uint64{
		"copied": {got.Copied, a.copied + 1}, "malformed": {got.Malformed, a.malformed},
		"unfinished": {got.Unfinished, a.unfinished}, "ends": {got.Ends, a.ends + 1},
	} {
		if n[0] != n[1] {
			a.t.Errorf("%d %s, want %d", n[0], name, n[1])
		}
	}
	if got.Damages != 0 || got.Broken {
		a.t.Errorf("%+v", got)
	}
}
