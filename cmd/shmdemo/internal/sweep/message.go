package sweep

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// A message says who sent it and its number, and the rest follows from these, so that the judge knows every
// byte of it:
//
//	0   u32  CRC-32C of everything behind it
//	4   u32  length
//	8   u64  sender
//	16  u64  number, from 1
//	24       noise that depends on sender and number
const headerSize = 24

// Senders.
const (
	bySubject   = 1 + iota // the victim
	bySecond               // the second victim of a pair
	byNeighbour            // the survivor in another process
	byCorpse               // who had died before the victim came
	byMain                 // the sweep's own process
	senders
)

var senderNames = [senders]string{"nobody", "the victim", "the second victim", "the neighbour", "the dead", "the main process"}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameSize is the length of a message where nothing else is said: four granules.
const frameSize = 256

// message makes message n of a sender, of size bytes, which is headerSize at least.
func message(sender, n uint64, size int) []byte {
	b := make([]byte, size)
	binary.LittleEndian.PutUint32(b[4:], uint32(size))
	binary.LittleEndian.PutUint64(b[8:], sender)
	binary.LittleEndian.PutUint64(b[16:], n)
	noise(b[headerSize:], sender, n)
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b
}

func noise(b []byte, sender, n uint64) {
	key := mix(sender<<32 ^ n)
	var word [8]byte
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(word[:], mix(key+uint64(i)))
		copy(b[i:], word[:])
	}
}

// mix is splitmix64's finalizer: a different, evenly spread number for each argument.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// parse tells whose message b is, or what is wrong with it.
func parse(b []byte) (sender, n uint64, err error) {
	if len(b) < headerSize {
		return 0, 0, fmt.Errorf("a message of %d bytes, which nobody sends", len(b))
	}
	if binary.LittleEndian.Uint32(b[4:]) != uint32(len(b)) || binary.LittleEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return 0, 0, fmt.Errorf("a torn message of %d bytes, which begins % x", len(b), b[:headerSize])
	}
	sender, n = binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
	if sender == 0 || sender >= senders || n == 0 {
		return 0, 0, fmt.Errorf("a message of sender %d with number %d", sender, n)
	}
	return sender, n, nil
}
