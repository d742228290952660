package wire

import (
	"math"

	"github.com/shmrouter/shmrouter/shm"
)

// News between router and senders that does not go through the ring, both directions.
//
// Router to sender: the router changes what it has to say (an entry's word or flags, or the state) and then
// calls Notify. A watcher loads the notice, looks at everything, and sleeps only if the notice is still the
// one that it loaded. So a change is either seen by the look, or raises the notice after it was loaded, and
// then the kernel's compare fails or the wake arrives.
//
// Sender to router: a sender that stops while the ring is full marks its entry as ended, and then raises
// ends. The ring being full, the monitor has records to consume, and looks at ends after it has consumed
// them, or else, where it keeps what is not handled yet, within a second. So does one that stops while a router resumes: the frame may have gone to the router before.

// Notice returns the number of the latest notice, to be loaded before looking at what it is about.
func (d *Directory) Notice() uint32 { return d.notice.Load() }

// Notify wakes every watcher of every process. Any party may call it.
func (d *Directory) Notify() {
	d.notice.Add(1)
	shm.FutexWake(d.notice, math.MaxInt32)
}

// WaitNotice sleeps until there is a notice after seen, or until the deadline (shm.Now, nanoseconds), and may
// return early. The error is nil for "look again", os.ErrDeadlineExceeded, or shm.ErrFault.
func (d *Directory) WaitNotice(seen uint32, deadline int64) error {
	return shm.FutexWait(d.notice, seen, deadline)
}

// Ends returns a number that is raised by every sender whose End frame the router may not see.
func (d *Directory) Ends() uint32 { return d.ends.Load() }

// RaiseEnds is called by such a sender, after it has marked its entry. It sends no End frame behind that: the
// entry may be another pipe's by then.
func (d *Directory) RaiseEnds() { d.ends.Add(1) }
