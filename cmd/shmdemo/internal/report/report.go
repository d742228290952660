// Package report has what the printed results of the commands have in common.
package report

import (
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// NewTable returns a table with columns of numbers, from the second one to column last.
func NewTable(last int) table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Options.SeparateColumns = false
	t.Style().Format.Header = text.FormatDefault
	t.Style().Format.Footer = text.FormatDefault
	var numbers []table.ColumnConfig
	for n := 2; n <= last; n++ {
		numbers = append(numbers, table.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight, AlignFooter: text.AlignRight})
	}
	t.SetColumnConfigs(numbers)
	return t
}

// Verdict returns the lines below the tables: each violation, and what is to be said if all went well, or behind
// "FAILED", with the seed.
func Verdict[V any](violations []V, ok bool, good, bad string, seed uint64) string {
	var out strings.Builder
	for _, v := range violations {
		fmt.Fprintf(&out, "VIOLATION: %v\n", v)
	}
	if ok {
		fmt.Fprintf(&out, "OK: %s\n", good)
	} else {
		fmt.Fprintf(&out, "FAILED%s; to try again: --seed %d\n", bad, seed)
	}
	return out.String()
}
