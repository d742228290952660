// Package ringtest has what tests of rings have in common: rings of the
// smallest size on each kind of memory, parties that are closed when the test
// ends, and a check of every invariant then.
package ringtest

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/require"
)

// Tiny is the smallest ring: 1024 granules, frames of 8 KiB at most.
var Tiny = ring.Options{Capacity: ring.MinCapacity}

// Kinds are the kinds of memory that a ring can lie on.
var Kinds = []shm.Kind{shm.Heap, shm.Memfd, shm.Named}

// Patience is how long a test waits for progress before it fails.
const Patience = 20 * time.Second

// New makes a ring that is checked and closed when the test ends.
func New(t testing.TB, kind shm.Kind, o ring.Options) *ring.Ring {
	t.Helper()
	r := NewUnchecked(t, kind, o)
	t.Cleanup(func() { MustCheck(t, r) })
	return r
}

// NewUnchecked makes a ring that is closed when the test ends, for tests that
// damage it.
func NewUnchecked(t testing.TB, kind shm.Kind, o ring.Options) *ring.Ring {
	t.Helper()
	var r *ring.Ring
	var err error
	switch kind {
	case shm.Heap:
		r, err = ring.NewHeap(o)
	case shm.Memfd:
		r, err = ring.New(o)
	default:
		r, err = ring.Create(Path(t), o)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// Path is a path for a named segment that is removed with the test. It lies
// where segments belong, in memory.
func Path(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(shm.DefaultDir(), "ringtest-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return filepath.Join(dir, "ring")
}

// Each runs a test on every kind of memory.
func Each(t *testing.T, test func(t *testing.T, kind shm.Kind)) {
	t.Helper()
	for _, kind := range Kinds {
		t.Run(kind.String(), func(t *testing.T) { test(t, kind) })
	}
}

// MustCheck fails the test if the segment breaks an invariant.
func MustCheck(t testing.TB, r *ring.Ring) {
	t.Helper()
	require.NoError(t, r.Check())
}

// Attach takes a slot until the test ends, or closes the attachment itself.
func Attach(t testing.TB, r *ring.Ring) *ring.Attachment {
	t.Helper()
	a, err := r.Attach()
	require.NoError(t, err)
	t.Cleanup(func() { mustClose(t, a.Close) })
	return a
}

// Producer is a producer on a slot of its own.
func Producer(t testing.TB, r *ring.Ring) *ring.Producer {
	t.Helper()
	return Attach(t, r).NewProducer()
}

// Consume takes the consumer's seat until the test ends, or closes it itself.
func Consume(t testing.TB, r *ring.Ring, opts ...ring.ConsumerOption) *ring.Consumer {
	t.Helper()
	c, err := r.Consume(opts...)
	require.NoError(t, err)
	t.Cleanup(func() { mustClose(t, c.Close) })
	return c
}

func mustClose(t testing.TB, closer func() error) {
	t.Helper()
	if err := closer(); !errors.Is(err, os.ErrClosed) {
		require.NoError(t, err)
	}
}

// Context ends when the test has waited too long for progress.
func Context(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// Message is a frame's copy.
type Message struct {
	Data     []byte
	Meta     uint64
	Slot     int
	Position uint64
}

// Copy keeps a frame.
func Copy(f ring.Frame) Message {
	return Message{append([]byte{}, f.Data...), f.Meta, f.Slot, f.Position}
}

// Poll takes at most limit messages without waiting.
func Poll(t testing.TB, c *ring.Consumer, limit int) []Message {
	t.Helper()
	var all []Message
	n, err := c.Poll(limit, func(f ring.Frame) ring.Action {
		all = append(all, Copy(f))
		return ring.Continue
	})
	require.NoError(t, err)
	require.Equal(t, len(all), n)
	return all
}

// Receive takes n messages, waiting for them.
func Receive(t testing.TB, c *ring.Consumer, n int) []Message {
	t.Helper()
	ctx := Context(t)
	var all []Message
	for len(all) < n {
		require.NoError(t, c.Wait(ctx), "after %d of %d messages", len(all), n)
		all = append(all, Poll(t, c, n-len(all))...)
	}
	return all
}

// Until calls try until it says true, yielding the processor in between, and
// fails the test when it never does.
func Until(t testing.TB, what string, try func() bool) {
	t.Helper()
	ctx := Context(t)
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for !try() {
		select {
		case <-ctx.Done():
			require.FailNow(t, "no progress", "waited for: %s", what)
		case <-tick.C:
		}
	}
}

// SeedVariable replays a random test: SHMROUTER_SEED=17 go test -run Name.
const SeedVariable = "SHMROUTER_SEED"

// Random is a source whose seed is logged, and taken from SeedVariable if set.
func Random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv(SeedVariable); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 0, 64)
		require.NoError(t, err)
	}
	t.Logf("%s=%d", SeedVariable, seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// Fill makes a message of n bytes that Verify can tell from any other: it
// carries its sender and number, as far as they fit, and a checksum.
func Fill(b []byte, sender uint32, number uint64) {
	x := uint64(sender)<<40 ^ number*0x9E3779B97F4A7C15 ^ uint64(len(b))<<20
	for i := range b {
		x = x*6364136223846793005 + 1442695040888963407
		b[i] = byte(x >> 56)
	}
	if len(b) < 16 {
		return
	}
	for i := range 4 {
		b[i] = byte(sender >> (8 * i))
	}
	for i := range 8 {
		b[4+i] = byte(number >> (8 * i))
	}
	sum := crc32.ChecksumIEEE(b[:12]) ^ crc32.ChecksumIEEE(b[16:])
	for i := range 4 {
		b[12+i] = byte(sum >> (8 * i))
	}
}

// Verify reads what Fill wrote into 16 bytes or more.
func Verify(b []byte) (sender uint32, number uint64, err error) {
	if len(b) < 16 {
		return 0, 0, fmt.Errorf("message of %d bytes", len(b))
	}
	var sum uint32
	for i := range 4 {
		sender |= uint32(b[i]) << (8 * i)
		sum |= uint32(b[12+i]) << (8 * i)
	}
	for i := range 8 {
		number |= uint64(b[4+i]) << (8 * i)
	}
	want := make([]byte, len(b))
	Fill(want, sender, number)
	if string(want) != string(b) {
		return sender, number, fmt.Errorf("message %d of sender %d, %d bytes, is torn", number, sender, len(b))
	}
	return sender, number, nil
}
