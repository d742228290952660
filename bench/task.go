package bench

import (
	"encoding/json"
	"fmt"
	"os"
)

// What another program adds to this package's processes: tasks of its own, for
// transports and measurements that do not belong here. It calls RegisterTask
// before Main, so that the actors know them as well.

// Task is a job of another program. Post says where it runs.
type Task func(p *Post, o Order) (Report, error)

// Post is an actor as a Task sees it. It stays the same from order to order, and is for the Task's goroutine.
type Post struct {
	Receiver bool           // else a sender
	Index    int            // of the sender
	Senders  int            // in the crew
	Dir      string         // CrewOptions.Dir
	Kept     map[string]any // what a task leaves for the next

	ready func() error
	files map[string]*os.File
}

// Ready tells the crew that the senders may start. Every task of a receiver
// calls it once. An error means that the crew is gone.
func (p *Post) Ready() error { return p.ready() }

// The names of files that every actor has, for Post.File. Those of a link of
// its own end in the sender's number.
const (
	FileRingUp   = fileRingUp
	FileRingDown = fileRingDown
	FilePipeUp   = filePipeUp
	FilePipeDown = filePipeDown
	FileUnix     = fileUnix
	FileSeq      = fileSeq
)

// File is one of those that the actor inherited; another name is an error.
func (p *Post) File(name string) (*os.File, error) {
	f := p.files[name]
	if f == nil {
		return nil, fmt.Errorf("bench: no link %q here", name)
	}
	return f, nil
}

var tasks = map[Job]Task{}

// RegisterTask makes t what actors do when ordered to do job.
func RegisterTask(job Job, t Task) { tasks[job] = t }

func (a *actor) doTask(o Order, ready func() error) (Report, error) {
	t, ok := tasks[o.Job]
	if !ok {
		return Report{}, fmt.Errorf("bench: no such job: %q", o.Job)
	}
	if a.post == nil {
		a.post = &Post{
			Receiver: a.Receiver, Index: a.Index, Senders: a.Senders, Dir: a.Dir,
			Kept: map[string]any{}, files: a.files,
		}
	}
	a.post.ready = ready
	return t(a.post, o)
}

// Perform gives the receiver and the first few senders their tasks, and
// returns what they report. args arrives as Order.Args. The error is that of an
// actor's task, or of an actor that died or did not answer in time.
func (c *Crew) Perform(receive, send Job, senders int, args any) (got Report, sent []Report, err error) {
	text, err := json.Marshal(args)
	if err != nil {
		return got, nil, err
	}
	return c.exchange(Order{Args: text}, receive, send, c.senders[:min(senders, len(c.senders))])
}

// NewRecorder returns a Recorder that has none yet.
func NewRecorder() *Recorder { r := newRecorder(); return &Recorder{r} }

// Recorder condenses durations as this package does, without allocating. It is
// for one goroutine.
type Recorder struct{ r recorder }

// Add takes one more duration, in nanoseconds; below 1 it counts as 1.
func (r *Recorder) Add(ns int64) { r.r.add(ns) }

// Latency sums up those so far.
func (r *Recorder) Latency() Latency { return r.r.latency() }

// SpreadOf is the median of xs and how far they lie apart.
func SpreadOf(xs []float64) Spread { return spreadOf(xs) }

// TwoCPUs returns the processors of a pinned crew's senders and of its receiver;
// the second is -1 where this process may use only one.
func TwoCPUs() (senders, receiver int) { return twoCPUs() }

// Pin keeps all threads of this process, and those to come, on one processor.
// The error is the kernel's, of sched_setaffinity.
func Pin(cpu int) error { return pinProcess(cpu) }

// Fill writes the content that belongs to the first eight bytes of b behind
// them.
func Fill(b []byte) { fill(b) }

// Intact reports whether b holds what Fill wrote.
func Intact(b []byte) bool { return intact(b) }
