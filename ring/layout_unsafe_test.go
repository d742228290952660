package ring

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// part is a line of a layout table: a name, where it lies, and who writes it.
type part struct {
	name   string
	offset int64
	size   int64
	writer string
}

// The words of the segment's first pages, written out once more: a change of a
// constant has to be made here too, and in Version.
var segmentWords = []part{
	{"magic", 0, 8, "creator"},
	{"order", 8, 4, "creator"},
	{"version", 12, 4, "creator"},
	{"segment size", 16, 8, "creator"},
	{"capacity", 24, 8, "creator"},
	{"table offset", 32, 8, "creator"},
	{"data offset", 40, 8, "creator"},
	{"user offset", 48, 8, "creator"},
	{"user size", 56, 8, "creator"},
	{"identity", 64, 16, "creator"},
	{"created", 80, 8, "creator"},
	{"granule", 88, 4, "creator"},
	{"slots", 92, 4, "creator"},
	{"checksum", 96, 8, "creator"},
	{"hint", 4096, 8, "hint"},
	{"room waiters", 4224, 4, "room waiters"},
	{"turn", 4352, 8, "turn"},
	{"head", 8192, 8, "head"},
	{"sleep", 8320, 8, "sleep"},
	{"fence", 8328, 4, "sleep"},
	{"room episode", 8448, 4, "room episode"},
	{"life", 8576, 8, "take-over"},
	{"consumer pid", 8584, 4, "take-over"},
	{"consumer start", 8592, 8, "take-over"},
	{"consumer pidns", 8600, 8, "take-over"},
	{"counters", 8704, 64, "counters"},
}

var segmentConstants = map[string]int64{
	"magic": offMagic, "order": offOrder, "version": offVersion, "segment size": offSegmentSize,
	"capacity": offCapacity, "table offset": offTable, "data offset": offData, "user offset": offUser,
	"user size": offUserSize, "identity": offIdentity, "created": offCreated, "granule": offGranule,
	"slots": offSlots, "checksum": offChecksum, "hint": offHint, "room waiters": offRoomWaiters,
	"turn": offTurn, "head": offHead, "sleep": offSleep, "fence": offFence, "room episode": offRoomEpisode, "life": offLife,
	"consumer pid": offConsumerPID, "consumer start": offConsumerStart, "consumer pidns": offConsumerPIDNS,
	"counters": offCounters,
}

var slotWords = []part{
	{"instance", 0, 4, "owner"},
	{"pid", 4, 4, "owner"},
	{"start", 8, 8, "owner"},
	{"pid ns", 16, 8, "owner"},
	{"joined", 24, 8, "owner"},
	{"records", 32, 8, "owner"},
	{"bytes", 40, 8, "owner"},
	{"dropped", 48, 8, "owner"},
	{"swept", 56, 8, "owner"},
}

var slotConstants = map[string]int64{
	"instance": slotInstance, "pid": slotPID, "start": slotStart, "pid ns": slotPIDNS, "joined": slotJoined,
	"records": slotRecords, "bytes": slotBytes, "dropped": slotDropped, "swept": slotSwept,
}

func TestLayout(t *testing.T) {
	for _, words := range []struct {
		parts     []part
		constants map[string]int64
	}{{segmentWords, segmentConstants}, {slotWords, slotConstants}} {
		require.Len(t, words.constants, len(words.parts))
		end, writer := int64(0), words.parts[0].writer
		for _, p := range words.parts {
			assert.Equal(t, p.offset, words.constants[p.name], p.name)
			align := min(p.size, 8)
			assert.Zero(t, p.offset%align, "%s is not aligned to %d", p.name, align)
			assert.GreaterOrEqual(t, p.offset, end, "%s overlaps what is before it", p.name)
			if p.writer != writer {
				// Two lines are fetched at a time: 128 bytes apart, and each
				// group begins on such a pair.
				assert.Zero(t, p.offset%128, "%s, first word of its writer, shares a pair of lines", p.name)
				writer = p.writer
			}
			end = p.offset + p.size
		}
	}
	assert.LessOrEqual(t, int64(offChecksum+8), int64(offHint), "superblock")
	assert.LessOrEqual(t, int64(offTurn+128), int64(offHead), "producers' words")
	assert.LessOrEqual(t, int64(ctrResyncs+8), int64(64), "counters")
	assert.LessOrEqual(t, int64(offCounters+64+64), int64(offRoster), "consumer's words")
	assert.Zero(t, offRoster%pageSize)
	assert.LessOrEqual(t, int64(slotSwept+8), int64(slotSize))
	assert.Zero(t, slotSize%128)
	assert.LessOrEqual(t, rosterAt(MaxSlots), int64(tableAt), "roster")
	assert.Less(t, tableAt-rosterAt(MaxSlots), int64(pageSize), "roster")
	assert.Zero(t, tableAt%pageSize)

	assert.EqualValues(t, entrySize, unsafe.Sizeof(entry{}))
	assert.EqualValues(t, 0, unsafe.Offsetof(entry{}.word))
	assert.EqualValues(t, 8, unsafe.Offsetof(entry{}.info))
	assert.Equal(t, 64, Granule)
	assert.EqualValues(t, Version, 1, "a new version: is everything here still true?")

	// A word tells a record's length, owner and every slot.
	assert.Equal(t, 64, tagShift+tagBits+ownerBits+(64-granuleShift))
	assert.Less(t, uint64(maxGranules), uint64(1)<<(64-granuleShift))
	assert.Equal(t, ownerMask, ownerNone)
	assert.Less(t, MaxSlots-1, ownerNone)
	assert.Equal(t, MaxSlots, lockConsumer)
	assert.Less(t, maxFrame, void)
	assert.Equal(t, 64, lengthBits+MetaBits)
	// The turn word names slot+1 in eight bits.
	assert.LessOrEqual(t, MaxSlots, 255)
	// A pad and a frame together fit the quarter that the turn keeps free.
	assert.LessOrEqual(t, MaxCapacity/Granule, 1<<(sleepPosBits-2))
}

func TestLayoutOfSizes(t *testing.T) {
	for capacity := int64(MinCapacity); capacity <= MaxCapacity; capacity *= 2 {
		for _, user := range []int64{0, 1, pageSize, pageSize + 1, 1 << 20} {
			g, err := plan(Options{Capacity: capacity, UserSize: user})
			require.NoError(t, err)
			granules := capacity / Granule
			assert.Equal(t, int64(tableAt)+granules*entrySize, g.dataOff, "the table ends where the data begins")
			assert.Equal(t, g.dataOff+capacity, g.userOff, "the data ends where the user area begins")
			assert.Equal(t, g.userOff+g.userSize, g.fileSize, "and it ends with the segment")
			assert.GreaterOrEqual(t, g.userSize, user)
			assert.Less(t, g.userSize, user+pageSize)
			for _, off := range []int64{g.dataOff, g.userOff, g.fileSize} {
				assert.Zero(t, off%pageSize)
			}
			total, reserve, err := SegmentSize(Options{Capacity: capacity, UserSize: user})
			require.NoError(t, err)
			assert.GreaterOrEqual(t, total, g.fileSize)
			assert.Less(t, total, g.fileSize+int64(os.Getpagesize()))
			assert.Zero(t, total%int64(os.Getpagesize()))
			assert.Equal(t, g.userOff, reserve)
		}
	}
}

// The tables in the comments of layout.go are what people read, so they are
// held to the constants as well.
func TestLayoutComments(t *testing.T) {
	source, err := os.ReadFile("layout.go")
	if err != nil {
		t.Fatalf("the test needs the package's directory as working directory: %v", err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), "layout.go", source, parser.ParseComments)
	require.NoError(t, err)

	tables := commentTables(file)
	require.Len(t, tables, 2)

	var fixed []part
	for _, p := range tables[0] {
		if p.size != 0 {
			fixed = append(fixed, p)
		}
	}
	requireSameParts(t, segmentWords, fixed)
	requireSameParts(t, slotWords, tables[1])

	open := map[string]string{}
	for _, line := range strings.Split(string(source), "\n") {
		if m := regexp.MustCompile(`^//\t(\S+|data offset|user offset) +(255×128|H×16|H×64|any) +(\S+( area)?)`).FindStringSubmatch(line); m != nil {
			open[m[3]] = m[1] + " " + m[2]
		}
	}
	assert.Equal(t, map[string]string{
		"roster":    strconv.Itoa(offRoster) + " " + strconv.Itoa(MaxSlots) + "×" + strconv.Itoa(slotSize),
		"table":     strconv.Itoa(tableAt) + " H×" + strconv.Itoa(entrySize),
		"data":      "data offset H×" + strconv.Itoa(Granule),
		"user area": "user offset any",
	}, open)
}

func requireSameParts(t *testing.T, want, got []part) {
	t.Helper()
	require.Len(t, got, len(want))
	for i, p := range got {
		assert.Equal(t, want[i].name, p.name)
		assert.Equal(t, want[i].offset, p.offset, p.name)
		assert.Equal(t, want[i].size, p.size, p.name)
	}
}

var tableLine = regexp.MustCompile(`^//\t(\d+) +(\d+) +([a-z]+(?: [a-z]+)?)(?: {2,}| )(.*)$`)

// commentTables reads the comment tables with columns offset, size, name,
// writer. Names of one and two words are told apart by the known ones.
func commentTables(file *ast.File) (tables [][]part) {
	known := map[string]bool{}
	for _, p := range append(append([]part{}, segmentWords...), slotWords...) {
		known[p.name] = true
	}
	for _, group := range file.Comments {
		var table []part
		for _, c := range group.List {
			m := tableLine.FindStringSubmatch(c.Text)
			if m == nil {
				continue
			}
			offset, _ := strconv.ParseInt(m[1], 10, 64)
			size, _ := strconv.ParseInt(m[2], 10, 64)
			name := m[3]
			if first, _, _ := strings.Cut(name, " "); !known[name] && known[first] {
				name = first
			}
			table = append(table, part{name: name, offset: offset, size: size})
		}
		if len(table) > 0 {
			tables = append(tables, table)
		}
	}
	return tables
}
