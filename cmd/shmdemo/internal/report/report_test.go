package report

import (
	"testing"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/stretchr/testify/require"
)

func TestNewTable(t *testing.T) {
	w := NewTable(2)
	w.AppendHeader(table.Row{"what", "count", "why"})
	w.AppendRow(table.Row{"a", 12345, "b"})
	w.AppendFooter(table.Row{"all", 7, "c"})
	require.Equal(t, "┌──────────────────┐\n│ what  count  why │\n├──────────────────┤\n│ a     12345  b   │\n├──────────────────┤\n│ all       7  c   │\n└──────────────────┘", w.Render())
}

func TestVerdict(t *testing.T) {
	require.Equal(t, "OK: all is well\n", Verdict([]string{}, true, "all is well", ", late", 5))
	require.Equal(t, "VIOLATION: a\nVIOLATION: b\nFAILED, late; to try again: --seed 5\n", Verdict([]string{"a", "b"}, false, "all is well", ", late", 5))
}
