package sweep

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/tracer"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
)

// briefing tells a victim in its environment what it is to do.
type briefing struct {
	Operation string
	Sender    uint64 // whose messages it sends
	Path      string // where it creates or opens a segment
	Traced    bool
	Corpse    bool // it is no victim, but to die before one comes
}

const (
	victimEnv = "SHMDEMO_VICTIM"
	diaryFD   = 3
	segmentFD = 4
)

func init() {
	if os.Getenv(victimEnv) != "" {
		runtime.LockOSThread() // only the main thread is traced
	}
}

// IsRole tells whether this process was started as a part of a sweep.
func IsRole() bool { return os.Getenv(victimEnv) != "" || os.Getenv(neighbourEnv) != "" }

// Role plays the part that this process was started for, and returns the exit status.
func Role() int {
	if os.Getenv(neighbourEnv) != "" {
		return playNeighbour()
	}
	if err := playVictim(os.Getenv(victimEnv)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// actor is the victim in its own process.
type actor struct {
	brief briefing
	diary *diary
	file  *os.File
	ring  *ring.Ring
	att   *ring.Attachment
	prod  *ring.Producer
	cons  *ring.Consumer

	segment *shm.Segment   // that is to be formatted
	sender  *sender.Sender // of a router's worker
	seq     uint64         // messages made
	ready   [][]byte       // made, not yet sent
	buffer  []byte         // deliveries are copied to
	handle  func(ring.Frame) ring.Action
}

func playVictim(text string) error {
	var b briefing
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		return err
	}
	o := operationNamed(b.Operation)
	if o == nil {
		return fmt.Errorf("no operation %q", b.Operation)
	}
	d, err := inheritDiary(diaryFD)
	if err != nil {
		return err
	}
	// Whether it has is what its commits depend on, and what would be a thread's work in the midst of attaching.
	<-shm.JoinBarriers()
	a := &actor{brief: b, diary: d, file: os.NewFile(segmentFD, "segment"), buffer: make([]byte, ring.MinCapacity)}
	a.handle = a.deliver
	setup, run := o.setup, o.run
	if b.Corpse {
		setup, run = o.corpse, nil
	}
	if err := setup(a); err != nil {
		return fmt.Errorf("%s, before it begins: %w", o.name, err)
	}
	d.ready.Store(1)
	if run != nil {
		for !b.Traced && d.going.Load() == 0 {
			time.Sleep(50 * time.Microsecond)
		}
		tracer.Begin()
		outcome, err := run(a)
		d.conclude(outcome, err)
		tracer.End()
	}
	time.Sleep(time.Hour) // until it is killed
	return nil
}

// open opens the ring in the file that the victim inherited.
func (a *actor) open() (err error) {
	a.ring, err = ring.OpenFile(a.file)
	return err
}

// attach makes the victim a producer with n messages of some size to send.
func (a *actor) attach(n, size int) (err error) {
	if err = a.open(); err != nil {
		return err
	}
	if a.att, err = a.ring.Attach(); err != nil {
		return err
	}
	a.prod = a.att.NewProducer()
	a.make(n, size)
	return nil
}

// make makes n more messages.
func (a *actor) make(n, size int) {
	for range n {
		a.seq++
		a.ready = append(a.ready, message(a.brief.Sender, a.seq, size))
	}
}

// intend notes that the next n messages may be delivered from now on, and returns them.
func (a *actor) intend(n int) [][]byte {
	next := a.ready[:n]
	a.ready = a.ready[n:]
	a.diary.intended.Store(a.diary.intended.Load() + uint64(n))
	return next
}

// acknowledge notes that what was intended is sent.
func (a *actor) acknowledge() { a.diary.acked.Store(a.diary.intended.Load()) }

// sending sends the next message by way, and acknowledges it.
func (a *actor) sending(way func(b []byte) error) error {
	err := way(a.intend(1)[0])
	if err == nil {
		a.acknowledge()
	}
	return err
}

// deliver is the consumer's handler: a delivery counts when it is noted down, whole.
func (a *actor) deliver(f ring.Frame) ring.Action {
	b := a.buffer[:copy(a.buffer, f.Data)]
	s, n, err := parse(b)
	if err != nil {
		s, n = 0, 0
	}
	a.diary.take(s, n)
	return ring.Continue
}

// release notes that all that was delivered to it is released.
func (a *actor) release() { a.diary.released.Store(a.diary.taken.Load()) }

// The library's functions are called through these, so that they are not inlined into the victim's code, which
// nobody sweeps.
var (
	attach       = (*ring.Ring).Attach
	newProducer  = (*ring.Attachment).NewProducer
	closeSeat    = (*ring.Attachment).Close
	send         = (*ring.Producer).Send
	trySend      = (*ring.Producer).TrySend
	tryClaim     = (*ring.Producer).TryClaim
	tryBatch     = (*ring.Producer).TryBatch
	waitReleased = (*ring.Producer).WaitReleased
	commit       = ring.Claim.Commit
	commitPart   = ring.Claim.CommitN
	abort        = ring.Claim.Abort
	consume      = (*ring.Ring).Consume
	poll         = (*ring.Consumer).Poll
	wait         = (*ring.Consumer).Wait
	release      = (*ring.Consumer).Release
	closeSeat2   = (*ring.Consumer).Close
	create       = ring.Create
	openPath     = ring.OpenPath
	format       = ring.Format

	startSender = (*sender.Sender).Start
	stopSender  = (*sender.Sender).Stop
	sendBy      = (*sender.Sender).Send
)

var background = context.Background()
