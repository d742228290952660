package gap

import (
	"bytes"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCondense(t *testing.T) {
	const ms = int64(time.Millisecond)
	kill := 100 * ms
	// A message a millisecond; none from 3 ms before the kill to 7 ms after it, when 10 come at once; and a longer pause that has
	// nothing to do with it.
	var arrivals []arrival
	for at := int64(0); at < 300*ms; at += ms {
		switch since := at - kill; {
		case since > -3*ms && since < 7*ms, since > 20*ms && since < 35*ms:
		case since == 7*ms:
			arrivals = append(arrivals, arrival{at, 10})
		default:
			arrivals = append(arrivals, arrival{at, 1})
		}
	}
	d := condense(arrivals, kill, kill+6*ms)
	require.Equal(t, 10*ms, d.gap)
	require.Equal(t, 7*ms, d.resumed)
	require.Equal(t, 10, d.backlog)
	require.Equal(t, ms, d.quiet)
	require.Len(t, d.counts, binsBefore+binsAfter)
	sum := 0
	for i, n := range d.counts {
		sum += n
		switch at := int64(i)*int64(bin) - int64(before); {
		case at == 7*ms:
			require.Equal(t, 10, n)
		case at > -3*ms && at < 7*ms, at%ms != 0, at > 20*ms && at < 35*ms:
			require.Zero(t, n, "bin at %d", at)
		default:
			require.Equal(t, 1, n, "bin at %d", at)
		}
	}
	require.Equal(t, 60-9-14+9, sum)

	c := curveOf([]death{d, condense(arrivals, 250*ms, 250*ms), condense(arrivals, 250*ms, 250*ms)})
	require.Equal(t, -int64(before), c.At[0])
	require.Zero(t, c.Worst[binsBefore], "the longest gap is the first one's")
	require.Equal(t, 2000.0, c.Median[binsBefore])
	require.Zero(t, c.P10[binsBefore])
	require.Equal(t, Curve{Bin: int64(bin)}, curveOf(nil))
}

func message(seat, life int, n uint64) []byte {
	b := make([]byte, messageSize)
	binary.LittleEndian.PutUint32(b, uint32(seat))
	binary.LittleEndian.PutUint32(b[4:], uint32(life))
	binary.LittleEndian.PutUint64(b[8:], n)
	return b
}

// TestCheck has everything that may not arrive arrive.
func TestCheck(t *testing.T) {
	good := [][]byte{message(0, 1, 0), message(1, 1, 0), message(0, 1, 1), message(0, 2, 0), message(1, 1, 1)}
	for _, bad := range []struct {
		what string
		sent uint64 // by worker 0 in its first life
		msgs [][]byte
	}{
		{"", 2, good},
		{"message 3 where 2 was to come", 2, [][]byte{message(1, 1, 0), message(1, 1, 1), message(1, 1, 3)}},
		{"message 0 where 1 was to come", 2, [][]byte{message(1, 1, 0), message(1, 1, 0)}},
		{"2 messages of 3 have arrived", 3, good},
		{"message 1 of life 2", 2, append(good[:3:3], message(0, 2, 1))},
		{"message 2 of life 1", 2, append(good[:4:4], message(0, 1, 2))},
		{"from worker 2", 2, [][]byte{message(2, 1, 0)}},
		{"of 63 bytes", 2, [][]byte{message(0, 1, 0)[1:]}},
	} {
		c := &consumer{lives: make([]atomic.Uint64, 2), next: make([]uint64, 2)}
		for range 2 {
			c.seats = append(c.seats, seat{sent: new(atomic.Uint64)})
		}
		var err error
		for _, m := range bad.msgs {
			if m[0] == 0 && m[4] == 2 { // the first life is over
				c.seats[0].sent.Store(bad.sent)
			}
			err = errors.Join(err, c.check(m))
		}
		if bad.what == "" {
			require.NoError(t, err)
			require.Equal(t, []uint64{1, 2}, c.next)
		} else {
			require.ErrorContains(t, err, bad.what)
		}
	}
}

// TestPlotOfAnything draws what there is of a run that has not come far.
func TestPlotOfAnything(t *testing.T) {
	res := newResult(Config{Workers: 2, Kills: 3, Capacity: 1 << 20})
	res.finish(errors.New("a < b & c"), false)
	var empty, one bytes.Buffer
	require.NoError(t, res.Plot(&empty))
	res.add(death{counts: make([]int, binsBefore+binsAfter), gap: 5})
	res.finish(nil, true)
	require.NoError(t, res.Plot(&one))
	for _, b := range []*bytes.Buffer{&empty, &one} {
		text := b.String()
		require.NotContains(t, text, "NaN")
		require.NotContains(t, text, "Inf")
		for dec := xml.NewDecoder(strings.NewReader(text)); ; {
			if _, err := dec.Token(); err != nil {
				require.ErrorIs(t, err, io.EOF)
				break
			}
		}
	}
	require.Equal(t, 0, strings.Count(empty.String(), "<path"))
	require.Equal(t, 3, strings.Count(one.String(), "<path"))
}
