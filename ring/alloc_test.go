package ring_test

import (
	"context"
	"testing"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAllocations(t *testing.T) {
	ringtest.Each(t, func(t *testing.T, kind shm.Kind) {
		r := ringtest.New(t, kind, ringtest.Tiny)
		p, c := ringtest.Producer(t, r), ringtest.Consume(t, r)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		b := make([]byte, 300)
		batch := [][]byte{b, nil, b[:64]}
		meta := func(i int) uint64 { return uint64(i) }
		bytes := 0
		take := func(f ring.Frame) ring.Action {
			bytes += len(f.Data)
			return ring.Continue
		}
		// Each sends one record, which is then waited for and polled.
		for name, send := range map[string]func() error{
			"Send":     func() error { return p.Send(ctx, b, 1) },
			"TrySend":  func() error { return p.TrySend(b, 1) },
			"TryBatch": func() error { return p.TryBatch(batch, meta) },
			"TryClaim and Commit": func() error {
				claim, err := p.TryClaim(300, 1)
				if err != nil {
					return err
				}
				claim.Bytes()[0] = 1
				return claim.Commit()
			},
			"Claim and CommitN": func() error {
				claim, err := p.Claim(ctx, 300, 1)
				if err != nil {
					return err
				}
				return claim.CommitN(10)
			},
			"TryClaim and Abort": func() error {
				claim, err := p.TryClaim(300, 1)
				claim.Abort()
				return err
			},
		} {
			var failed error
			n := testing.AllocsPerRun(2000, func() {
				if err := send(); err != nil {
					failed = err
				}
				if name != "TryClaim and Abort" {
					if err := c.Wait(ctx); err != nil {
						failed = err
					}
				}
				if _, err := c.Poll(10, take); err != nil {
					failed = err
				}
			})
			require.NoError(t, failed, name)
			assert.Zero(t, n, name)
		}
		for {
			if p.TrySend(b, 0) != nil {
				break
			}
		}
		assert.Zero(t, testing.AllocsPerRun(1000, func() { p.TrySend(b, 0) }), "TrySend on a full ring")
		drain(t, c)
		assert.Zero(t, testing.AllocsPerRun(1000, func() { c.Poll(10, take) }), "Poll of an empty ring")
		assert.Zero(t, testing.AllocsPerRun(1000, func() { r.SlotInfo(1) }), "a look at a seat")
		assert.Positive(t, bytes)
	})
}
