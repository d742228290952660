package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

var kills = flag.Int("kills", 150, "how many producers TestKilledAtRandom kills")

// workStress is what the driver does in C.
func workStress(r *ring.Ring, args []string) error {
	id, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil {
		return err
	}
	notes, err := os.OpenFile(args[1], os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	seed, err := strconv.ParseUint(args[2], 10, 64)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(seed, id))
	a, err := r.Attach()
	if err != nil {
		return err
	}
	p := a.NewProducer()
	for number := uint64(1); ; number++ {
		b := make([]byte, min(16+random.IntN(16<<random.IntN(10)), r.MaxFrame()))
		ringtest.Fill(b, uint32(id), number)
		if err := p.Send(context.Background(), b, id); err != nil {
			return err
		}
		if _, err := notes.Write(binary.NativeEndian.AppendUint64(nil, number)); err != nil {
			return err
		}
	}
}

// stressed is a producer with its notes of what was sent.
type stressed struct {
	*process
	id    int
	notes string
}

// Producers in C and one in Go send into a ring of 64 KiB, lap after lap, are killed anywhere (SIGKILL) and replaced.
// Each one's messages arrive whole, in order, once; all that it noted as sent, and at most the one more that it was
// about to note.
func TestKilledAtRandom(t *testing.T) {
	const inC, all = 3, 4
	path := ringtest.Path(t)
	r := newRing(t, path)
	c := ringtest.Consume(t, r)
	random := ringtest.Random(t)
	dir := t.TempDir()
	var ever []stressed
	running := make([]stressed, all)
	begin := func(i int) {
		s := stressed{id: len(ever), notes: filepath.Join(dir, strconv.Itoa(len(ever)))}
		args := []string{strconv.Itoa(s.id), s.notes, strconv.FormatUint(random.Uint64()>>1, 10)}
		if i < inC {
			s.process = startC(t, append([]string{"stress", path}, args...)...)
		} else {
			s.process = startGo(t, "stress", append([]string{path}, args...)...)
		}
		running[i], ever = s, append(ever, s)
	}
	for i := range all {
		begin(i)
	}
	delivered := map[uint32]uint64{} // the last of each
	var wrong error
	last := time.Now() // that something came
	take := func(f ring.Frame) ring.Action {
		id, number, err := ringtest.Verify(f.Data)
		switch {
		case err != nil:
			wrong = fmt.Errorf("at position %d, slot %d: %w", f.Position, f.Slot, err)
		case f.Meta != uint64(id):
			wrong = fmt.Errorf("message of %d with the meta value %d", id, f.Meta)
		case number != delivered[id]+1:
			wrong = fmt.Errorf("of producer %d message %d came behind %d", id, number, delivered[id])
		}
		if wrong != nil {
			return ring.Break
		}
		delivered[id] = number
		return ring.Continue
	}
	poll := func(limit int) int {
		n, err := c.Poll(limit, take)
		require.NoError(t, err)
		require.NoError(t, wrong)
		return n
	}
	ended := make(chan int, all)
	received, killAt, killed := 0, 0, 0
	for killed < *kills {
		if err := c.WaitUntil(ringtest.Context(t), shm.Now()+int64(time.Millisecond)); !errors.Is(err, os.ErrDeadlineExceeded) {
			require.NoError(t, err)
		}
		if n := poll(1 + random.IntN(64)); n > 0 {
			received, last = received+n, time.Now()
		}
		require.Less(t, time.Since(last), ringtest.Patience, "nothing comes")
		if received >= killAt && killAt >= 0 {
			i := random.IntN(all)
			if random.IntN(8) > 0 {
				i %= inC
			}
			require.NoError(t, running[i].cmd.Process.Kill())
			go func() { running[i].wait(); ended <- i }() // the others go on meanwhile
			killAt = -1
		}
		select {
		case i := <-ended:
			require.EqualError(t, running[i].wait(), "signal: killed")
			begin(i)
			killed++
			killAt = received + random.IntN(500)
		default:
		}
	}
	for _, s := range running {
		require.EqualError(t, s.kill(), "signal: killed")
	}
	end, err := r.Frontier()
	require.NoError(t, err)
	for ctx := ringtest.Context(t); c.Position() < end; poll(100) {
		require.NoError(t, ctx.Err(), "what was sent does not come")
	}
	unnoted := 0
	for _, s := range ever {
		b, err := os.ReadFile(s.notes)
		if !os.IsNotExist(err) { // killed before it had begun
			require.NoError(t, err)
		}
		sent := uint64(len(b) / 8)
		got := delivered[uint32(s.id)]
		require.GreaterOrEqual(t, got, sent, "producer %d noted more than arrived", s.id)
		require.LessOrEqual(t, got, sent+1, "producer %d", s.id)
		unnoted += int(got - sent)
	}
	heir := obedient(t, path, len(ever))
	defer heir.kill()
	require.Equal(t, "success", heir.ask("send 100 0"))
	requireNumbers(t, receive(t, c, 1), len(ever), 1, 1)

	st, err := r.Stats()
	require.NoError(t, err)
	s := c.Stats()
	laps := c.Position() / uint64(r.Capacity()/ring.Granule)
	require.Greater(t, laps, uint64(3))
	require.Positive(t, s.Pads)
	require.Positive(t, s.SkippedDead+st.Swept, "some were killed in a claim")
	t.Logf("%d killed; %d messages in %d laps, %d pads; claims skipped by the consumer %d, by the next holder %d; died between commit and note %d",
		len(ever), received, laps, s.Pads, s.SkippedDead, st.Swept, unnoted)
}
