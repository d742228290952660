// Package shm is the kernel's part of the router: memory, locks, sleep, pings and deaths that
// processes share. It knows nothing of rings or messages; what is in the memory is for others to
// say. It runs on Linux, on little- and big-endian machines, without cgo.
//
// # Memory
//
// A [Segment] is memory of fixed size, of one of three kinds.
//
//	made by           lives in                     others get it by            may be truncated
//	NewMemfd          an unnamed file, sealed      inheriting File, FromFile   no: the kernel refuses
//	CreateNamed       a file at a path             OpenNamed, or as above      yes, by who may write to it
//	NewHeap           this process's heap          not at all                  no
//
// A router and the workers that it starts use a memfd: it has no name that could be taken, guessed
// or left behind, and nobody can make it shrink under those who have mapped it. A named file is for
// processes that do not descend from each other. The heap is for tests: the race detector sees what
// happens there, and nothing of what happens in a mapping.
//
// Touching a page that is not there ends the process with SIGBUS. Files are therefore given their
// pages when they are created, where a lack of space is an error, [ErrNoSpace], and sizes are
// checked when they are opened. Against a named file that is truncated later there is
// [Segment.Guarded], which turns the fault into [ErrFault].
//
// A segment is counted: [Segment.Retain] and [Segment.Close] go in pairs, and the last Close unmaps
// it. Pointers into it do not keep it mapped, and the collector does not know them: never store Go
// pointers there, and use none after the last Close.
//
// # Words
//
// [Segment.Word64] and [Segment.Word32] give out words for sync/atomic. The Go memory model speaks
// of one program; between processes its atomics are sequentially consistent because the compiler
// emits the same instructions whatever the address, and memory mapped twice is one memory to the
// processor. The race detector does not see that order: a program under -race calls
// runtime.RaceReleaseMerge and runtime.RaceAcquire with [Segment.RaceToken] around its publishing
// stores and loads, or it is told of races that are none.
//
// # Who is alive
//
// [Locks] are byte-range locks on the segment's file that belong to an open file description
// (F_OFD_SETLK). The kernel frees them when the description's last descriptor and mapping are gone,
// so when its process is, however it died; no heartbeat, no pid that might be reused, and pid
// namespaces do not matter. [Locks.Held] asks. Three traps are taken care of:
//
//   - A description that is inherited lives on in the child, with its locks. The one that a segment
//     maps and hands over is never locked; each Locks opens the file anew. That takes /proc, and
//     the right to open it: [ErrNoLocks] says which is missing.
//   - A description does not see its own locks. A Locks answers for itself, and for others asks the
//     kernel.
//   - A program that closes descriptors it does not own would free the locks, and look dead. A page
//     of each description is mapped, without access, and so it stays alive; Locks and Segment look
//     before they use or close a number that may be another's by now, and open the file anew if
//     there still is a way: its path, or with privilege (CAP_CHECKPOINT_RESTORE) the mapping.
//     Otherwise Held is ErrNoLocks, which is not an answer: who cannot ask must assume that the
//     other lives. A Go program that closes the runtime's own epoll descriptor dies of that.
//
// A core dump, an uninterruptible sleep or a stop signal delays a death, and the lock is held
// meanwhile: the process might still write.
//
// [WatchDeath] brings the news without asking, through a pidfd, where the pid can be known: within
// one pid namespace ([PIDNamespace]), and guarded by the process's start time ([ProcessStart]).
//
// # Sleeping and waking
//
// [FutexWait] and [FutexWake] work on a word in a segment, across processes. A wait ends for
// reasons of its own, and means "look again"; its deadline is a point of [Now], so that repeating
// it does not move the end. Each waiter holds a thread. [Word32Low] gives the half of a 64-bit word
// that can be waited for.
//
// An [Event] is the other kind of ping, an eventfd: it can stand in any event loop, and goroutines
// wait for it without a thread. When all processors are busy, the runtime looks at its poller only
// every 10 ms.
//
// [Pause] and [CanSpin] are for those who wait too briefly to sleep. CanSpin looks at processors
// and at quotas: in a container with less than two processors it says no.
package shm
