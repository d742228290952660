package ring_test

import (
	"context"
	"encoding/binary"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var soakTime = flag.Duration("soak", 3*time.Second, "how long TestProcessSoak kills")

// The soak's oracle does not rely on the ring: each worker notes what it is
// about to send, and what was sent, in a file of its own, which outlives it.
// Notes are the number of the message, shifted, and one bit.
const (
	noteIntent = 0
	noteAck    = 1
)

// workSoak sends numbered messages until it is killed, a quarter of them
// through claims; now and then it offers to be killed from inside one.
// args: its number, the file for its notes, a seed.
func workSoak(w *worker) error {
	id, err := strconv.ParseUint(w.args[0], 10, 32)
	if err != nil {
		return err
	}
	notes, err := os.OpenFile(w.args[1], os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	seed, err := strconv.ParseUint(w.args[2], 10, 64)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(seed, id))
	a, err := w.ring.Attach()
	if err != nil {
		return err
	}
	p := a.NewProducer()
	note := func(number, kind uint64) {
		var b [8]byte
		binary.NativeEndian.PutUint64(b[:], number<<1|kind)
		notes.Write(b[:])
	}
	ctx := context.Background()
	for number := uint64(1); ; number++ {
		n := 16 + random.IntN(1<<(4+random.IntN(10)))
		n = min(n, w.ring.MaxFrame())
		note(number, noteIntent)
		switch random.IntN(8) {
		case 0, 1:
			claim, err := p.Claim(ctx, n, id)
			if err != nil {
				return err
			}
			ringtest.Fill(claim.Bytes(), uint32(id), number)
			if random.IntN(200) == 0 {
				w.say("in a claim")
				if _, err := w.wait(); err != nil {
					return err
				}
			}
			if err := claim.Commit(); err != nil {
				return err
			}
		case 2:
			if claim, err := p.TryClaim(n, id); err == nil {
				claim.Abort()
			}
			fallthrough
		default:
			b := make([]byte, n)
			ringtest.Fill(b, uint32(id), number)
			if err := p.Send(ctx, b, id); err != nil {
				return err
			}
		}
		note(number, noteAck)
	}
}

type soakWorker struct {
	*child
	id    int
	notes string
}

// Workers are killed at random, most often inside a claim, and replaced:
// everything acknowledged is delivered, everything delivered was intended,
// each worker's messages come in order, once, and whole.
func TestProcessSoak(t *testing.T) {
	const workers = 3
	for _, kind := range []shm.Kind{shm.Memfd, shm.Named} {
		t.Run(kind.String(), func(t *testing.T) {
			r := ringtest.New(t, kind, ringtest.Tiny)
			c := ringtest.Consume(t, r)
			random := ringtest.Random(t)
			dir := t.TempDir()
			var all []*soakWorker
			running := make([]*soakWorker, workers)
			begin := func(i int) {
				id := len(all)
				notes := filepath.Join(dir, strconv.Itoa(id))
				w := start(t, r, "soak", strconv.Itoa(id), notes, strconv.FormatUint(random.Uint64()>>1, 10))
				running[i] = &soakWorker{child: w, id: id, notes: notes}
				all = append(all, running[i])
			}
			for i := range workers {
				begin(i)
			}
			delivered := map[int][]uint64{}
			take := func(f ring.Frame) ring.Action {
				id, number, err := ringtest.Verify(f.Data)
				if assert.NoError(t, err) && assert.EqualValues(t, f.Meta, id) {
					delivered[int(id)] = append(delivered[int(id)], number)
				}
				return ring.Continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), *soakTime+time.Minute)
			defer cancel()
			// A worker is killed after as many more messages as chance says,
			// wherever it is then; and half of those that offer it from inside
			// a claim are killed there.
			received, killAt, inClaim := 0, 100, 0
			replace := func(i int) {
				running[i].kill()
				begin(i)
				killAt = received + random.IntN(3000)
			}
			for deadline := time.Now().Add(*soakTime / 2); time.Now().Before(deadline) || inClaim < 3; {
				require.NoError(t, ctx.Err(), "no progress")
				if err := c.WaitUntil(ctx, shm.Now()+int64(time.Millisecond)); err != nil {
					require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				}
				n, err := c.Poll(1+random.IntN(64), take)
				require.NoError(t, err)
				received += n
				if received >= killAt {
					replace(random.IntN(workers))
				}
				for i, w := range running {
					select {
					case _, ok := <-w.lines:
						require.True(t, ok, "a worker ended by itself")
						if random.IntN(2) == 0 {
							inClaim++
							replace(i)
						} else {
							w.tell("go on")
						}
					default:
					}
				}
			}
			for _, w := range running {
				w.kill()
			}
			end, err := r.Frontier()
			require.NoError(t, err)
			for c.Position() < end {
				_, err := c.Poll(100, take)
				require.NoError(t, err)
				require.NoError(t, ctx.Err(), "what was committed does not come")
			}
			var total, intended, acknowledged int
			for _, w := range all {
				intents, acks := readNotes(t, w.notes)
				got := delivered[w.id]
				for i, number := range got {
					if i > 0 {
						assert.Greater(t, number, got[i-1], "worker %d: out of order or twice", w.id)
					}
				}
				set := map[uint64]bool{}
				for _, number := range got {
					set[number] = true
					assert.True(t, intents[number], "worker %d: message %d was never sent", w.id, number)
				}
				for number := range acks {
					assert.True(t, set[number], "worker %d: message %d is lost", w.id, number)
				}
				total, intended, acknowledged = total+len(got), intended+len(intents), acknowledged+len(acks)
			}
			s := c.Stats()
			require.LessOrEqual(t, acknowledged, total)
			require.LessOrEqual(t, total, intended)
			st, err := r.Stats()
			require.NoError(t, err)
			t.Logf("%d workers killed; %d intended, %d delivered, %d acknowledged; %d claims skipped by the consumer, %d swept",
				len(all), intended, total, acknowledged, s.SkippedDead, st.Swept)
			assert.GreaterOrEqual(t, s.SkippedDead+st.Swept, uint64(inClaim), "each of them left an open claim")
		})
	}
}

func readNotes(t *testing.T, path string) (intents, acks map[uint64]bool) {
	t.Helper()
	intents, acks = map[uint64]bool{}, map[uint64]bool{}
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return intents, acks // killed before its first one
	}
	require.NoError(t, err)
	for ; len(b) >= 8; b = b[8:] {
		n := binary.NativeEndian.Uint64(b)
		if n&1 == noteAck {
			acks[n>>1] = true
		} else {
			intents[n>>1] = true
		}
	}
	return intents, acks
}
