package router

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"structs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/sender/codec"
)

func init() { roles["typed flood"] = typedFlood }

// cargo shows by itself whether it is torn.
type cargo struct {
	_    structs.HostLayout
	N    uint64
	Fill [300]uint64
	Full bool
	_    [3]byte
	Sum  uint32
}

func (c *cargo) fill(n uint64) {
	c.N, c.Full = n, true
	for i := range c.Fill {
		c.Fill[i] = n*31 + uint64(i)
	}
	c.Sum = c.sum()
}

func (c *cargo) sum() uint32 {
	return crc32.ChecksumIEEE(fmt.Append(nil, c.N, c.Fill, c.Full))
}

// parcel is cargo by JSON, long enough to be encoded in the ring.
type parcel struct {
	Cargo cargo
	Text  []string
}

var parcels = codec.WithSize(codec.JSON[parcel](), func(v *parcel) int { return 8000 + 12*len(v.Text) })

func (l *parcel) fill(n uint64) {
	l.Cargo.fill(n)
	l.Text = l.Text[:0]
	for i := range 7000 {
		l.Text = append(l.Text, fmt.Sprintf("%08d", n+uint64(i)))
	}
}

// typedFlood sends numbered values, and says the number after each, until it is killed.
func typedFlood(way string) error {
	s, err := sender.FromEnv()
	if err != nil {
		return err
	}
	if err := s.Start(); err != nil {
		return err
	}
	structs, jsons := sender.NewTyped(s, codec.MustStruct[cargo]()), sender.NewTyped(s, parcels)
	var c cargo
	var l parcel
	for n := uint64(0); ; n++ {
		switch way {
		case "struct":
			c.fill(n)
			err = structs.Send(background, &c)
		case "claim":
			var claim sender.TypedClaim[cargo]
			if claim, err = structs.Claim(background); err == nil {
				claim.Value().fill(n)
				err = claim.Commit()
			}
		case "in the ring":
			l.fill(n)
			err = jsons.Send(background, &l)
		}
		if errors.Is(err, sender.ErrRouterGone) {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Printf("%08d\n", n)
	}
}

// A worker that sends values is killed at random: what it had been told was sent arrives, in order and whole,
// and then the end.
func TestKillWhileSendingTyped(t *testing.T) {
	random := ringtest.Random(t)
	for _, c := range []struct {
		way  string
		most int // values before the kill
	}{{"struct", 100}, {"claim", 100}, {"in the ring", 20}} {
		way, most := c.way, c.most
		t.Run(way, func(t *testing.T) {
			guard(t)
			r := begin(t, WithCapacity(1<<20))
			for range 4 {
				s, rcv := pipe(t, r)
				delivered := uint64(0)
				check := func(c *cargo, m Message) {
					if c.N != delivered || !c.Full || c.Sum != c.sum() || m.Seq != delivered+1 {
						t.Errorf("value %d, message %d, after %d: torn or out of order", c.N, m.Seq, delivered)
					}
					delivered++
				}
				bad := func(e *DecodeError) { t.Error(e) }
				ended := make(chan error, 1)
				end := func(err error) { ended <- err }
				if way == "in the ring" {
					NewTyped(rcv, parcels).Handle(func(l *parcel, m Message) {
						check(&l.Cargo, m)
						if want := fmt.Sprintf("%08d", l.Cargo.N+6999); l.Text[6999] != want {
							t.Errorf("%s instead of %s", l.Text[6999], want)
						}
					}, bad, end)
				} else {
					NewTyped(rcv, codec.MustStruct[cargo]()).Handle(check, bad, end)
				}

				cmd := command(t, "typed flood", way)
				out, started := listen(t, cmd)
				w, err := r.Launch(cmd, s)
				started()
				must(t, err)
				acks := bufio.NewScanner(out)
				acked := uint64(0)
				for range 1 + random.IntN(most) {
					require.True(t, acks.Scan(), "no acknowledgement")
					acked++
				}
				must(t, w.Kill())
				for acks.Scan() && len(acks.Text()) == 8 {
					acked++
				}
				var died *PeerError
				if err := within(t, "end", ended); !errors.As(err, &died) {
					t.Fatalf("end: %v", err)
				}
				require.GreaterOrEqual(t, delivered, acked)
				must(t, rcv.Close())
			}
		})
	}
}
