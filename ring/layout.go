package ring

// The segment, from its first byte to its last. One table, asserted by
// TestLayout against the constants below and printed into docs/protocol.md.
//
//	offset        size   name           written by
//	0             8      magic          creator, last of all
//	8             4      order          creator
//	12            4      version        creator
//	16            8      segment size   creator
//	24            8      capacity       creator
//	32            8      table offset   creator
//	40            8      data offset    creator
//	48            8      user offset    creator
//	56            8      user size      creator
//	64            16     identity       creator
//	80            8      created        creator
//	88            4      granule        creator
//	92            4      slots          creator
//	96            8      checksum       creator
//	4096          8      hint           producers, plain store; consumer: Resync
//	4224          4      room waiters   producers: 1; consumer swaps it to 0, and 0 to 2, CAS
//	4352          8      turn           producers, CAS; consumer: a dead holder's to 0, CAS
//	8192          8      head           consumer
//	8320          8      sleep          consumer
//	8328          4      fence          consumer, once per take-over; who takes a claim from its owner
//	8448          4      room episode   consumer; Rouse; producers on leaving, or who learn that no consumer lives
//	8576          8      life           consumer, once per take-over
//	8584          4      consumer pid   consumer, once per take-over
//	8592          8      consumer start consumer, once per take-over
//	8600          8      consumer pidns consumer, once per take-over
//	8704          64     counters       consumer, now and then
//	12288         255×128 roster        the slot's owner
//	45056         H×16   table          producers; consumer and sweep: BUSY→SKIP; consumer: scrub, Resync
//	data offset   H×64   data           the owner of the granules
//	user offset   any    user area      the application
//
// Words written by different parties lie 128 bytes apart, since adjacent
// lines are fetched in pairs. All words are little- or big-endian as the host
// is; "order" tells an opener of the other kind.
const (
	offMagic       = 0
	offOrder       = 8
	offVersion     = 12
	offSegmentSize = 16
	offCapacity    = 24
	offTable       = 32
	offData        = 40
	offUser        = 48
	offUserSize    = 56
	offIdentity    = 64
	offCreated     = 80
	offGranule     = 88
	offSlots       = 92
	offChecksum    = 96

	offHint        = 4096
	offRoomWaiters = 4224
	offTurn        = 4352

	offHead          = 8192
	offSleep         = 8320
	offFence         = 8328
	offRoomEpisode   = 8448
	offLife          = 8576
	offConsumerPID   = 8584
	offConsumerStart = 8592
	offConsumerPIDNS = 8600
	offCounters      = 8704

	offRoster = 12288
	tableAt   = 45056
)

// A roster entry: one per slot, 128 bytes.
//
//	offset  size  name        written by
//	0       4     instance    owner, on joining
//	4       4     pid         owner, on joining and leaving
//	8       8     start       owner, on joining
//	16      8     pid ns      owner, on joining
//	24      8     joined      owner, on joining (CLOCK_MONOTONIC ns)
//	32      8     records     owner, now and then
//	40      8     bytes       owner, now and then
//	48      8     dropped     owner, when an abandoned claim was aborted
//	56      8     swept       owner, on joining: claims of dead holders skipped, in all
const (
	slotInstance = 0
	slotPID      = 4
	slotStart    = 8
	slotPIDNS    = 16
	slotJoined   = 24
	slotRecords  = 32
	slotBytes    = 40
	slotDropped  = 48
	slotSwept    = 56

	slotSize = 128
)

// Consumer counters, eight words from offCounters on.
const (
	ctrRecords = iota * 8
	ctrMessages
	ctrBytes
	ctrSkippedDead
	ctrSkippedAborted
	ctrPads
	ctrSleeps
	ctrResyncs
)

// Byte numbers locked by [shm.Locks] in the segment's file: one per slot, one
// for the consumer. They are lock ranges only; nothing is stored there.
const (
	lockConsumer = MaxSlots
)

const (
	// Granule is the unit of space in bytes: a cache line. Payloads start on
	// one, and positions count them.
	Granule = 64

	// MaxSlots is the number of producer processes that can be attached at a
	// time.
	MaxSlots = 255

	// Seats is the number of a segment's byte locks, from byte 0 on: the slots',
	// and the consumer's.
	Seats = lockConsumer + 1

	// DefaultCapacity is the data size in bytes used where Options say 0.
	DefaultCapacity = 4 << 20

	// MinCapacity and MaxCapacity bound the data size in bytes.
	MinCapacity = 64 << 10
	MaxCapacity = 1 << 30 // see MinCapacity

	// MetaBits is the width of the value that travels beside each message,
	// uninterpreted by the ring.
	MetaBits = 39

	// Version is the version of the segment's layout. It changes whenever the
	// meaning of a byte does; segments of another version are refused.
	Version = 1

	ownerNone  = 255 // owner of a pad
	entrySize  = 16
	pageSize   = 4096
	maxFrame   = 16 << 20
	orderMark  = 0x01020304
	metaMask   = 1<<MetaBits - 1
	hintStride = 16 // granules a producer passes before it moves the hint: 1 KiB
)

var magic = [8]byte{'S', 'H', 'M', 'R', 'I', 'N', 'G', '1'}
