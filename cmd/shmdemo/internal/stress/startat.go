package stress

import (
	"encoding/binary"
	"errors"
	"os"
)

// startAt moves a fresh segment to a position, as if it had come there by records of
// one granule: each word has the tag of the last lap that passed it.
func startAt(path string, pos uint64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	word := func(off, v uint64) {
		var b [8]byte
		binary.NativeEndian.PutUint64(b[:], v)
		_, e := f.WriteAt(b[:], int64(off))
		err = errors.Join(err, e)
	}
	var b [8]byte
	read := func(off int64) uint64 {
		_, e := f.ReadAt(b[:], off)
		err = errors.Join(err, e)
		return binary.NativeEndian.Uint64(b[:])
	}
	size, table := read(atCapacity)/granule, read(atTable)
	if err != nil || size == 0 {
		return errors.Join(err, errors.New("not a segment"))
	}
	for p := pos - min(pos, size); p != pos; p++ {
		word(table+p%size*entry, stateSkip|(p/size+1)&tagMask<<2|255<<37|1<<45)
	}
	word(atHint, pos)
	word(atHead, pos)
	return err
}
