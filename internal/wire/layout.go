package wire

// The application area of a segment. Offsets are in bytes from its start, all words are naturally aligned.
//
//	offset  size  name         written by
//	0       8     magic        router, last of all
//	8       8     epoch        router, before the magic
//	16      4     state        router, at start and stop
//	20      4     notice       router at every change that a sender should see; a sender that ends its watcher, or finds the router dead
//	24      8     life         router, raised by each one that resumes
//	32      8     next id      router, at every new pipe
//	40      8     max message  router, before the magic
//	48      4     entries      router, before the magic
//	52      4     ends         senders whose End frame the router may not see
//	56      4     resume       router, before the magic
//	4096    32×n  entries      below
//
// An entry, one per pipe:
//
//	offset  size  name         written by
//	0       8     word         router and sender, by CAS only, see Word
//	8       4     instance     sender, once attached; router, 0, while the entry is free
//	12      4     flags        router
//	16      8     released     router
//	24      8     reserved
//
// The control words share a cache line, although every send loads state and epoch: the others change once in
// a pipe's life at most.
const (
	offMagic      = 0
	offEpoch      = 8
	offState      = 16
	offNotice     = 20
	offLife       = 24
	offNextID     = 32
	offMaxMessage = 40
	offEntries    = 48
	offEnds       = 52
	offResume     = 56

	offTable = 4096

	entryWord     = 0
	entryInstance = 8
	entryFlags    = 12
	entryReleased = 16
	entrySize     = 32
)

const (
	// Version is the version of this layout, of the frames' meta values and of the token. A directory of
	// another version is refused.
	Version = 1

	// magic spells SHMDIR, then the version. As a number it also differs between byte orders.
	magic = 0x53484d4449520000 | Version

	// MaxPipes is the largest number of entries, a power of two: what an index in a meta value can name.
	MaxPipes = 1 << indexBits
)

// UserSize returns the size in bytes of an application area for at least that many pipes, and the number of
// entries that it has: the next power of two, between 1 and MaxPipes.
func UserSize(pipes int) (size int64, entries int) {
	entries = 1
	for entries < pipes && entries < MaxPipes {
		entries *= 2
	}
	return offTable + int64(entries)*entrySize, entries
}
