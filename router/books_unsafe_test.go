package router

import (
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Books are memory that processes of a test share, and that outlives whoever
// writes to it: what was noted stands there after SIGKILL. No part of the router
// has a hand in them.

// diary is a worker's: what it meant to send, and what came of it.
type diary struct {
	pid   atomic.Int64
	stage atomic.Uint32 // how far it has come, see stageNew
	order atomic.Uint32 // from the test: 1 to stop
	used  atomic.Uint64 // the last number begun; they count from 1
	fate  [maxNumbers]atomic.Uint32

	attached atomic.Bool // its sender was started
}

const (
	stageNew = iota
	stageAttaching
	stageSending
	stageStopping
	stageStopped
	stageFailed // by an error that it did not expect, on its standard error
)

// The fate of a message, by number.
const (
	fateNone   = iota
	fateIntent // about to be sent
	fateAcked  // the send has returned nil
	fateFailed // the send has returned an error, or the claim was aborted: it must not arrive
)

const maxNumbers = 1 << 20

// logbook is what all lives of a router note, one after the other.
type logbook struct {
	count atomic.Uint64 // lines that are complete
	lines [maxLines]logLine
}

type logLine struct {
	note
	flags atomic.Uint32
}

type note struct {
	kind   lineKind
	life   uint32
	serial uint32 // of the worker
	id     uint64 // of the pipe
	number uint64
	seq    uint64
	at     int64 // shm.Now; of a message: when its sender meant to send it
}

type lineKind uint32

const (
	lineStart   lineKind = 1 + iota // Start has returned
	lineListed                      // a receiver that it found
	lineReady                       // all of them are listed
	lineMade                        // Pipe has returned
	lineMessage                     // a handler was called
	lineEnd                         // an end was told; number 1 for a death
	lineClosing                     // ClosePipe is called
	lineClosed                      // and has returned nil
)

// Flags of a message.
const (
	flagTorn   = 1 << iota // not what its sender made
	flagMarked             // Redelivered
	flagDone               // the handler is about to return
)

const maxLines = 1 << 19

// openBook maps the file at path, which it creates; pages that nobody writes to
// cost nothing.
func openBook[T any](path string) (book *T, closeBook func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	size := int(unsafe.Sizeof(*book))
	if err := f.Truncate(int64(size)); err != nil {
		return nil, nil, err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, err
	}
	return (*T)(unsafe.Pointer(&mem[0])), func() { unix.Munmap(mem) }, nil
}

// guestBook is what a worker notes about the death of its router.
type guestBook struct {
	pid   atomic.Int64
	stage atomic.Uint32 // how far it has come, see guestNew
	order atomic.Uint32 // from the test: 1 to go on

	dead atomic.Uint32 // from the test: the router has died, and the worker is there to learn it

	ctx    notice // its context has ended
	op     notice // what it was doing has failed
	wrong  atomic.Uint32
	reason [200]byte // what was wrong
}

// notice is when a worker learned something.
type notice struct {
	at     atomic.Int64 // shm.Now
	passed atomic.Int64 // since dead was 1, of the worker's own time
}

const (
	guestNew = iota
	guestReady
	guestDone // it has left, and exits
)
