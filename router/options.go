package router

import (
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
)

// Option changes how New makes a router.
type Option func(*options)

type options struct {
	log        *slog.Logger
	loop       EventLoop
	capacity   int64
	path       string
	hugePages  bool
	resume     bool
	maxPipes   int
	maxMessage int
	inbox      int
	queue      int
	turn       int
	waiting    *ring.Waiting
	onStall    func(ring.StallEvent)
	onSkip     func(ring.SkipEvent)
}

// Defaults of the options of the same names.
const (
	DefaultMaxPipes   = 128 << 10
	DefaultMaxMessage = 64 << 20 // bytes
	DefaultInbox      = 16       // batches
	DefaultQueue      = 1024     // messages
	DefaultTurn       = 128      // messages
)

func defaults() options {
	return options{
		log:      slog.New(slog.DiscardHandler),
		capacity: ring.DefaultCapacity, maxPipes: DefaultMaxPipes, maxMessage: DefaultMaxMessage,
		inbox: DefaultInbox, queue: DefaultQueue, turn: DefaultTurn,
	}
}

// WithLogger has the router report to log; nil, and the default, is silence. Its
// handler is called on the router's goroutines, the monitor's among them: it must
// not wait for anything that the router does, such as Stop.
func WithLogger(log *slog.Logger) Option {
	return func(o *options) {
		if log != nil {
			o.log = log
		}
	}
}

// WithEventLoop has handlers called on loop. The default is a goroutine of the
// router's own, from Start to Stop.
func WithEventLoop(loop EventLoop) Option { return func(o *options) { o.loop = loop } }

// WithCapacity sets the ring's size in bytes: a power of two from 64 KiB to
// 1 GiB. The default is 4 MiB. The largest frame is an eighth of it, up to 16 MiB.
func WithCapacity(bytes int64) Option { return func(o *options) { o.capacity = bytes } }

// WithHugePages takes huge pages for the segment if the system has some to give
// (shm.NewHugeMemfd says when), or else does without; Stats().Ring.PageSize
// tells. It is for rings of many megabytes, and not for WithPath.
func WithHugePages() Option { return func(o *options) { o.hugePages = true } }

// WithPath puts the segment into a file, for workers that are not started by
// this process. Something that is there already makes Start fail (fs.ErrExist),
// unless WithResume is given. Stop removes the file.
func WithPath(path string) Option { return func(o *options) { o.path = path } }

// WithResume makes a router that another one can follow, in this process or a
// later one: it needs WithPath. Start goes on with the segment at that path if
// there is one: its capacity, pipes and limits stay as they are in the file,
// whatever the options say. See Router.Receivers for what that means.
func WithResume() Option { return func(o *options) { o.resume = true } }

// WithMaxPipes sets how many pipes there may be at a time, closed ones included
// whose sender still lives; it is rounded up to a power of two, of at most 1 Mi.
// The default is 131072. Each costs 32 bytes in the segment, in a file from the
// start, otherwise when it is first used.
func WithMaxPipes(n int) Option { return func(o *options) { o.maxPipes = n } }

// WithMaxMessage sets the longest message in bytes; a sender gets
// ring.ErrTooLarge for a longer one. The default is 64 MiB. While it is put
// together, a message has at most four times the memory that has arrived of it;
// and each worker process sends one at a time.
func WithMaxMessage(bytes int) Option { return func(o *options) { o.maxMessage = bytes } }

// WithInbox sets how many batches may wait between the monitor and the loop. A
// batch has at most 256 messages, and 256 KiB unless a single message is larger.
// The default is 16. Beyond it the ring fills, and then senders wait.
func WithInbox(batches int) Option { return func(o *options) { o.inbox = batches } }

// WithQueue sets how many messages a receiver holds that has no handler. When
// one is full, nothing is routed until it has room, a handler, or is closed. The
// default is 1024.
func WithQueue(messages int) Option { return func(o *options) { o.queue = messages } }

// WithTurn sets how many messages one turn of the event loop routes at most; for
// the rest, the loop is pinged again. The default is 128.
func WithTurn(messages int) Option { return func(o *options) { o.turn = messages } }

// WithWaiting sets how the router waits for messages: ring.LowLatency for a whole
// processor, ring.Thrift for none between messages. The default is ring.Adaptive;
// but on two processors or fewer, with another loop than a GoLoop, which the
// router would be in the way of, it is ring.Thrift.
func WithWaiting(w ring.Waiting) Option { return func(o *options) { o.waiting = &w } }

// WithStallHook has f called when a living worker's unfinished claim has held up
// everybody behind it for 100 ms, and again each time that has doubled. The
// application may decide to kill that process; nobody else can take its claim
// away. Each call has a goroutine of its own.
func WithStallHook(f func(ring.StallEvent)) Option { return func(o *options) { o.onStall = f } }

// WithSkipHook has f called for every claim of a dead worker that was stepped
// over; otherwise as WithStallHook.
func WithSkipHook(f func(ring.SkipEvent)) Option { return func(o *options) { o.onSkip = f } }

// check completes the options. Capacity is checked by ring.
func (o *options) check() error {
	for _, v := range []struct {
		name     string
		got, max int
	}{
		{"WithMaxPipes", o.maxPipes, wire.MaxPipes},
		{"WithMaxMessage", o.maxMessage, 1 << 40},
		{"WithInbox", o.inbox, 1 << 20},
		{"WithQueue", o.queue, 1 << 30},
		{"WithTurn", o.turn, 1 << 30},
	} {
		if v.got < 1 || v.got > v.max {
			return fmt.Errorf("%w: %s(%d) is not between 1 and %d", ErrOption, v.name, v.got, v.max)
		}
	}
	_, _, err := ring.SegmentSize(ring.Options{Capacity: o.capacity})
	if o.capacity == 0 { // which ring takes for its default
		err = ring.ErrCapacityTooSmall
	}
	if err != nil {
		return fmt.Errorf("%w: WithCapacity(%d): %w", ErrOption, o.capacity, err)
	}
	if w := o.waiting; w != nil && (*w < ring.Adaptive || *w > ring.Thrift) {
		return fmt.Errorf("%w: WithWaiting(%d): %w", ErrOption, *w, ring.ErrWaiting)
	}
	if o.resume && o.path == "" {
		return fmt.Errorf("%w: WithResume without WithPath", ErrOption)
	}
	if o.path != "" {
		path, err := filepath.Abs(o.path) // the working directory may change, and workers have others
		if err != nil {
			return fmt.Errorf("%w: WithPath(%q): %w", ErrOption, o.path, err)
		}
		o.path = path
	}
	return nil
}
