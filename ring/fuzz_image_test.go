package ring_test

import (
	"encoding/binary"
	"sync"
	"testing"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/require"
)

// The images that fuzz targets begin with: what a ring looks like in the states
// that its code tells apart. The fuzzer's bytes choose one and say how to damage it.

const (
	imageSize   = ring.TableAt + imageGrains*16 + ring.MinCapacity
	imageGrains = ring.MinCapacity / ring.Granule

	aliveSlot = 3 // of the images' producers, the one that lives; the others are dead
)

// images are made once, by the ring itself, since they cost more than a fuzzed
// execution.
var images = sync.OnceValue(func() (all [][]byte) {
	for _, paint := range []func(*painter){
		func(p *painter) {}, // fresh
		paintTraffic,
		func(p *painter) { p.ring.StartAt(1000); paintTraffic(p) }, // records on both sides of a lap's end
		paintFull,
		func(p *painter) { p.ring.StartAt(1<<40 + 500); paintTraffic(p) },
		func(p *painter) { p.ring.StartAt(ring.ScrubLap*imageGrains + 700); paintTraffic(p) },
		func(p *painter) { p.ring.StartAt((1<<ring.TagBits-1)*imageGrains + 1000); paintTraffic(p) }, // tags wrap
		func(p *painter) { p.claim(aliveSlot, 100); paintTraffic(p) },
		func(p *painter) { paintTraffic(p); p.ring.SetSleep(ring.MakeSleep(p.ring.Head(), 7, 1)) },
	} {
		all = append(all, paintImage(paint))
	}
	return all
})

// painter fills a ring in the name of several producers.
type painter struct {
	ring  *ring.Ring
	prods []*ring.Producer
}

func paintImage(paint func(*painter)) []byte {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	r, err := ring.NewHeap(ringtest.Tiny)
	must(err)
	p := &painter{ring: r}
	for range aliveSlot + 2 {
		a, err := r.Attach()
		must(err)
		p.prods = append(p.prods, a.NewProducer())
	}
	paint(p)
	return append([]byte{}, r.Segment().Bytes()...)
}

func (p *painter) send(slot, size int) bool {
	p.prods[slot].Forget() // of positions before StartAt
	return p.prods[slot].TrySend(make([]byte, size), uint64(size)) == nil
}

func (p *painter) claim(slot, size int) ring.Claim {
	p.prods[slot].Forget()
	c, err := p.prods[slot].TryClaim(size, 1)
	if err != nil {
		panic(err)
	}
	forgotten = append(forgotten, c)
	return c
}

// forgotten keeps claims from the collector, which would abort them.
var forgotten []ring.Claim

func paintTraffic(p *painter) {
	p.send(0, 100)
	p.claim(1, 150).Abort()
	p.send(2, 0)
	p.claim(4, 200) // of a dead one
	p.prods[0].TryBatch([][]byte{make([]byte, 100), nil, {1}}, func(i int) uint64 { return uint64(i) })
	p.claim(0, 300)
	p.send(1, 4000)
	p.send(2, 64)
}

func paintFull(p *painter) {
	for i := 0; p.send(i%4, i*37%1000) || p.send(0, 0); i++ {
	}
}

// stage is where an execution happens: one segment between walls, and a party
// that keeps a slot alive. It lasts for the whole of a target's run.
type stage struct {
	seg   *shm.Segment
	image []byte // the segment
}

func newStage(t testing.TB, size int64) *stage {
	seg := ringtest.Walled(t, size)
	locks, err := seg.OpenLocks()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, locks.Close()) })
	ok, err := locks.TryLock(aliveSlot)
	require.NoError(t, err)
	require.True(t, ok)
	t.Cleanup(ring.SetNaps(fuzzNap))
	return &stage{seg: seg, image: seg.Bytes()}
}

func (s *stage) word(off uint64) uint64 { return binary.NativeEndian.Uint64(s.image[off:]) }

func (s *stage) put(off, v uint64) { binary.NativeEndian.PutUint64(s.image[off:], v) }

// input is what the fuzzer says, a few bytes at a time; zero at its end.
type input struct{ rest []byte }

func (in *input) byte() byte {
	if len(in.rest) == 0 {
		return 0
	}
	b := in.rest[0]
	in.rest = in.rest[1:]
	return b
}

func (in *input) n(below int) int { return int(in.byte()) % below }
func (in *input) uint16() uint64  { return uint64(in.byte()) | uint64(in.byte())<<8 }
func (in *input) ended() bool     { return len(in.rest) == 0 }
func (in *input) uint64() (v uint64) {
	for range 8 {
		v = v<<8 | uint64(in.byte())
	}
	return v
}

// paint puts one of the images into the segment and damages it as the input
// says. Without damage it is sound.
func (s *stage) paint(in *input) (sound bool) {
	choice := int(in.byte())
	copy(s.image, images()[choice%len(images())])
	if choice >= 0xf0 { // raw: the rest of the input over everything from some word on
		if off := ring.OffHint + in.uint16()%((imageSize-ring.OffHint)/8)*8; len(in.rest) > 0 {
			for b := s.image[off:imageSize]; len(b) > 0; {
				b = b[copy(b, in.rest):]
			}
		}
		in.rest = in.rest[:min(len(in.rest), 16)]
		return false
	}
	changes := in.n(12)
	for range changes {
		s.damage(in)
	}
	return changes == 0
}

// near is a position that matters: from head, or the hint, some way on or back.
func (s *stage) near(in *input) uint64 {
	base := s.word(ring.OffHead)
	if k := in.byte(); k&1 != 0 {
		base = s.word(ring.OffHint)
	}
	return base + uint64(int64(int16(in.uint16())))
}

// damage writes one word.
func (s *stage) damage(in *input) {
	pos := s.word(ring.OffHead)
	table := func(p uint64) uint64 { return ring.TableAt + p%imageGrains*16 }
	var at uint64
	switch in.n(10) {
	case 0, 1, 2: // a header word close to the front
		pos += uint64(in.n(40))
		at = table(pos)
	case 3: // any header word
		pos = s.near(in)
		at = table(pos)
	case 4: // an info word
		pos += uint64(in.n(40))
		at = table(pos) + 8
	case 5, 6:
		at = []uint64{ring.OffHint, ring.OffHead, ring.OffSleep, ring.OffTurn, ring.OffRoomWaiters, ring.OffRoomEpisode,
			ring.OffLife, ring.OffCounters}[in.n(8)]
	case 7:
		at = ring.OffRoster + uint64(in.n(ring.MaxSlots))*ring.OffRosterSlot + uint64(in.n(8))*8
	case 8: // header words of a whole stretch
		pos = s.near(in)
		for range in.uint16() % imageGrains {
			s.put(table(pos), s.value(&input{in.rest}, pos, table(pos)))
			pos++
		}
		at = table(pos)
	default:
		at = ring.OffHint + in.uint16()*8%(imageSize-ring.OffHint)
	}
	s.put(at, s.value(in, pos, at))
}

// value is one that the code might take for something, given that it is about pos.
func (s *stage) value(in *input, pos, at uint64) uint64 {
	switch in.n(9) {
	case 0, 1, 2:
		lap := (pos/imageGrains + 1) + []uint64{0, 0, 0, 1, ^uint64(0), 2, ring.CorruptDistance, ring.CorruptDistance - 1}[in.n(8)]
		owner := []int{0, aliveSlot, 1, 4, 254, ring.OwnerNone}[in.n(6)]
		rest := imageGrains - pos%imageGrains
		g := []uint64{1, 2, 3, 0, rest, rest + 1, imageGrains / 8, imageGrains/8 + 1, imageGrains, 1<<19 - 1, uint64(in.byte())}[in.n(11)]
		return ring.MakeHeader(in.byte()&3, lap, owner, g)
	case 3: // an info word
		length := []int{0, 1, 64, 65, 128, 8192, ring.MaxFrameBytes, ring.MaxFrameBytes + 1, ring.Void, int(in.uint16())}[in.n(10)]
		return ring.MakeInfo(length, uint64(in.byte()))
	case 4: // a position
		return s.near(in)
	case 5: // a position far away
		head := s.word(ring.OffHead)
		return []uint64{0, 1 << 63, ^uint64(0), head + imageGrains, head + imageGrains + 1, head - 1, head + 1<<28, head + 1<<40}[in.n(8)]
	case 6: // a sleep word, a turn, a count
		return []uint64{ring.MakeSleep(s.near(in), uint64(in.byte()), uint64(in.byte())), uint64(in.n(256)) | uint64(in.byte())<<8,
			uint64(in.byte())}[in.n(3)]
	case 7: // a bit of what is there
		return s.word(at) ^ 1<<(in.byte()&63)
	}
	return in.uint64()
}
