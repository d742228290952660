package bench

import (
	"context"
	"errors"
	"os"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// pollLimit is the number of messages that a receiver takes at a time.
const pollLimit = 256

// ringOutlet sends on a ring as any program would.
type ringOutlet struct {
	r *ring.Ring
	p *ring.Producer
}

func openRingOutlet(f *os.File) (*ringOutlet, error) {
	r, err := ring.OpenFile(f)
	if err != nil {
		return nil, err
	}
	a, err := r.Attach()
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return &ringOutlet{r, a.NewProducer()}, nil
}

func (o *ringOutlet) send(b []byte) error { return o.p.Send(context.Background(), b, 0) }

func (o *ringOutlet) sendBatch(msgs [][]byte) error {
	return o.p.SendBatch(context.Background(), msgs, nil)
}

// drained reports whether everything sent here has been released.
func (o *ringOutlet) drained() bool { return o.r.Head() >= o.p.Position() }

// ringInlet is the consumer of a ring. Its process keeps the seat from the
// first run to its end.
type ringInlet struct {
	r    *ring.Ring
	c    *ring.Consumer
	wait Wait

	take func(ring.Frame) ring.Action // made once, so that a receive does not allocate
	v    *verifier
	err  error
}

func openRingInlet(f *os.File) (*ringInlet, error) {
	r, err := ring.OpenFile(f)
	if err != nil {
		return nil, err
	}
	in := &ringInlet{r: r}
	in.take = func(f ring.Frame) ring.Action {
		if in.err = in.v.check(f.Data); in.err != nil {
			return ring.Break
		}
		return ring.Continue
	}
	return in, in.setWait(Default)
}

// setWait opens the consumer anew where it needs other options.
func (in *ringInlet) setWait(w Wait) (err error) {
	if in.c != nil {
		if in.wait == w {
			return nil
		}
		if err := in.c.Close(); err != nil {
			return err
		}
	}
	var opts []ring.ConsumerOption
	if w == Sleep {
		opts = append(opts, ring.WithWaiting(ring.Thrift))
	}
	in.wait = w
	in.c, err = in.r.Consume(opts...)
	return err
}

func (in *ringInlet) receive(n uint64, v *verifier) error {
	in.v, in.err = v, nil
	for n > 0 {
		got, err := in.c.Poll(int(min(n, pollLimit)), in.take)
		if err = errors.Join(err, in.err); err != nil {
			return err
		}
		n -= uint64(got)
		if n == 0 || got > 0 {
			continue
		}
		if in.wait == Spin {
			shm.Pause(1)
		} else if err := in.c.Wait(context.Background()); err != nil {
			return err
		}
	}
	return nil
}
