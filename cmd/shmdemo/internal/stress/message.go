package stress

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"math/bits"
)

// What a message looks like follows from the run's seed and its place: seat,
// incarnation, and number. Worker and verifier compute it each for themselves,
// so the verifier knows the length and the bytes of every message beforehand,
// also of one that is too short to say who it is.
//
//	0   u32  CRC-32C of everything behind it
//	4   u32  length
//	8   u64  number, from 1
//	16  u32  seat
//	20  u32  incarnation
//	24  i64  shm.Now before the send
//	32       noise, from a place that depends on the number
//
// A message of less than 32 bytes is noise of its own.
const (
	headerSize = 32
	noiseSize  = 64 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Salts keep the choices that depend on one number apart.
const (
	saltSize = iota + 1
	saltBytes
	saltNoise
	saltOp
	saltSeat
	saltKill
	saltStop
	saltChurn
	saltCharacter
	saltBurst
	saltFork
	saltMain
)

// mix is splitmix64's finalizer: a different, evenly spread number for each argument.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// below maps a random number to 0..n-1.
func below(r, n uint64) uint64 {
	hi, _ := bits.Mul64(r, n)
	return hi
}

// Sizes is how long messages are.
type Sizes struct {
	// Min and Max, if Given, bound lengths that are spread evenly over the
	// orders of magnitude. Otherwise the mixture below is used.
	Given    bool
	Min, Max int
	// Frame is the longest message that travels in one piece.
	Frame int
}

// Longest is the length that no message exceeds.
func (s Sizes) Longest() int {
	if s.Given {
		return s.Max
	}
	return s.Frame + min(2*s.Frame, 1<<20)
}

// pick returns the length that random number r stands for. By default three
// messages in four are shorter than 256 bytes and one in forty is empty; a few
// take a frame, and fewer still have to be cut.
func (s Sizes) pick(r uint64) int {
	share, r := float64(r>>32)/(1<<32), mix(r)
	if s.Given {
		return spread(r, s.Min, s.Max)
	}
	cut := min(0.01, 512/float64(s.Frame))
	for _, class := range []struct {
		share    float64
		min, max int
	}{
		{cut, s.Frame + 1, s.Longest()},
		{0.025, 0, 0},
		{0.075, 1, headerSize - 1},
		{0.65, headerSize, 255},
		{0.22, 256, 4095},
		{0.001, s.Frame / 2, s.Frame},
	} {
		if share < class.share {
			return spread(r, class.min, class.max)
		}
		share -= class.share
	}
	return spread(r, min(4096, s.Frame/8), s.Frame/8)
}

// spread returns a length from lo to hi, evenly over the logarithms.
func spread(r uint64, lo, hi int) int {
	if lo == hi {
		return lo
	}
	u := float64(r>>11) / (1 << 53)
	return min(hi, lo+int(math.Exp(u*math.Log(float64(hi-lo+2))))-1)
}

// plan knows all messages of one incarnation.
type plan struct {
	sizes             Sizes
	seat, incarnation uint32
	key               uint64
	noise             []byte // the run's, shared by all plans
}

// newNoise makes the run's noise, long enough to be read from any place in its first half.
func newNoise(seed uint64) []byte {
	noise := make([]byte, 2*noiseSize)
	for i := 0; i < noiseSize; i += 8 {
		binary.LittleEndian.PutUint64(noise[i:], mix(seed^saltNoise<<56^uint64(i)))
	}
	copy(noise[noiseSize:], noise)
	return noise
}

func newPlan(seed uint64, sizes Sizes, seat, incarnation int, noise []byte) plan {
	return plan{
		sizes: sizes, seat: uint32(seat), incarnation: uint32(incarnation), noise: noise,
		key: mix(seed ^ mix(uint64(seat)<<32|uint64(incarnation))),
	}
}

// random returns the number that choice salt of message n depends on.
func (p *plan) random(n, salt uint64) uint64 { return mix(p.key ^ mix(n<<8|salt)) }

func (p *plan) size(n uint64) int { return p.sizes.pick(p.random(n, saltSize)) }

// fill writes everything but the header into b, which is message n.
func (p *plan) fill(b []byte, n uint64) {
	if len(b) < headerSize {
		p.short(b, n)
		return
	}
	from := below(p.random(n, saltBytes), noiseSize)
	for rest := b[headerSize:]; len(rest) > 0; {
		k := copy(rest, p.noise[from:from+noiseSize])
		rest = rest[k:]
	}
}

// short writes a message without a header.
func (p *plan) short(b []byte, n uint64) {
	var word [headerSize]byte
	for i := 0; i < headerSize; i += 8 {
		binary.LittleEndian.PutUint64(word[i:], p.random(n, saltBytes+uint64(i)<<4))
	}
	copy(b, word[:])
}

// seal writes the header of message n, sent now.
func (p *plan) seal(b []byte, n uint64, now int64) {
	if len(b) < headerSize {
		return
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
	binary.LittleEndian.PutUint64(b[8:], n)
	binary.LittleEndian.PutUint32(b[16:], p.seat)
	binary.LittleEndian.PutUint32(b[20:], p.incarnation)
	binary.LittleEndian.PutUint64(b[24:], uint64(now))
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
}

// open reads a message that has a header, and says whether it is whole and of
// this plan.
func (p *plan) open(b []byte) (n uint64, sent int64, ok bool) {
	n = binary.LittleEndian.Uint64(b[8:])
	ok = binary.LittleEndian.Uint32(b) == crc32.Checksum(b[4:], castagnoli) &&
		binary.LittleEndian.Uint32(b[4:]) == uint32(len(b)) &&
		binary.LittleEndian.Uint32(b[16:]) == p.seat &&
		binary.LittleEndian.Uint32(b[20:]) == p.incarnation &&
		n != 0 && p.size(n) == len(b)
	return n, int64(binary.LittleEndian.Uint64(b[24:])), ok
}

// isShort reports whether b, which has no header, is message n.
func (p *plan) isShort(b []byte, n uint64) bool {
	if p.size(n) != len(b) {
		return false
	}
	var want [headerSize]byte
	p.short(want[:len(b)], n)
	return string(want[:len(b)]) == string(b)
}
