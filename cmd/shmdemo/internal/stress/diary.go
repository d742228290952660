package stress

import (
	"fmt"
	"os"
	"sync/atomic"

	"github.com/edsrzf/mmap-go"
	"golang.org/x/sys/unix"
)

// A diary is a page of memory that one worker process shares with the main
// process, and with nothing else: no part of the router has a hand in it. What a
// worker has noted stays there when it is killed. It is also how the main process
// tells a worker to pause, and how a worker calls the killer.
//
// It has no name, so nothing is left behind however the run ends.
type diary struct {
	page *diaryPage
	file *os.File
	mem  mmap.MMap
}

// diaryPage is the diary's layout; each word has one writer.
type diaryPage struct {
	// Written by the worker.
	sent     atomic.Uint64 // number of the last message it meant to send, noted before the send
	acked    atomic.Uint64 // number of the last message whose send has returned without error
	hold     atomic.Uint64 // not 0 while it waits for the killer inside a claim
	stopping atomic.Uint64 // 1 once it has nothing more to send
	did      atomic.Uint64 // the order that it has carried out
	pingAt   atomic.Int64  // shm.Now before the last ping
	slow     atomic.Uint64 // sends of the last press that took slowSend or longer
	waits    atomic.Uint64 // times that the last press had to wait for room
	idle     atomic.Uint64 // 1 once its quota is used up
	doing    atomic.Uint64 // a doing
	tries    atomic.Uint64 // of what it is doing, that the ring had no room for
	_        [40]byte

	// Written by the main process.
	lure  atomic.Uint64 // not 0: call when in a claim
	echo  atomic.Int64  // pingAt of the last ping that has arrived
	order atomic.Uint64 // what to do, see below
}

// Orders to a worker. It carries each out once, notes so, and then pauses,
// until the next one.
const (
	orderRun   = iota
	orderPause // send nothing
	orderPing  // send pings, far apart
	orderPress // send as fast as it can, for pressTime
	orderLeave // stop: where the main process may not be there to say so
)

// doing is what a worker is at, for who asks why it does not get on.
type doing uint64

const (
	doesNothing doing = iota
	doesSend
	doesSendLarge
	doesBatch
	doesTry
	doesImpatient
	doesClaim
	doesHold
	doesSleep
)

func (d doing) String() string {
	names := [...]string{
		"between sends", "in Send", "in a Send of several frames", "in SendBatch", "with TrySend", "with Sends that give up soon",
		"in Claim", "inside a claim", "in a pause",
	}
	if d >= doing(len(names)) {
		return fmt.Sprintf("with something unknown (%d)", uint64(d))
	}
	return names[d]
}

const diarySize = 4096

func newDiary() (*diary, error) {
	f, err := memoryFile("diary")
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(diarySize); err != nil {
		f.Close()
		return nil, fmt.Errorf("diary: %w", err)
	}
	return openDiary(f)
}

// openDiary maps the page. The file is the diary's from then on.
func openDiary(f *os.File) (*diary, error) {
	mem, err := mmap.MapRegion(f, diarySize, mmap.RDWR, 0, 0)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("diary: %w", err)
	}
	return &diary{page: pageOf(mem), file: f, mem: mem}, nil
}

// close gives the page back; nobody may use it any more.
func (d *diary) close() {
	d.page = nil
	d.mem.Unmap()
	d.file.Close()
}

// memoryFile returns a file without a name.
func memoryFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate("shmdemo-"+name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
