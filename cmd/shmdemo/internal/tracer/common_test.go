package tracer

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCommon(t *testing.T) {
	at := func(pc uintptr, kind Kind, passes ...int) (points []Point) {
		for _, pass := range passes {
			points = append(points, Point{PC: pc, Kind: kind, Pass: pass, Last: pass == passes[len(passes)-1], Passes: pass})
		}
		return points
	}
	trace := func(steps int, parts ...[]Point) Trace {
		tr := Trace{Steps: steps, Distinct: steps}
		for _, p := range parts {
			tr.Points = append(tr.Points, p...)
		}
		return tr
	}
	bare := func(points []Point) (bare []Point) {
		for _, p := range points {
			p.Passes = 0
			bare = append(bare, p)
		}
		return bare
	}
	for name, c := range map[string]struct{ a, b, kept, dropped []Point }{
		"equal":                   {at(1, Instruction, 1, 2, 9), at(1, Instruction, 1, 2, 9), at(1, Instruction, 1, 2, 9), nil},
		"the smaller last pass":   {at(1, Instruction, 1, 2, 9), at(1, Instruction, 1, 2, 7), at(1, Instruction, 1, 2, 7), nil},
		"and the other way round": {at(1, Instruction, 1, 2, 7), at(1, Instruction, 1, 2, 9), at(1, Instruction, 1, 2, 7), nil},
		"the second is the last":  {at(1, Instruction, 1, 2, 7), at(1, Instruction, 1, 2), at(1, Instruction, 1, 2), nil},
		"once only":               {at(1, Instruction, 1), at(1, Instruction, 1, 2, 9), at(1, Instruction, 1), nil},
		"only in one":             {at(1, Instruction, 1, 2), nil, nil, []Point{{PC: 1, Pass: 1}, {PC: 1, Pass: 2}}},
		"only in the other":       {nil, at(1, Library, 4), nil, []Point{{PC: 1, Pass: 4, Kind: Library}}},
		"syscalls at other passes": {at(1, SyscallEntry, 1, 3), at(1, SyscallEntry, 1, 4), at(1, SyscallEntry, 1),
			append(at(1, SyscallEntry, 3), at(1, SyscallEntry, 4)...)},
		"kinds are kept apart": {at(1, SyscallExit, 1), at(1, InSyscall, 1), nil,
			append(at(1, SyscallExit, 1), at(1, InSyscall, 1)...)},
	} {
		t.Run(name, func(t *testing.T) {
			common := Common(trace(20, c.a), trace(10, c.b))
			require.Equal(t, 10, common.Steps)
			unlast := func(points []Point) (cleared []Point) {
				for _, p := range bare(points) {
					p.Last = false
					cleared = append(cleared, p)
				}
				return cleared
			}
			require.Equal(t, unlast(c.kept), unlast(common.Points))
			require.Equal(t, unlast(c.dropped), unlast(common.Dropped))
			if len(c.kept) > 0 && c.kept[0].Kind == Instruction {
				require.Equal(t, bare(c.kept), bare(common.Points), "which is the last")
			}
		})
	}
	one := trace(5, at(1, Instruction, 1, 2, 9))
	require.Equal(t, one.Points, Common(one).Points)
	require.Zero(t, Common())
	three := Common(trace(1, at(1, Instruction, 1, 2, 9)), trace(1, at(1, Instruction, 1, 2, 5)), trace(1, at(1, Instruction, 1, 2, 7)))
	require.Equal(t, bare(at(1, Instruction, 1, 2, 5)), bare(three.Points))
	require.Empty(t, three.Dropped)
	again := Common(three, trace(1, at(2, Instruction, 1)))
	require.Len(t, Common(again, one).Dropped, 3+1+3, "of earlier ones too")
}
