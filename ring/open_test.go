package ring_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// allErrors are those of errors.go. Each is matched by itself only, and by the
// class it belongs to.
var allErrors = map[string]error{
	"ErrFull": ring.ErrFull, "ErrTooLarge": ring.ErrTooLarge, "ErrMeta": ring.ErrMeta, "ErrNoConsumer": ring.ErrNoConsumer,
	"ErrClaimDone": ring.ErrClaimDone, "ErrFenced": ring.ErrFenced, "ErrRosterFull": ring.ErrRosterFull,
	"ErrConsumerBusy": ring.ErrConsumerBusy, "ErrInterrupted": ring.ErrInterrupted, "ErrNotManual": ring.ErrNotManual,
	"ErrRelease": ring.ErrRelease, "ErrCapacityNotPower": ring.ErrCapacityNotPower, "ErrCapacityTooSmall": ring.ErrCapacityTooSmall,
	"ErrCapacityTooLarge": ring.ErrCapacityTooLarge, "ErrUserSize": ring.ErrUserSize, "ErrTruncated": ring.ErrTruncated,
	"ErrUnfinished": ring.ErrUnfinished, "ErrNotSegment": ring.ErrNotSegment, "ErrVersion": ring.ErrVersion,
	"ErrByteOrder": ring.ErrByteOrder, "ErrGeometry": ring.ErrGeometry, "ErrCorrupt": ring.ErrCorrupt,
	"ErrNoSlot": ring.ErrNoSlot, "ErrWaiting": ring.ErrWaiting, "ErrUnclaimed": ring.ErrUnclaimed, "ErrReleased": ring.ErrReleased,
}

func TestErrorsAreDistinct(t *testing.T) {
	texts := map[string]string{}
	for a, errA := range allErrors {
		for b, errB := range allErrors {
			assert.Equal(t, a == b, errors.Is(errA, errB), "%s is %s", a, b)
		}
		assert.Empty(t, texts[errA.Error()])
		texts[errA.Error()] = a
	}
	err := error(&ring.CorruptError{Position: 7, Word: ring.MakeHeader(ring.Busy, 3, 4, 5), Reason: "because"})
	assert.ErrorIs(t, err, ring.ErrCorrupt)
	assert.ErrorContains(t, err, "position 7: because")
	assert.ErrorContains(t, err, "BUSY tag 3 owner 4 granules 5")
}

// resealed recomputes the checksum after a change of the superblock.
func resealed(change func(b []byte)) func(b []byte) {
	return func(b []byte) {
		change(b)
		binary.NativeEndian.PutUint64(b[ring.OffChecksum:], ring.Checksum(b))
	}
}

func put32(off int, v uint32) func([]byte) {
	return func(b []byte) { binary.NativeEndian.PutUint32(b[off:], v) }
}

func put64(off int, v uint64) func([]byte) {
	return func(b []byte) { binary.NativeEndian.PutUint64(b[off:], v) }
}

func TestOpenRefuses(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(b []byte)
		size   int64 // cut to, if not 0; -1: to nothing
		err    error
	}{
		{"empty file", nil, -1, shm.ErrEmpty},
		{"not a number of pages", nil, 5000, ring.ErrTruncated},
		{"one page", nil, 4096, ring.ErrTruncated},
		{"up to the roster", nil, 45056 - 4096, ring.ErrTruncated},
		{"up to the table", nil, 45056, ring.ErrTruncated},
		{"the last page missing", nil, 45056 + 1024*16 + ring.MinCapacity - 4096, ring.ErrTruncated},
		{"unfinished", put64(ring.OffMagic, 0), 0, ring.ErrUnfinished},
		{"all zero", func(b []byte) { clear(b) }, 0, ring.ErrUnfinished},
		{"not ours", func(b []byte) { copy(b, "\x7fELF....") }, 0, ring.ErrNotSegment},
		{"one letter off", func(b []byte) { b[7]++ }, 0, ring.ErrNotSegment},
		{"other version", put32(ring.OffVersion, ring.Version+1), 0, ring.ErrVersion},
		{"other version, sealed", resealed(put32(ring.OffVersion, 0)), 0, ring.ErrVersion},
		{"other byte order", func(b []byte) {
			// As such a host would have written it: all words reversed.
			for off := ring.OffOrder; off < ring.OffChecksum+8; off += 4 {
				binary.NativeEndian.PutUint32(b[off:], bits.ReverseBytes32(binary.NativeEndian.Uint32(b[off:])))
			}
		}, 0, ring.ErrByteOrder},
		{"no byte order", resealed(put32(ring.OffOrder, 7)), 0, ring.ErrGeometry},
		{"checksum", put64(ring.OffChecksum, 1), 0, ring.ErrGeometry},
		{"a flipped bit", func(b []byte) { b[70] ^= 4 }, 0, ring.ErrGeometry},
		{"capacity 0", resealed(put64(ring.OffCapacity, 0)), 0, ring.ErrGeometry},
		{"capacity too small", resealed(put64(ring.OffCapacity, ring.MinCapacity/2)), 0, ring.ErrGeometry},
		{"capacity of another segment", resealed(put64(ring.OffCapacity, ring.MinCapacity*2)), 0, ring.ErrGeometry},
		{"capacity no power", resealed(put64(ring.OffCapacity, ring.MinCapacity*3)), 0, ring.ErrGeometry},
		{"capacity negative", resealed(put64(ring.OffCapacity, 1<<63)), 0, ring.ErrGeometry},
		{"user size negative", resealed(put64(ring.OffUserSize, 1<<63)), 0, ring.ErrGeometry},
		{"user size not rounded", resealed(put64(ring.OffUserSize, 17)), 0, ring.ErrGeometry},
		{"data offset", resealed(put64(ring.OffData, 4096)), 0, ring.ErrGeometry},
		{"segment size", resealed(put64(ring.OffSegment, 1<<40)), 0, ring.ErrGeometry},
		{"granule", resealed(put32(ring.OffGranule, 128)), 0, ring.ErrGeometry},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := ringtest.Path(t)
			r, err := ring.Create(path, ringtest.Tiny)
			require.NoError(t, err)
			require.NoError(t, r.Close())
			r, err = ring.OpenPath(path)
			require.NoError(t, err, "unharmed")
			require.NoError(t, r.Close())
			if row.change != nil {
				b, err := os.ReadFile(path)
				require.NoError(t, err)
				row.change(b)
				require.NoError(t, os.WriteFile(path, b, 0o600))
			}
			if row.size != 0 {
				require.NoError(t, os.Truncate(path, max(row.size, 0)))
			}
			r, err = ring.OpenPath(path)
			require.ErrorIs(t, err, row.err)
			require.Nil(t, r)
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			require.NoError(t, err)
			defer f.Close()
			_, err = ring.OpenFile(f)
			require.ErrorIs(t, err, row.err, "by descriptor")
			for name, other := range allErrors {
				if !errors.Is(row.err, other) {
					require.NotErrorIs(t, err, other, name)
				}
			}
		})
	}
}

// Random bytes, with and without a good beginning, are refused or are a ring
// whose parties return errors: nothing panics, hangs, or reads elsewhere.
func TestOpenGarbage(t *testing.T) {
	random := ringtest.Random(t)
	total, _, err := ring.SegmentSize(ringtest.Tiny)
	require.NoError(t, err)
	for i := range 60 {
		seg, err := shm.NewHeap(total)
		require.NoError(t, err)
		r, err := ring.Format(seg, ringtest.Tiny)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		b := seg.Bytes()
		from, share := 0, 1
		if i%3 != 0 { // everything behind the superblock, or some of it
			from, share = 104, 1+random.IntN(50)
		}
		for j := from; j < len(b); j += 8 {
			if random.IntN(share) == 0 {
				binary.NativeEndian.PutUint64(b[j:], random.Uint64()>>random.IntN(64))
			}
		}
		r, err = ring.Open(seg)
		if from == 0 {
			if !errors.Is(err, ring.ErrUnfinished) { // begins with a zero word
				require.ErrorIs(t, err, ring.ErrNotSegment)
			}
			require.NoError(t, seg.Close())
			continue
		}
		require.NoError(t, err)
		useGarbage(t, r)
		require.NoError(t, r.Close())
		require.NoError(t, seg.Close())
	}
}

func useGarbage(t *testing.T, r *ring.Ring) {
	r.Check()
	r.Stats()
	r.Frontier()
	if a, err := r.Attach(); err == nil {
		p := a.NewProducer()
		for range 10 {
			if err := p.TrySend([]byte("x"), 0); err != nil && err != ring.ErrFull {
				require.ErrorIs(t, err, ring.ErrCorrupt)
			}
		}
		a.Close()
	} else {
		require.ErrorIs(t, err, ring.ErrCorrupt)
	}
	c, err := r.Consume()
	require.NoError(t, err)
	for range 100 {
		n, err := c.Poll(100, func(f ring.Frame) ring.Action {
			require.LessOrEqual(t, len(f.Data), r.MaxFrame()*8)
			return ring.Continue
		})
		if err == nil && n == 0 {
			err = c.WaitUntil(context.Background(), 1)
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			require.ErrorIs(t, err, ring.ErrCorrupt)
			_, err = c.Resync()
			require.NoError(t, err)
		}
	}
	require.NoError(t, c.Close())
}

func TestFormatNeedsRoom(t *testing.T) {
	seg, err := shm.NewHeap(65536)
	require.NoError(t, err)
	defer seg.Close()
	_, err = ring.Format(seg, ringtest.Tiny)
	assert.ErrorIs(t, err, ring.ErrTruncated)
	_, err = ring.Open(seg)
	assert.ErrorIs(t, err, ring.ErrUnfinished)
}

// The same ring through several mappings, by path and by descriptor.
func TestOpenAgain(t *testing.T) {
	for _, kind := range []shm.Kind{shm.Memfd, shm.Named} {
		r := ringtest.New(t, kind, ring.Options{Capacity: ring.MinCapacity, UserSize: 100})
		f, err := r.File()
		require.NoError(t, err)
		defer f.Close()
		other, err := ring.OpenFile(f)
		require.NoError(t, err)
		defer other.Close()
		if kind == shm.Named {
			third, err := ring.OpenPath(r.Segment().Path())
			require.NoError(t, err)
			defer third.Close()
			assert.Equal(t, r.Identity(), third.Identity())
		}
		assert.Equal(t, r.Identity(), other.Identity())
		off, size := other.User()
		wantOff, wantSize := r.User()
		assert.Equal(t, []int64{wantOff, wantSize}, []int64{off, size})
		assert.Equal(t, r.Capacity(), other.Capacity())
		p, c := ringtest.Producer(t, other), ringtest.Consume(t, r)
		require.NoError(t, p.TrySend([]byte("across"), 9))
		got := ringtest.Poll(t, c, 2)
		require.Len(t, got, 1)
		assert.Equal(t, "across", string(got[0].Data))
		_, err = other.Consume()
		assert.ErrorIs(t, err, ring.ErrConsumerBusy)
	}
	_, err := ringtest.New(t, shm.Heap, ringtest.Tiny).File()
	assert.ErrorIs(t, err, shm.ErrNoFile)
}

func TestCreateLeavesFilesAlone(t *testing.T) {
	path := ringtest.Path(t)
	require.NoError(t, os.WriteFile(path, []byte("mine"), 0o600))
	_, err := ring.Create(path, ringtest.Tiny)
	assert.ErrorIs(t, err, fs.ErrExist)
	link := filepath.Join(filepath.Dir(path), "link")
	require.NoError(t, os.Symlink("nowhere", link))
	_, err = ring.Create(link, ringtest.Tiny)
	assert.ErrorIs(t, err, fs.ErrExist)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "mine", string(b))
	_, err = ring.OpenPath(link)
	assert.ErrorIs(t, err, shm.ErrNotRegular)
	_, err = ring.OpenPath(path + "-not-there")
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

// A named file that somebody truncates: whatever is done then returns
// shm.ErrFault, and the process lives.
func TestTruncation(t *testing.T) {
	needFaults(t)
	ctx := ringtest.Context(t)
	for name, use := range map[string]func(t *testing.T, r *ring.Ring, p *ring.Producer, c *ring.Consumer) error{
		"TrySend": func(t *testing.T, _ *ring.Ring, p *ring.Producer, _ *ring.Consumer) error {
			return p.TrySend([]byte("x"), 0)
		},
		"Send": func(t *testing.T, _ *ring.Ring, p *ring.Producer, _ *ring.Consumer) error {
			return p.Send(ctx, []byte("x"), 0)
		},
		"TryBatch": func(t *testing.T, _ *ring.Ring, p *ring.Producer, _ *ring.Consumer) error {
			return p.TryBatch([][]byte{{1}}, nil)
		},
		"Poll": func(t *testing.T, _ *ring.Ring, _ *ring.Producer, c *ring.Consumer) error {
			_, err := c.Poll(1, nil)
			return err
		},
		"Wait": func(t *testing.T, _ *ring.Ring, _ *ring.Producer, c *ring.Consumer) error { return c.Wait(ctx) },
		"Resync": func(t *testing.T, _ *ring.Ring, _ *ring.Producer, c *ring.Consumer) error {
			_, err := c.Resync()
			return err
		},
		"Check": func(t *testing.T, r *ring.Ring, _ *ring.Producer, _ *ring.Consumer) error { return r.Check() },
		"Stats": func(t *testing.T, r *ring.Ring, _ *ring.Producer, _ *ring.Consumer) error {
			_, err := r.Stats()
			return err
		},
		"Frontier": func(t *testing.T, r *ring.Ring, _ *ring.Producer, _ *ring.Consumer) error {
			_, err := r.Frontier()
			return err
		},
		"Attach": func(t *testing.T, r *ring.Ring, _ *ring.Producer, _ *ring.Consumer) error {
			_, err := r.Attach()
			return err
		},
		"Open": func(t *testing.T, r *ring.Ring, _ *ring.Producer, _ *ring.Consumer) error {
			_, err := ring.Open(r.Segment())
			return err
		},
		"WaitReleased": func(t *testing.T, _ *ring.Ring, p *ring.Producer, _ *ring.Consumer) error {
			return p.WaitReleased(ctx, 1)
		},
		"Format": func(t *testing.T, r *ring.Ring, _ *ring.Producer, _ *ring.Consumer) error {
			_, err := ring.Format(r.Segment(), ringtest.Tiny)
			return err
		},
		"Consume": func(t *testing.T, r *ring.Ring, _ *ring.Producer, c *ring.Consumer) error {
			require.ErrorIs(t, c.Close(), shm.ErrFault)
			_, err := r.Consume()
			return err
		},
		"Release": func(t *testing.T, r *ring.Ring, _ *ring.Producer, c *ring.Consumer) error {
			return c.Release(0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := ringtest.NewUnchecked(t, shm.Named, ringtest.Tiny)
			a, err := r.Attach()
			require.NoError(t, err)
			p := a.NewProducer()
			c, err := r.Consume(ring.WithManualRelease())
			require.NoError(t, err)
			require.NoError(t, os.Truncate(r.Segment().Path(), 0))
			require.ErrorIs(t, use(t, r, p, c), shm.ErrFault)
			require.ErrorIs(t, a.Close(), shm.ErrFault)
			if err := c.Close(); !errors.Is(err, os.ErrClosed) {
				require.ErrorIs(t, err, shm.ErrFault)
			}
		})
	}
}

// Truncated while senders and the consumer are at work.
func TestTruncationUnderTraffic(t *testing.T) {
	needFaults(t)
	ctx := ringtest.Context(t)
	for round := range 10 {
		r := ringtest.NewUnchecked(t, shm.Named, ringtest.Tiny)
		a, err := r.Attach()
		require.NoError(t, err)
		c, err := r.Consume(ring.WithWaiting(ring.Thrift))
		require.NoError(t, err)
		sent := make(chan error, 2)
		for range cap(sent) {
			p := a.NewProducer()
			go func() {
				for {
					if err := p.Send(ctx, make([]byte, 900), 0); err != nil {
						sent <- err
						return
					}
				}
			}()
		}
		for n := 0; ; {
			if err = c.Wait(ctx); err != nil {
				break
			}
			var m int
			if m, err = c.Poll(20, func(ring.Frame) ring.Action { return ring.Continue }); err != nil {
				break
			}
			if n += m; n > 100*(round+1) {
				require.NoError(t, os.Truncate(r.Segment().Path(), 0))
			}
			runtime.Gosched()
		}
		require.ErrorIs(t, err, shm.ErrFault)
		for range cap(sent) {
			require.ErrorIs(t, <-sent, shm.ErrFault)
		}
		require.ErrorIs(t, a.Close(), shm.ErrFault)
		require.ErrorIs(t, c.Close(), shm.ErrFault)
	}
}

// A claim that the program forgot, on a file that was truncated since.
func TestTruncationUnderADroppedClaim(t *testing.T) {
	needFaults(t)
	r := ringtest.NewUnchecked(t, shm.Named, ringtest.Tiny)
	a, err := r.Attach()
	require.NoError(t, err)
	c, err := r.Consume()
	require.NoError(t, err)
	locks, err := r.Segment().OpenLocks()
	require.NoError(t, err)
	defer locks.Close()
	forget(t, a.NewProducer())
	require.NoError(t, os.Truncate(r.Segment().Path(), 0))
	require.NoError(t, a.Close(), "the claim is still open")
	ringtest.Until(t, "the collector finds the claim and frees the slot", func() bool {
		runtime.GC()
		alive, err := locks.Held(int64(a.Slot()))
		require.NoError(t, err)
		return !alive
	})
	require.ErrorIs(t, c.Close(), shm.ErrFault)
}

// needFaults skips a test where a fault on mapped memory cannot become a panic.
func needFaults(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("the race detector makes atomic accesses in C code, from which a fault cannot be turned into a panic")
	}
	if os.Getenv("SHMROUTER_EMULATED") != "" {
		t.Skip("SHMROUTER_EMULATED is set: qemu-user does not report the address of a bus error")
	}
}
