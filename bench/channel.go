package bench

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"
)

// The baseline inside one process: a Go channel of arrays, from a goroutine for
// each sender to one that receives. The kernel places its threads.

const (
	channelBytes  = 4 << 20 // what a channel holds, as a ring does,
	channelLength = 1024    // but not more messages
)

// doStreamInside is what senders and receiver do, in one process.
func (a *actor) doStreamInside(o Order) (Report, error) {
	l, err := newChannelLink(o.Size * max(o.Batch, 1))
	if err != nil {
		return Report{}, err
	}
	v := newVerifier(o.Size, a.Senders, o.Verify)
	v.follow(o, a.Senders)
	rep := Report{First: now()}
	sent := make([]Report, a.Senders)
	errs := make([]error, a.Senders)
	var wg sync.WaitGroup
	for s := range a.Senders {
		wg.Go(func() {
			me := &actor{setup: setup{Index: s, Senders: a.Senders}, out: map[string]outlet{string(Channel): l.outlet(o)}}
			sent[s], errs[s] = me.doSend(o)
		})
	}
	if !o.Mute {
		err = l.inlet(o).receive(o.N, v)
	}
	rep.Last = now()
	if err != nil {
		return rep, err // and senders that wait for ever: the crew ends with it
	}
	wg.Wait()
	for s, r := range sent {
		rep.Spun += r.Spun
		if errs[s] != nil {
			return rep, errs[s]
		}
	}
	if v.latency != nil {
		lat := v.latency.latency()
		rep.Latency = &lat
	}
	if o.Mute {
		return rep, nil
	}
	return rep, v.complete(func(s int) uint64 { return share(o.N, s, a.Senders) })
}

// doTripInside makes round trips between two goroutines.
func (a *actor) doTripInside(o Order) (Report, error) {
	up, err := newChannelLink(o.Size)
	if err != nil {
		return Report{}, err
	}
	down, err := newChannelLink(o.Size)
	if err != nil {
		return Report{}, err
	}
	echo := make(chan error, 1)
	go func() {
		_, err := echoAll(up.inlet(o), down.outlet(o), o)
		echo <- err
	}()
	rep, err := pingAll(down.inlet(o), up.outlet(o), o)
	if err != nil {
		return rep, err
	}
	return rep, <-echo
}

// channelLink is a channel of one kind of arrays.
type channelLink interface {
	outlet(o Order) outlet
	inlet(o Order) inlet
}

// parcel is an array of bytes.
type parcel[T any] interface {
	*T
	bytes() []byte
}

type (
	bytes16  [16]byte
	bytes64  [64]byte
	bytes256 [256]byte
	bytes1K  [1 << 10]byte
	bytes2K  [2 << 10]byte
	bytes4K  [4 << 10]byte
	bytes16K [16 << 10]byte
)

func (b *bytes16) bytes() []byte  { return b[:] }
func (b *bytes64) bytes() []byte  { return b[:] }
func (b *bytes256) bytes() []byte { return b[:] }
func (b *bytes1K) bytes() []byte  { return b[:] }
func (b *bytes2K) bytes() []byte  { return b[:] }
func (b *bytes4K) bytes() []byte  { return b[:] }
func (b *bytes16K) bytes() []byte { return b[:] }

// newChannelLink makes a channel of arrays of a size, which are one message or
// a batch.
func newChannelLink(size int) (channelLink, error) {
	switch size {
	case 16:
		return newChannelOf[bytes16](), nil
	case 64:
		return newChannelOf[bytes64](), nil
	case 256:
		return newChannelOf[bytes256](), nil
	case 1 << 10:
		return newChannelOf[bytes1K](), nil
	case 2 << 10:
		return newChannelOf[bytes2K](), nil
	case 4 << 10:
		return newChannelOf[bytes4K](), nil
	case 16 << 10:
		return newChannelOf[bytes16K](), nil
	}
	return nil, fmt.Errorf("bench: no channel of %d bytes", size)
}

// endOfBatch stands in place of a message's number behind the last one.
const endOfBatch = math.MaxUint64

type channelOf[T any, P parcel[T]] chan T

func newChannelOf[T any, P parcel[T]]() channelOf[T, P] {
	var b T
	return make(chan T, min(channelLength, channelBytes/len(P(&b).bytes())))
}

func (c channelOf[T, P]) outlet(Order) outlet { return &channelOutlet[T, P]{c: c} }
func (c channelOf[T, P]) inlet(o Order) inlet { return &channelInlet[T, P]{c: c, size: o.Size} }

type channelOutlet[T any, P parcel[T]] struct {
	c chan<- T
	b T
}

func (o *channelOutlet[T, P]) send(b []byte) error {
	copy(P(&o.b).bytes(), b)
	o.c <- o.b
	return nil
}

func (o *channelOutlet[T, P]) sendBatch(msgs [][]byte) error {
	to := P(&o.b).bytes()
	for _, b := range msgs {
		to = to[copy(to, b):]
	}
	if len(to) > 0 { // the last batch of an order may be a short one
		binary.LittleEndian.PutUint64(to, endOfBatch)
	}
	o.c <- o.b
	return nil
}

type channelInlet[T any, P parcel[T]] struct {
	c    <-chan T
	size int
	b    T
}

func (in *channelInlet[T, P]) receive(n uint64, v *verifier) error {
	for n > 0 {
		in.b = <-in.c
		for b := P(&in.b).bytes(); len(b) > 0; b = b[in.size:] {
			if binary.LittleEndian.Uint64(b) == endOfBatch {
				break
			}
			if err := v.check(b[:in.size]); err != nil {
				return err
			}
			n--
		}
	}
	return nil
}
