package sweep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
)

// An order is what the neighbour, a producer in a process of its own, is told to do. It numbers its messages
// from 1 in each world.
type order struct {
	Do       string
	Count    int           `json:",omitempty"`
	Size     int           `json:",omitempty"` // of each message, 0: a mixture
	Until    uint64        `json:",omitempty"` // position
	Patience time.Duration `json:",omitempty"`
	Seed     uint64        `json:",omitempty"`
	Env      string        `json:",omitempty"` // sender.EnvName of a router's worker
	FD       int           `json:",omitempty"` // where that expects the file
}

// Orders.
const (
	doRing   = "ring"   // attach to the ring in the file that comes with the order
	doRouter = "router" // start the sender in Env
	doReach  = "reach"  // send until position Until
	doSend   = "send"   // send Count messages, waiting for room for Patience at most
	doPress  = "press"  // the same, but room that does not come ends it, and is no error
	doFill   = "fill"   // send until the ring is full
	doBatch  = "batch"  // send Count messages in one record
	doClaim  = "claim"  // open a claim
	doCommit = "commit" // commit it
	doAbort  = "abort"  // open and abort a claim
	doLeave  = "leave"  // detach
)

// answer is what the neighbour says when it is done.
type answer struct {
	Err      string
	Sent     uint64 // messages in all, in this world
	Full     bool   // Press: there was no room, as TrySend said, and Send when its time was over
	Orphaned bool   // Press: there was no consumer
}

const (
	neighbourEnv = "SHMDEMO_NEIGHBOUR"
	socketFD     = 3
)

// Neighbour plays the neighbour, if that is what this process was started for.
func playNeighbour() int {
	<-shm.JoinBarriers() // as the victims
	n := &neighbour{}
	for {
		o, file, err := n.hear()
		if err != nil {
			return 0 // the sweep is gone
		}
		a := answer{}
		if err := n.obey(o, file, &a); err != nil {
			a.Err = err.Error()
		}
		a.Sent = n.sent
		text, _ := json.Marshal(a)
		if err := unix.Sendmsg(socketFD, text, nil, nil, 0); err != nil {
			return 0
		}
	}
}

type neighbour struct {
	ring   *ring.Ring
	att    *ring.Attachment
	prod   *ring.Producer
	sender *sender.Sender
	claim  interface{ Commit() error }
	sent   uint64
}

func (n *neighbour) hear() (o order, file *os.File, err error) {
	text, rights := make([]byte, 8192), make([]byte, unix.CmsgSpace(4))
	k, r, _, _, err := unix.Recvmsg(socketFD, text, rights, unix.MSG_CMSG_CLOEXEC)
	if err == nil && k == 0 {
		err = os.ErrClosed
	}
	if err != nil {
		return o, nil, err
	}
	if messages, _ := unix.ParseSocketControlMessage(rights[:r]); len(messages) > 0 {
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil {
			return o, nil, err
		}
		file = os.NewFile(uintptr(fds[0]), "segment")
	}
	return o, file, json.Unmarshal(text[:k], &o)
}

func (n *neighbour) obey(o order, file *os.File, a *answer) error {
	if file != nil {
		defer file.Close()
	}
	switch o.Do {
	case doRing:
		return n.attach(file)
	case doRouter:
		return n.start(o, file)
	case doReach:
		return n.reach(o.Until)
	case doSend:
		return n.sendAll(o)
	case doPress:
		return n.press(o, a)
	case doFill:
		err := n.sendEach(o, 1<<20, func(b []byte) error { return n.prod.TrySend(b, 0) })
		if errors.Is(err, ring.ErrFull) {
			return nil
		}
		return err
	case doBatch:
		var batch [][]byte
		for i := range o.Count {
			batch = append(batch, message(byNeighbour, n.sent+1+uint64(i), o.Size))
		}
		n.sent += uint64(o.Count)
		return n.prod.TryBatch(batch, nil)
	case doClaim:
		return n.open(o)
	case doCommit:
		return n.claim.Commit()
	case doAbort:
		c, err := n.prod.TryClaim(o.Size, 0)
		c.Abort()
		return err
	case doLeave:
		return n.leave()
	}
	return fmt.Errorf("no order %q", o.Do)
}

func (n *neighbour) attach(file *os.File) (err error) {
	*n = neighbour{}
	if n.ring, err = ring.OpenFile(file); err != nil {
		return err
	}
	if n.att, err = n.ring.Attach(); err != nil {
		return err
	}
	n.prod = n.att.NewProducer()
	return nil
}

func (n *neighbour) start(o order, file *os.File) (err error) {
	*n = neighbour{}
	if err := unix.Dup3(int(file.Fd()), o.FD, unix.O_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(o.FD)
	os.Setenv(sender.EnvName, o.Env)
	if n.sender, err = sender.FromEnv(); err != nil {
		return err
	}
	return n.sender.Start()
}

// reach sends frames that end exactly at a position.
func (n *neighbour) reach(until uint64) error {
	for at := n.prod.Position(); at < until; at = n.prod.Position() {
		g := min(n.ring.MaxFrame()/ring.Granule, int(until-at))
		n.sent++
		if err := n.prod.TrySend(message(byNeighbour, n.sent, g*ring.Granule), 0); err != nil {
			return err
		}
	}
	return nil
}

// open opens a claim, already filled with the next message.
func (n *neighbour) open(o order) error {
	b := message(byNeighbour, n.sent+1, o.Size)
	if n.sender != nil {
		c, err := n.sender.TryClaim(o.Size)
		copy(c.Bytes(), b)
		n.claim = c
		n.sent++
		return err
	}
	c, err := n.prod.TryClaim(o.Size, 0)
	copy(c.Bytes(), b)
	n.claim = c
	n.sent++
	return err
}

// sendEach makes the messages, and counts those that way returned nil for.
func (n *neighbour) sendEach(o order, count int, way func([]byte) error) error {
	for i := range count {
		size := o.Size
		if size == 0 {
			size = mixture(o.Seed + uint64(i))
		}
		if err := way(message(byNeighbour, n.sent+1, size)); err != nil {
			return err
		}
		n.sent++
	}
	return nil
}

// mixture is a length: mostly small, some of many granules, so that laps end everywhere.
func mixture(r uint64) int {
	r = mix(r)
	if r%4 == 0 {
		return headerSize + int(r>>8%7000)
	}
	return headerSize + int(r>>8%500)
}

func (n *neighbour) send(ctx context.Context, b []byte) error {
	if n.sender != nil {
		return n.sender.Send(ctx, b)
	}
	return n.prod.Send(ctx, b, 0)
}

func (n *neighbour) trySend(b []byte) error {
	if n.sender != nil {
		return n.sender.TrySend(b)
	}
	return n.prod.TrySend(b, 0)
}

func (n *neighbour) sendAll(o order) error {
	ctx, cancel := context.WithTimeout(context.Background(), o.Patience)
	defer cancel()
	return n.sendEach(o, o.Count, func(b []byte) error { return n.send(ctx, b) })
}

// press sends until there is no room for Patience. It says so only if TrySend agrees.
func (n *neighbour) press(o order, a *answer) error {
	err := n.sendEach(o, o.Count, func(b []byte) error {
		for {
			err := n.trySend(b)
			if !errors.Is(err, ring.ErrFull) {
				return err
			}
			ctx, cancel := context.WithTimeout(context.Background(), o.Patience)
			err = n.send(ctx, b)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			if err = n.trySend(b); errors.Is(err, ring.ErrFull) {
				return err
			} else if err == nil {
				return nil
			}
		}
	})
	a.Full = errors.Is(err, ring.ErrFull)
	a.Orphaned = errors.Is(err, ring.ErrNoConsumer)
	if a.Full || a.Orphaned {
		return nil
	}
	return err
}

func (n *neighbour) leave() (err error) {
	if n.sender != nil {
		err = n.sender.Stop()
	} else if n.att != nil {
		err = errors.Join(n.att.Close(), n.ring.Close())
	}
	n.ring, n.att, n.prod, n.sender, n.claim = nil, nil, nil, nil, nil
	return err
}
