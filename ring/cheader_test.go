package ring

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the C header calls the layout's numbers.
var cNumbers = map[string]uint64{
	"ORDER_MARK": orderMark, "VERSION": Version,
	"OFF_ORDER": offOrder, "OFF_VERSION": offVersion, "OFF_SEGMENT_SIZE": offSegmentSize, "OFF_CAPACITY": offCapacity,
	"OFF_TABLE": offTable, "OFF_DATA": offData, "OFF_USER": offUser, "OFF_USER_SIZE": offUserSize,
	"OFF_GRANULE": offGranule, "OFF_SLOTS": offSlots, "OFF_CHECKSUM": offChecksum,
	"MIN_CAPACITY": MinCapacity, "MAX_CAPACITY": MaxCapacity, "MAX_USER_SIZE": 1 << 40,
	"GRANULE": Granule, "SLOTS": MaxSlots, "PAGE": pageSize,

	"OFF_HINT": offHint, "OFF_TURN": offTurn, "OFF_HEAD": offHead, "OFF_SLEEP": offSleep, "OFF_FENCE": offFence,

	"ROSTER": offRoster, "SEAT_SIZE": slotSize, "SEAT_INSTANCE": slotInstance, "SEAT_PID": slotPID, "SEAT_START": slotStart,
	"SEAT_PIDNS": slotPIDNS, "SEAT_JOINED": slotJoined, "SEAT_RECORDS": slotRecords, "SEAT_BYTES": slotBytes,
	"SEAT_DROPPED": slotDropped, "SEAT_SWEPT": slotSwept,

	"TABLE": tableAt, "ENTRY_SIZE": entrySize, "ENTRY_INFO": 8, // TestLayout has its offset
	"BUSY": uint64(busy), "COMMIT": uint64(commit), "SKIP": uint64(skip), "STATE_MASK": 1<<tagShift - 1,
	"TAG_SHIFT": tagShift, "TAG_BITS": tagBits, "OWNER_SHIFT": ownerShift, "OWNER_MASK": ownerMask, "OWNER_NONE": ownerNone,
	"GRANULES_SHIFT": granuleShift, "LENGTH_BITS": lengthBits, "META_BITS": MetaBits, "MAX_FRAME": maxFrame,

	"MODE_MASK": 1<<modeBits - 1, "MODE_AWAKE": uint64(awake), "MODE_IDLE": uint64(idle),
	"EPISODE_SHIFT": modeBits, "EPISODE_BITS": episodeBits, "SLEEP_POS_SHIFT": modeBits + episodeBits, "SLEEP_POS_BITS": sleepPosBits,

	"LOCK_CONSUMER": lockConsumer, "HINT_STRIDE": hintStride, "FENCED_ONCE": fencedOnce,
	"TURN_SLOT_MASK": 0xff, "TURN_COUNT_SHIFT": 8, // NewProducer
}

// The header for producers in C has the layout's numbers a second time. They are these, all of them, and no others.
func TestCHeader(t *testing.T) {
	source, err := os.ReadFile("../examples/c/shmrouter_ring.h")
	require.NoError(t, err)
	got := map[string]uint64{}
	var sign string
	for _, m := range regexp.MustCompile(`(?m)^#define SHMRING_(\w+) ("\w+"|\w+)`).FindAllStringSubmatch(string(source), -1) {
		if m[1] == "MAGIC" {
			sign, err = strconv.Unquote(m[2])
			require.NoError(t, err)
			continue
		}
		require.NotContains(t, got, m[1], "twice")
		got[m[1]], err = strconv.ParseUint(m[2], 0, 64)
		require.NoError(t, err, m[1])
	}
	assert.Equal(t, string(magic[:]), sign)
	assert.ElementsMatch(t, slices.Collect(maps.Keys(cNumbers)), slices.Collect(maps.Keys(got)))
	for name, want := range cNumbers {
		assert.Equal(t, want, got[name], name)
	}

	// And so are those that people read.
	format, err := os.ReadFile("format.go")
	require.NoError(t, err)
	for _, line := range []string{
		`magic         the bytes "` + string(magic[:]) + `"`,
		fmt.Sprintf("order         %#08x", orderMark),
		fmt.Sprintf("version       %d", Version),
		fmt.Sprintf("capacity      a power of two, %d to %d", MinCapacity, MaxCapacity),
		fmt.Sprintf("table offset  %d", tableAt),
		fmt.Sprintf("data offset   table offset + %d for each granule", entrySize),
		fmt.Sprintf("user size     a multiple of %d, 1 TiB at most", pageSize),
		fmt.Sprintf("granule       %d", Granule),
		fmt.Sprintf("slots         %d", MaxSlots),
		fmt.Sprintf("checksum      FNV-1a (64 bits) of bytes %d to %d", offOrder, offChecksum-1),
	} {
		assert.Contains(t, string(format), "//\t"+line+"\n")
	}

	// It counts on these.
	id := (&Attachment{slot: 7, ring: &Ring{}}).NewProducer().id
	assert.EqualValues(t, 7+1, id&0xff)
	assert.EqualValues(t, 1, id>>8)
	_, err = plan(Options{UserSize: 1 << 40})
	assert.NoError(t, err)
	_, err = plan(Options{UserSize: 1<<40 + 1})
	assert.ErrorIs(t, err, ErrUserSize)
}
