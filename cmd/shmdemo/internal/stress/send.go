package stress

import (
	"context"
	"errors"
	"time"

	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
)

// The ways to send. Claims and whatever has to be cut leave most of them out.
const (
	wayBatch    = 16 // one in so many is a batch
	wayTry      = 16 // tries until there is room
	wayDeadline = 32 // gives up soon, and sends again
	wayAbort    = 64 // a claim is given back first
)

// next sends the next message, or the next few as a batch: intent, send,
// acknowledgement.
func (w *worker) next() error {
	n, r := w.n+1, w.plan.random(w.n+1, saltOp)
	size, way := w.plan.size(n), below(r, 64)
	switch {
	case size > w.Sizes.Frame:
		return w.copying(n, size, doesSendLarge, w.s.Send)
	case w.Claims:
		if way < 64/wayAbort {
			if err := w.abort(size); err != nil {
				return err
			}
		}
		return w.claiming(n, size, mix(r))
	case way < 64/wayBatch:
		return w.batch(n, 2+int(below(mix(r), 7)))
	case way < 64/wayBatch+64/wayTry:
		return w.copying(n, size, doesTry, w.try)
	case way < 64/wayBatch+64/wayTry+64/wayDeadline:
		return w.copying(n, size, doesImpatient, w.impatient)
	}
	return w.copying(n, size, doesSend, w.s.Send)
}

// copying sends message n from memory of its own.
func (w *worker) copying(n uint64, size int, what doing, send func(context.Context, []byte) error) error {
	if cap(w.buf) < size {
		w.buf = make([]byte, size)
	}
	b := w.buf[:size]
	w.plan.fill(b, n)
	w.page.sent.Store(n)
	w.plan.seal(b, n, shm.Now())
	w.begin(what)
	if err := w.insist(func() error { return send(w.ctx, b) }); err != nil {
		return err
	}
	w.acknowledge(n)
	return nil
}

// insist sends again where the ring was full and the main process gone: another one comes.
// An error says that nothing was sent.
func (w *worker) insist(send func() error) error {
	for {
		err := send()
		if !w.far || !errors.Is(err, sender.ErrRouterGone) || w.ctx.Err() != nil {
			return err
		}
		w.sleep(time.Millisecond)
	}
}

// startFar starts the sender of a router that may be killed at any time: its Context ends
// when that happens, so the worker has one of its own.
func (w *worker) startFar(token string) (err error) {
	var leave context.CancelFunc
	w.ctx, leave = context.WithCancel(context.Background())
	go func() {
		for w.page.order.Load() != orderLeave && !w.orphaned() {
			time.Sleep(2 * time.Millisecond)
		}
		leave()
	}()
	if w.s, err = sender.Open(token); err != nil {
		return err
	}
	return w.insist(w.s.Start)
}

func (w *worker) begin(what doing) {
	w.page.tries.Store(0)
	w.page.doing.Store(uint64(what))
}

func (w *worker) acknowledge(n uint64) {
	w.page.acked.Store(n)
	w.begin(doesNothing)
	w.n = n
}

// tryMost is how often TrySend finds the ring full before the worker waits for room. Nobody keeps any for those who
// only try, and in a crowd there is none for as long as it lasts.
const tryMost = 100

func (w *worker) try(ctx context.Context, b []byte) error {
	for range tryMost {
		if err := w.s.TrySend(b); !errors.Is(err, sender.ErrFull) {
			return err
		}
		w.page.tries.Add(1)
		if err := ctx.Err(); err != nil {
			return err
		}
		w.sleep(50 * time.Microsecond)
	}
	w.begin(doesSend)
	return w.s.Send(ctx, b)
}

// impatient relies on a Send that has given up not to have sent anything.
func (w *worker) impatient(ctx context.Context, b []byte) error {
	for wait := 200 * time.Microsecond; ; wait *= 2 {
		short, cancel := context.WithTimeout(ctx, wait)
		err := w.s.Send(short, b)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return err
		}
		w.page.tries.Add(1)
	}
}

// batch sends message n and those behind it, in one, as far as they are small.
func (w *worker) batch(n uint64, most int) error {
	var msgs [][]byte
	room := min(w.Sizes.Frame/2, 16<<10)
	if cap(w.buf) < room {
		w.buf = make([]byte, room)
	}
	last, rest := n-1, w.buf[:room]
	for len(msgs) < most && (w.Quota == 0 || last+1+w.Reserve <= w.Quota) {
		size := w.plan.size(last + 1)
		if size > len(rest) || size > 1024 {
			break
		}
		last++
		b := rest[:size:size]
		rest = rest[size:]
		w.plan.fill(b, last)
		msgs = append(msgs, b)
	}
	if len(msgs) < 2 {
		return w.copying(n, w.plan.size(n), doesSend, w.s.Send)
	}
	w.page.sent.Store(last)
	now := shm.Now()
	for i, b := range msgs {
		w.plan.seal(b, n+uint64(i), now)
	}
	w.begin(doesBatch)
	if err := w.insist(func() error { return w.s.SendBatch(w.ctx, msgs) }); err != nil {
		return err
	}
	w.acknowledge(last)
	return nil
}

// claiming writes message n in place. If the killer wants it to, it calls and
// waits for the end at one of three points: nothing written, half, everything.
func (w *worker) claiming(n uint64, size int, r uint64) error {
	w.page.sent.Store(n)
	now := shm.Now()
	w.begin(doesClaim)
	var c sender.Claim
	err := w.insist(func() (err error) { c, err = w.s.Claim(w.ctx, size); return err })
	if err != nil {
		return err
	}
	defer c.Abort()
	w.begin(doesHold)
	b, point := c.Bytes(), below(r, 3)
	if point == 0 {
		w.await(n)
	}
	w.plan.fill(b, n)
	if point == 1 {
		w.await(n)
	}
	w.plan.seal(b, n, now)
	if point == 2 {
		w.await(n)
	}
	if err := c.Commit(); err != nil {
		return err
	}
	w.acknowledge(n)
	return nil
}

// holdTime is how long a worker waits for the killer inside its claim.
const holdTime = int64(25 * time.Millisecond)

func (w *worker) await(n uint64) {
	if w.page.lure.Load() == 0 {
		return
	}
	w.page.hold.Store(n)
	for end := shm.Now() + holdTime; shm.Now() < end && w.page.lure.Load() != 0; {
		time.Sleep(50 * time.Microsecond)
	}
	w.page.hold.Store(0)
}

// abort claims and gives back, leaving something behind that nobody may see.
func (w *worker) abort(size int) error {
	w.begin(doesClaim)
	var c sender.Claim
	err := w.insist(func() (err error) { c, err = w.s.Claim(w.ctx, size); return err })
	if err != nil {
		return err
	}
	b := c.Bytes()
	clear(b[:len(b)/2])
	c.Abort()
	return nil
}
