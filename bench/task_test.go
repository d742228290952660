package bench

import (
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"golang.org/x/sys/unix"
)

const jobTest Job = "test"

func init() {
	RegisterTask(jobTest, func(p *Post, o Order) (Report, error) {
		var args struct{ Add float64 }
		if err := json.Unmarshal(o.Args, &args); err != nil {
			return Report{}, err
		}
		if _, err := p.File(FileRingUp); err != nil {
			return Report{}, err
		}
		if p.Receiver {
			if err := p.Ready(); err != nil {
				return Report{}, err
			}
		}
		if args.Add < 0 {
			return Report{}, errors.New("less than nothing")
		}
		sum, _ := p.Kept["sum"].(float64)
		sum += args.Add + float64(p.Index)
		p.Kept["sum"] = sum
		var set unix.CPUSet
		if err := unix.SchedGetaffinity(0, &set); err != nil {
			return Report{}, err
		}
		cpu := 0.0
		for !set.IsSet(int(cpu)) {
			cpu++
		}
		return Report{Figures: map[string]float64{"sum": sum, "cpu": cpu}}, nil
	})
}

func TestTask(t *testing.T) {
	first, second := TwoCPUs()
	second = max(first, second)
	for place, want := range map[Place][3]int{ // receiver, senders
		Apart:     {second, first, first},
		Together:  {first, first, first},
		Alternate: {second, first, second},
	} {
		c, err := StartCrew(CrewOptions{Senders: 2, Pinned: true, Place: place, RingOnly: true, Dir: os.TempDir()})
		require.NoError(t, err)
		defer c.Close()
		args := map[string]float64{"Add": 2}
		for round := 1.0; round < 3; round++ {
			got, sent, err := c.Perform(jobTest, jobTest, 2, args)
			require.NoError(t, err)
			require.EqualValues(t, want[0], got.Figures["cpu"])
			for i, s := range sent {
				require.Equal(t, round*(2+float64(i)), s.Figures["sum"], "kept from order to order")
				require.EqualValues(t, want[1+i], s.Figures["cpu"])
			}
		}
		if second != first {
			floor, err := c.Floor()
			require.NoError(t, err)
			require.Positive(t, floor)
		}
		args["Add"] = -1
		_, _, err = c.Perform(jobTest, jobTest, 2, args)
		require.ErrorContains(t, err, "less than nothing")
	}
}
