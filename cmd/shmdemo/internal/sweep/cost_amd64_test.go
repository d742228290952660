package sweep

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/tracer"
	"github.com/shmrouter/shmrouter/ring"
)

// What a send costs in instructions. A producer that has sent before sends costSends messages of a
// granule each, with room and nobody asleep: the usual way.
const costSends = 64

// The most instructions that one TrySend of 64 bytes may take, the copy's included, on average: a
// sixteenth of the sends moves the hint. It takes 203 by the compiler that this was written with; a
// tenth more is the compiler's business.
const costLimit = 225

func init() {
	cost := func(name string, cas bool) *operation {
		return &operation{
			name: name, at: midLap, cas: cas,
			setup: func(a *actor) error {
				if err := a.attach(2*costSends, ring.Granule); err != nil {
					return err
				}
				return a.sendMany()
			},
			run: func(a *actor) (outcome, error) { return ended(a.sendMany()) },
		}
	}
	operations = append(operations, cost("cost", false), cost("cost-cas", true))
}

func (a *actor) sendMany() error {
	for range costSends {
		if err := a.sending(a.tries); err != nil {
			return err
		}
	}
	return nil
}

// One locked instruction in a send, the claim's; where there are no barriers two. A claim that guessed
// wrong which word it replaces takes another: once here, where the words of an earlier lap end. Each is
// counted as it is executed, by single steps through the code as compiled.
func TestCostOfASend(t *testing.T) {
	for _, test := range []struct {
		operation string
		locked    map[string]int // by function
	}{
		{"cost", map[string]int{"send": 1}},
		{"cost-cas", map[string]int{"send": 1, "end": 1}},
	} {
		t.Run(test.operation, func(t *testing.T) {
			l, err := newLane(0, 1) // it belongs to this goroutine
			require.NoError(t, err)
			defer l.close()
			c := &try{mode: record, parts: []part{{op: operationNamed(test.operation)}}}
			var trace tracer.Trace
			err = l.run(c, func(c *try) { trace = c.trace })
			if errors.Is(err, ErrNotPermitted) {
				t.Skip(err)
			}
			require.NoError(t, err)
			require.Empty(t, c.findings)
			executed, locked := 0, map[string]int{}
			seen := map[uintptr]bool{}
			for _, p := range trace.Points {
				require.Equal(t, tracer.Instruction, p.Kind, "%v", p) // no call out of the library, none to the kernel
				if seen[p.PC] {
					continue
				}
				seen[p.PC] = true
				executed += p.Passes
				if isLocked(p.PC) {
					locked[p.Function[strings.LastIndex(p.Function, ".")+1:]] += p.Passes
				}
			}
			each := map[string]int{}
			for function, n := range locked {
				require.LessOrEqual(t, n%costSends, 1, function)
				each[function] = n / costSends
			}
			require.Equal(t, test.locked, each)
			t.Logf("%s: %.1f instructions, locked: %v", test.operation, float64(executed)/costSends, each)
			require.Less(t, float64(executed)/costSends, float64(costLimit))
			require.Greater(t, float64(executed)/costSends, 50.0, "the count has a hole")
		})
	}
}
