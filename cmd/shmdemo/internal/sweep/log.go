package sweep

import (
	"os"
	"sync/atomic"

	"github.com/shmrouter/shmrouter/shm"
)

// diary is what a victim notes down, in memory of its own that outlives it: intent before and acknowledgement
// after each call, and what was delivered to it. Its words are fetched before the operation begins, so that
// noting executes nothing of the library.
type diary struct {
	seg *shm.Segment

	ready    *atomic.Uint64 // it stands before Begin
	going    *atomic.Uint64 // it may begin, where no tracer says so
	intended *atomic.Uint64 // number of the last message that it meant to send
	acked    *atomic.Uint64 // number of the last one whose send has returned
	result   *atomic.Uint64 // of the operation: one of the outcomes below
	taken    *atomic.Uint64 // entries of deliveries
	released *atomic.Uint64 // of these, how many it has released
	entries  []*atomic.Uint64
}

// What became of the operation.
const (
	pending  = 0 // it has not returned
	success  = 1
	failure  = 2 // the text says why
	refused  = 3 // it returned the error that its operation allows, and has sent nothing
	errSize  = 512
	errAt    = 512
	entryAt  = 1024
	entries  = 256
	diaryLen = 4096
)

func newDiary() (*diary, error) {
	seg, err := shm.NewMemfd("shmdemo-diary", diaryLen, diaryLen)
	if err != nil {
		return nil, err
	}
	return asDiary(seg), nil
}

// inheritDiary opens the victim's own diary.
func inheritDiary(fd uintptr) (*diary, error) {
	f := os.NewFile(fd, "diary")
	defer f.Close()
	seg, err := shm.FromFile(f)
	if err != nil {
		return nil, err
	}
	return asDiary(seg), nil
}

func asDiary(seg *shm.Segment) *diary {
	d := &diary{seg: seg}
	for i, w := range []**atomic.Uint64{&d.ready, &d.going, &d.intended, &d.acked, &d.result, &d.taken, &d.released} {
		*w = seg.Word64(int64(8 * i))
	}
	for i := range entries {
		d.entries = append(d.entries, seg.Word64(int64(entryAt+8*i)))
	}
	return d
}

// take notes a delivery, at one instruction.
func (d *diary) take(sender, n uint64) {
	at := d.taken.Load()
	d.entries[at%entries].Store(sender<<32 | n)
	d.taken.Store(at + 1)
}

// conclude notes how the operation ended.
func (d *diary) conclude(outcome uint64, err error) {
	if err != nil {
		copy(d.seg.Bytes()[errAt:errAt+errSize-1], err.Error())
	}
	d.result.Store(outcome)
}

// text is the error that conclude noted.
func (d *diary) text() string {
	b := d.seg.Bytes()[errAt : errAt+errSize]
	n := 0
	for n < len(b) && b[n] != 0 {
		n++
	}
	return string(b[:n])
}

func (d *diary) close() { d.seg.Close() }
