package gap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// arrival is what one poll found.
type arrival struct {
	at int64 // shm.Now
	n  int
}

// consumer takes what arrives, on a thread of its own, and checks that nothing is missing, doubled or torn.
type consumer struct {
	c     *ring.Consumer
	ring  *ring.Ring
	seats []seat

	lives []atomic.Uint64 // of each seat: the life of its last message
	last  atomic.Int64    // time of the last arrival

	next  []uint64 // by seat: the number expected
	bad   error    // the first wrong message
	skips []float64

	skipped atomic.Int64 // when the last claim of a dead worker was

	arrivals []arrival
	spare    []arrival
	asked    atomic.Bool // for the arrivals up to now
	given    chan []arrival

	cancel context.CancelFunc
	ended  chan error
}

func startConsumer(r *ring.Ring, seats []seat, cpu int) (*consumer, error) {
	c := &consumer{
		ring: r, seats: seats, lives: make([]atomic.Uint64, len(seats)), next: make([]uint64, len(seats)),
		arrivals: make([]arrival, 0, 1<<18), spare: make([]arrival, 0, 1<<18),
		given: make(chan []arrival, 1), ended: make(chan error, 1),
	}
	var err error
	c.c, err = r.Consume(ring.WithOnSkip(func(e ring.SkipEvent) {
		c.skipped.Store(shm.Now())
		c.skips = append(c.skips, float64(e.Recovery))
	}))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	go func() {
		runtime.LockOSThread() // and the thread ends with the goroutine
		if cpu >= 0 {
			var set unix.CPUSet
			set.Set(cpu)
			if err := unix.SchedSetaffinity(0, &set); err != nil {
				c.ended <- err
				return
			}
		}
		c.ended <- c.consume(ctx)
	}()
	return c, nil
}

func (c *consumer) consume(ctx context.Context) error {
	take := func(f ring.Frame) ring.Action {
		if c.bad = c.check(f.Data); c.bad != nil {
			return ring.Break
		}
		return ring.Continue
	}
	for {
		n, err := c.c.Poll(256, take)
		if c.bad != nil {
			return c.bad
		}
		if err != nil {
			return err
		}
		if n > 0 {
			now := shm.Now()
			c.arrivals = append(c.arrivals, arrival{now, n})
			c.last.Store(now)
		}
		if c.asked.Load() {
			c.asked.Store(false)
			c.given <- c.arrivals
			c.arrivals, c.spare = c.spare[:0], c.arrivals
		}
		if n > 0 {
			continue
		}
		if err := c.c.Wait(ctx); ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// check is for each message.
func (c *consumer) check(b []byte) error {
	if len(b) != messageSize {
		return fmt.Errorf("a message of %d bytes", len(b))
	}
	i, life, n := int(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[4:])), binary.LittleEndian.Uint64(b[8:])
	if i >= len(c.lives) {
		return fmt.Errorf("a message from worker %d", i)
	}
	if was := c.lives[i].Load(); life != was {
		if life != was+1 || n != 0 {
			return fmt.Errorf("worker %d in life %d: message %d of life %d", i, was, n, life)
		}
		if err := c.complete(i); err != nil {
			return err
		}
		c.next[i] = 0
		c.lives[i].Store(life)
	}
	if n != c.next[i] {
		return fmt.Errorf("worker %d, life %d: message %d where %d was to come", i, life, n, c.next[i])
	}
	c.next[i]++
	return nil
}

// complete says whether all that a worker sent in the life that has ended has come.
func (c *consumer) complete(i int) error {
	if sent := c.seats[i].sent.Load(); sent != c.next[i] {
		return fmt.Errorf("worker %d, life %d: %d messages of %d have arrived", i, c.lives[i].Load(), c.next[i], sent)
	}
	return nil
}

// recording returns the arrivals since it was last called; they are valid until the next call. While nobody sends there is none:
// intact says why that is so.
func (c *consumer) recording(intact func() error) ([]arrival, error) {
	c.asked.Store(true)
	if err := c.until(func() bool { return len(c.given) > 0 || intact() != nil }); err != nil {
		return nil, fmt.Errorf("nobody sends: %w", err)
	}
	select {
	case a := <-c.given:
		return a, nil
	default:
		return nil, intact()
	}
}

// until waits for something that the consumer will have seen.
func (c *consumer) until(f func() bool) error {
	for end := time.Now().Add(patience); !f(); time.Sleep(200 * time.Microsecond) {
		select {
		case err := <-c.ended:
			c.ended <- err
			return errors.Join(errors.New("the consumer has ended"), err)
		default:
		}
		if time.Now().After(end) {
			return fmt.Errorf("not within %v", patience)
		}
	}
	return nil
}

// close ends the consumer, and judges the last lives.
func (c *consumer) close(res *Result) error {
	c.cancel()
	err := <-c.ended
	for i := range c.next {
		if err == nil {
			err = c.complete(i)
		}
	}
	res.skips = c.skips
	return errors.Join(err, c.c.Close())
}
