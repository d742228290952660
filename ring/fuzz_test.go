package ring_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Fuzz targets: an execution takes an image of a segment, damages it as the
// fuzzer says, and lets one party loose on it. See fuzz_image_test.go for how
// the bytes are read, and fuzz_oracle_test.go for what must hold.
//
//	go test -run '^$' -fuzz FuzzConsumer ./ring

func target(f *testing.F, size int64, run func(t *testing.T, s *stage, in *input)) {
	for choice := range len(images()) {
		f.Add([]byte{byte(choice), 0, 1, 9, 2, 3, 4, 5, 6, 7, 8})
	}
	s := newStage(f, size)
	f.Fuzz(func(t *testing.T, b []byte) {
		execute(t, func() { run(t, s, &input{b}) })
	})
}

// Open refuses what is not sound, by one of its errors, and nothing else.
func FuzzOpen(f *testing.F) {
	refusals := []error{ring.ErrTruncated, ring.ErrUnfinished, ring.ErrNotSegment, ring.ErrByteOrder, ring.ErrVersion, ring.ErrGeometry}
	sizes := []int64{imageSize, ring.TableAt, ring.TableAt + 4096, imageSize + 4096, imageSize - 4096, 4096}
	f.Add([]byte{0, 0})
	f.Add([]byte{0, 2, 24, 0, 0, 0, 0, 0, 0, 0, 16, 0})
	f.Add(append([]byte{0, 0x80}, images()[1][:104]...))
	var stages []*stage
	for _, size := range sizes {
		stages = append(stages, newStage(f, size))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		execute(t, func() {
			in := &input{b}
			s := stages[in.n(len(stages))]
			size := s.seg.Size()
			copy(s.image, images()[0])
			if how := in.byte(); how&0x80 != 0 { // raw
				copy(s.image, in.rest)
			} else {
				for range how & 15 {
					at := in.byte() % 104 &^ 3
					copy(s.image[at:], []byte{in.byte(), in.byte(), in.byte(), in.byte()}[:min(4, len(s.image)-int(at))])
				}
				if how&0x40 == 0 {
					s.put(ring.OffChecksum, ring.Checksum(s.image))
				}
			}
			before := bytes.Clone(s.image)
			r, err := ring.Open(s.seg)
			require.Equal(t, before, s.image, "Open writes nothing")
			documented(t, err, refusals...)
			if err != nil {
				require.Nil(t, r)
				return
			}
			// What may differ from the image that it was: nothing that counts.
			require.GreaterOrEqual(t, size, int64(imageSize))
			require.EqualValues(t, ring.MinCapacity, r.Capacity())
			off, user := r.User()
			require.LessOrEqual(t, off+user, size)
			require.NoError(t, r.Check())
			require.NoError(t, r.Close())
		})
	})
}

// Whoever only reads does not write: the segment is mapped without the right to.
func FuzzCheck(f *testing.F) {
	target(f, imageSize, func(t *testing.T, s *stage, in *input) {
		sound := s.paint(in)
		r, err := ring.Open(s.seg)
		require.NoError(t, err)
		defer r.Close()
		require.NoError(t, unix.Mprotect(s.image, unix.PROT_READ))
		defer unix.Mprotect(s.image, unix.PROT_READ|unix.PROT_WRITE)

		err = r.Check()
		documented(t, err, ring.ErrCorrupt)
		if sound {
			require.NoError(t, err)
		}
		stats, err := r.Stats()
		require.NoError(t, err)
		require.LessOrEqual(t, len(stats.Slots), ring.MaxSlots)
		require.LessOrEqual(t, stats.Used, r.Capacity())
		require.GreaterOrEqual(t, stats.Used, int64(0))
		for range in.n(8) {
			r.SlotInfo(int(in.uint16()) - 1000)
		}
		pos, err := r.Frontier()
		documented(t, err, ring.ErrCorrupt)
		if sound {
			require.NoError(t, err)
		}
		if err == nil && pos-r.Head() > imageGrains {
			t.Fatalf("frontier %d, head %d: the ring is not that long", pos, r.Head())
		}
	})
}

// A consumer on a damaged image, in all its modes.
func FuzzConsumer(f *testing.F) {
	target(f, imageSize, func(t *testing.T, s *stage, in *input) {
		s.paint(in)
		r, err := ring.Open(s.seg)
		require.NoError(t, err)
		defer r.Close()
		c := &consumption{t: t, s: s, ring: r}
		c.open(in.byte())
		defer func() { c.cons.Close() }()
		for range fuzzSteps {
			if in.ended() {
				break
			}
			c.step(in)
		}
		c.drain()
		// Who joins looks from head on, and meets what the consumer steps over.
		a, err := c.join()
		for tries := 0; err != nil; a, err = c.join() {
			if tries++; tries > 8*imageGrains {
				t.Fatalf("nobody can join: %v", err)
			}
			c.resync()
		}
		defer a.Close()
		c.works(a.NewProducer())
	})
}

func (c *consumption) join() (*ring.Attachment, error) {
	if c.manual {
		require.NoError(c.t, c.cons.Release(c.cons.Position()))
	}
	a, err := c.ring.Attach()
	documented(c.t, err, ring.ErrCorrupt)
	return a, err
}

func (c *consumption) open(how byte) {
	opts := []ring.ConsumerOption{ring.WithWaiting([...]ring.Waiting{ring.Thrift, ring.Adaptive}[how>>1&1])}
	if c.manual = how&1 != 0; c.manual {
		opts = append(opts, ring.WithManualRelease())
	}
	if how&4 != 0 {
		opts = append(opts, ring.WithOnStall(func(ring.StallEvent) {}), ring.WithOnSkip(func(e ring.SkipEvent) {
			if e.Slot == aliveSlot {
				c.t.Fatalf("%+v: its owner is alive", e)
			}
		}))
	}
	var err error
	c.cons, err = c.ring.Consume(opts...)
	require.NoError(c.t, err)
}

func (c *consumption) step(in *input) {
	limit := in.n(40) - 2
	switch in.n(10) {
	case 0, 1:
		c.poll(limit, func(int) ring.Action { return ring.Continue })
	case 2:
		c.poll(limit, func(n int) ring.Action { return []ring.Action{ring.Continue, ring.Leave}[min(n/3, 1)] })
	case 3:
		c.poll(limit, func(n int) ring.Action { return []ring.Action{ring.Continue, ring.Break}[min(n/2, 1)] })
	case 4:
		c.wait()
	case 5:
		c.resync()
	case 6:
		documented(c.t, c.cons.Release(c.cons.Position()-uint64(in.byte())), ring.ErrRelease, ring.ErrNotManual)
	case 7:
		c.s.damage(in)
	case 8:
		_, err := c.cons.SlotAlive(in.n(ring.MaxSlots))
		require.NoError(c.t, err)
	case 9: // another one takes over
		require.NoError(c.t, c.cons.Close())
		c.open(in.byte())
	}
}

// A producer on a damaged image. Somebody consumes beside it.
func FuzzProducer(f *testing.F) {
	target(f, imageSize, func(t *testing.T, s *stage, in *input) {
		s.paint(in)
		r, err := ring.Open(s.seg)
		require.NoError(t, err)
		defer r.Close()
		a, err := r.Attach()
		if documented(t, err, ring.ErrCorrupt); err != nil {
			return
		}
		prods := []*ring.Producer{a.NewProducer(), a.NewProducer()}
		c := &consumption{t: t, s: s, ring: r}
		c.open(in.byte())
		for range fuzzSteps {
			if in.ended() {
				break
			}
			if in.n(4) == 0 {
				c.step(in)
			} else {
				c.produce(in, prods[in.byte()&1])
			}
		}
		require.NoError(t, c.cons.Close())
		documented(t, a.Close(), ring.ErrCorrupt)
		require.ErrorIs(t, prods[0].TrySend(nil, 0), os.ErrClosed)
	})
}

// produce does one of the things that a producer can do.
func (c *consumption) produce(in *input, p *ring.Producer) {
	refusals := []error{ring.ErrFull, ring.ErrCorrupt, ring.ErrFenced, ring.ErrTooLarge}
	waiting := append([]error{context.DeadlineExceeded}, refusals...)
	ctx, cancel := context.WithTimeout(context.Background(), 4*fuzzNap)
	defer cancel()
	size := []int{0, 1, 64, 65, 1000, 8191, 8192, int(in.byte())}[in.n(8)]
	b := bytes.Repeat([]byte{0xa5}, size)
	switch how := in.n(10); how {
	case 0, 1:
		documented(c.t, p.TrySend(b, 1), refusals...)
	case 2:
		documented(c.t, p.TryBatch([][]byte{b, nil, b[:size/2]}, nil), refusals...)
	case 3:
		documented(c.t, p.Send(ctx, b, 2), waiting...)
	case 8:
		documented(c.t, p.SendBatch(ctx, [][]byte{b, nil}, nil), waiting...)
	case 4, 9:
		var claim ring.Claim
		var err error
		if how == 4 {
			claim, err = p.TryClaim(size, 3)
		} else {
			claim, err = p.Claim(ctx, size, 3)
		}
		if documented(c.t, err, waiting...); err != nil {
			return
		}
		c.s.inData(c.t, c.ring, claim.Bytes())
		for i := range claim.Bytes() {
			claim.Bytes()[i] = 0x5a
		}
		if in.byte()&1 != 0 {
			c.s.damage(in)
		}
		if k := in.n(3); k == 0 {
			claim.Abort()
		} else {
			documented(c.t, claim.CommitN(size/k), ring.ErrFenced)
		}
	case 5:
		documented(c.t, p.WaitReleased(ctx, p.Position()-uint64(in.byte())), context.DeadlineExceeded)
	case 6:
		documented(c.t, p.AwaitRoom(ctx, size, func() error { return p.TrySend(b, 4) }), waiting...)
	case 7:
		c.s.damage(in)
	}
}

// A process that joins, and leaves, on a damaged image.
func FuzzAttach(f *testing.F) {
	target(f, imageSize, func(t *testing.T, s *stage, in *input) {
		sound := s.paint(in)
		r, err := ring.Open(s.seg)
		require.NoError(t, err)
		defer r.Close()
		var all []*ring.Attachment
		for range 1 + in.n(3) {
			a, err := r.Attach()
			documented(t, err, ring.ErrCorrupt)
			if sound {
				require.NoError(t, err)
			}
			if err != nil {
				break
			}
			require.NotEqual(t, aliveSlot, a.Slot())
			require.NoError(t, leftBehind(r, a.Slot()))
			alive, err := a.ConsumerAlive()
			require.NoError(t, err)
			require.False(t, alive)
			all = append(all, a)
			for range in.n(3) {
				s.damage(in)
				sound = false
			}
		}
		for _, a := range all {
			documented(t, a.Close(), ring.ErrCorrupt)
		}
		if sound {
			require.NoError(t, r.Check())
		}
	})
}

// leftBehind finds a claim of the slot between head and the first free granule.
func leftBehind(r *ring.Ring, slot int) error {
	for pos := r.Head(); r.AgeAt(pos) == 0 && pos-r.Head() < imageGrains; pos++ {
		w := r.WordAt(pos)
		if g := ring.GranulesOf(w); g > 0 && g <= imageGrains-pos%imageGrains {
			if ring.StateOf(w) == ring.Busy && ring.OwnerOf(w) == slot {
				return errors.New("a claim of the slot's last holder was not swept")
			}
			pos += g - 1
		}
	}
	return nil
}
