package wire

import (
	"slices"
	"testing"
)

// The numbers of the tables in layout.go, once more and literally: a change of any is a new Version.
func TestLayout(t *testing.T) {
	type field struct {
		name       string
		off, want  int64
		size, unit int64
	}
	control := []field{
		{"magic", offMagic, 0, 8, 8},
		{"epoch", offEpoch, 8, 8, 8},
		{"state", offState, 16, 4, 4},
		{"notice", offNotice, 20, 4, 4},
		{"life", offLife, 24, 8, 8},
		{"next id", offNextID, 32, 8, 8},
		{"max message", offMaxMessage, 40, 8, 8},
		{"entries", offEntries, 48, 4, 4},
		{"ends", offEnds, 52, 4, 4},
		{"resume", offResume, 56, 4, 4},
		{"table", offTable, 4096, entrySize, 64},
	}
	entry := []field{
		{"word", entryWord, 0, 8, 8},
		{"instance", entryInstance, 8, 4, 4},
		{"flags", entryFlags, 12, 4, 4},
		{"released", entryReleased, 16, 8, 8},
		{"end of entry", entrySize, 32, 0, 8},
	}
	for _, fields := range [][]field{control, entry} {
		var end int64
		for _, f := range fields {
			if f.off != f.want {
				t.Errorf("%s is at %d, want %d", f.name, f.off, f.want)
			}
			if f.off%f.unit != 0 {
				t.Errorf("%s at %d is not aligned to %d", f.name, f.off, f.unit)
			}
			if f.off < end {
				t.Errorf("%s at %d overlaps what ends at %d", f.name, f.off, end)
			}
			end = f.off + f.size
		}
	}
	if Version != 1 || magic != 0x53484d4449520001 {
		t.Errorf("version %d, magic %#x", Version, uint64(magic))
	}
}

func TestUserSize(t *testing.T) {
	for _, c := range []struct {
		pipes, entries int
		size           int64
	}{
		{-1, 1, 4096 + 32}, {0, 1, 4096 + 32}, {1, 1, 4096 + 32}, {2, 2, 4096 + 64}, {3, 4, 4096 + 128},
		{1024, 1024, 4096 + 32768}, {1 << 20, 1 << 20, 4096 + 32<<20}, {1<<20 + 1, 1 << 20, 4096 + 32<<20},
	} {
		if size, entries := UserSize(c.pipes); size != c.size || entries != c.entries {
			t.Errorf("UserSize(%d) = %d, %d; want %d, %d", c.pipes, size, entries, c.size, c.entries)
		}
	}
}

func TestMeta(t *testing.T) {
	kinds := []Kind{Data, First, More, Last, End}
	for _, kind := range kinds {
		for _, index := range []uint32{0, 1, MaxPipes - 1} {
			for _, seq := range []uint64{0, 1, 0xffff, 0x10000, 1<<64 - 1} {
				m := Meta(kind, index, seq)
				if m>>39 != 0 {
					t.Fatalf("Meta(%v, %d, %d) = %#x has more than 39 bits", kind, index, seq, m)
				}
				k, i, s, ok := UnpackMeta(m)
				if !ok || k != kind || i != index || s != uint16(seq) {
					t.Errorf("UnpackMeta(Meta(%v, %d, %d)) = %v, %d, %d, %v", kind, index, seq, k, i, s, ok)
				}
			}
		}
	}
	for _, m := range []uint64{0, 6 << 36, 7 << 36, uint64(Data)<<36 | 1<<39, 1 << 63} {
		if _, _, _, ok := UnpackMeta(m); ok {
			t.Errorf("UnpackMeta(%#x) is ok", m)
		}
	}
	for k := range Kind(8) {
		if named := k.String()[0] != 'K'; named != slices.Contains(kinds, k) {
			t.Errorf("Kind %d is called %v", k, k)
		}
	}
}

func TestExtendSeq(t *testing.T) {
	for _, c := range []struct{ last, next uint64 }{
		{0, 1}, {1, 2}, {0xfffe, 0xffff}, {0xffff, 0x10000}, {0x10000, 0x10001},
		{7, 7 + 0xffff}, // after as many aborted claims as can be told
		{1<<40 - 1, 1 << 40},
	} {
		if got := ExtendSeq(c.last, uint16(c.next)); got != c.next {
			t.Errorf("ExtendSeq(%d, %#x) = %d, want %d", c.last, uint16(c.next), got, c.next)
		}
	}
}
